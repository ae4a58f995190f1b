//! What a run came to, for people and for machines.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use super::progress::Counts;
use crate::format::{grouped, rough};

/// A run that has ended.
#[derive(Debug)]
pub(super) struct Summary<'a> {
    pub(super) counts: Counts,
    pub(super) elapsed: Duration,
    pub(super) results: &'a Path,
    pub(super) errors: &'a Path,
    /// Whether every line of the input was seen to.
    pub(super) is_complete: bool,
}

impl Summary<'_> {
    pub(super) fn render(&self) -> String {
        let Counts {
            total, before, answered, failed, limited, repeated, input_tokens, output_tokens, ..
        } = self.counts;
        let of = if total > 0 { format!(" of {}", grouped(total)) } else { String::new() };
        let mut lines = vec![format!(
            "answered   {}{of}: {} now, {} before  {}",
            grouped(before + answered),
            grouped(answered),
            grouped(before),
            self.results.display()
        )];
        if failed > 0 {
            lines.push(format!("failed     {}  {}", grouped(failed), self.errors.display()));
        }
        if total > 0 && !self.is_complete {
            lines.push(format!("left       {}", grouped(total.saturating_sub(self.counts.done()))));
        }
        lines.push(format!("took       {}, {:.1} answers a second", rough(self.elapsed), self.per_second()));
        lines.push(format!("429s       {}; calls made again: {}", grouped(limited), grouped(repeated)));
        lines.push(format!("tokens     {} in, {} out", grouped(input_tokens), grouped(output_tokens)));
        lines.join("\n")
    }

    pub(super) fn json(&self) -> Value {
        let counts = &self.counts;
        json!({
            "complete": self.is_complete,
            "total": (counts.total > 0).then_some(counts.total),
            "answered": counts.answered,
            "answered_before": counts.before,
            "failed": counts.failed,
            "rate_limited": counts.limited,
            "repeated": counts.repeated,
            "input_tokens": counts.input_tokens,
            "output_tokens": counts.output_tokens,
            "seconds": self.elapsed.as_secs_f64(),
            "results": self.results.display().to_string(),
            "errors": self.errors.display().to_string(),
        })
    }

    fn per_second(&self) -> f64 {
        self.counts.answered as f64 / self.elapsed.as_secs_f64().max(0.001)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: people see what is left and where it stands, and machines the same figures.
    #[test]
    fn says_what_a_run_came_to() {
        let counts = Counts {
            total: 2_000,
            before: 500,
            answered: 1_000,
            failed: 10,
            limited: 3,
            ..Counts::default()
        };
        let (results, errors) = (Path::new("r.jsonl"), Path::new("r.errors.jsonl"));
        let elapsed = Duration::from_secs(20);
        let summary = Summary { counts, elapsed, results, errors, is_complete: false };
        let text = summary.render();
        for part in ["1,500 of 2,000: 1,000 now, 500 before  r.jsonl", "10  r.errors.jsonl", "left       490"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("took       20s, 50.0 answers a second"), "{text}");
        let json = summary.json();
        assert_eq!(
            (&json["answered"], &json["failed"], &json["complete"]),
            (&1_000.into(), &10.into(), &false.into())
        );
    }
}
