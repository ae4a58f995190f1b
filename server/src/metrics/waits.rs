//! The histogram of waits, by budget and priority, with a trace for each bucket where one is known. Written here, since the metrics
//! library lets nobody make an exemplar from what was counted elsewhere.

use std::fmt::{self, Write};

use permitd_budget::{Priority, WAIT_BOUNDS_NANOS};

use super::budgets::{Figures, Seen};
use crate::config::priority_name;

const NAME: &str = "permitd_wait_seconds";
const NANOS_PER_SECOND: f64 = 1e9;

/// Writes the family in the OpenMetrics text format.
pub(super) fn write_waits(text: &mut String, seen: &Seen) -> fmt::Result {
    writeln!(text, "# HELP {NAME} How long those waited who were granted a permit.")?;
    writeln!(text, "# TYPE {NAME} histogram")?;
    writeln!(text, "# UNIT {NAME} seconds")?;
    for ((provider, key), figures) in &seen.figures {
        for (class, priority) in Priority::ALL.into_iter().enumerate() {
            let (provider, key) = (escaped(provider), escaped(key));
            let labels =
                format!("provider=\"{provider}\",key=\"{key}\",priority=\"{}\"", priority_name(priority));
            write_one(text, &labels, figures, class)?;
        }
    }
    Ok(())
}

fn write_one(text: &mut String, labels: &str, figures: &Figures, class: usize) -> fmt::Result {
    let waits = &figures.waits[class];
    let mut count = 0;
    for (at, in_bucket) in waits.counts.iter().enumerate() {
        count += in_bucket;
        let bound = WAIT_BOUNDS_NANOS.get(at).map(|nanos| *nanos as f64 / NANOS_PER_SECOND);
        // Bounds are floats in OpenMetrics: 1.0, not 1.
        let bound = bound.map_or_else(|| "+Inf".to_owned(), |seconds| format!("{seconds:?}"));
        write!(text, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {count}")?;
        if let Some(exemplar) = figures.exemplars.as_ref().and_then(|exemplars| exemplars.of(class, at)) {
            let (trace, waited) = (exemplar.trace_id, exemplar.waited.as_secs_f64());
            let granted = exemplar.at.as_nanos() as f64 / NANOS_PER_SECOND;
            write!(text, " # {{trace_id=\"{trace:032x}\"}} {waited:?} {granted:.3}")?;
        }
        text.push('\n');
    }
    writeln!(text, "{NAME}_sum{{{labels}}} {:?}", waits.sum_nanos as f64 / NANOS_PER_SECOND)?;
    writeln!(text, "{NAME}_count{{{labels}}} {count}")
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::escaped;

    /// Goal: a name cannot end its quotes.
    #[test]
    fn names_stay_in_their_quotes() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
