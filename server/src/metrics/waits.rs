//! The histograms of waits, by budget and priority, with a trace for each bucket where one is known. Written here, since the metrics
//! library lets nobody make an exemplar from what was counted elsewhere.

use std::fmt::{self, Write};

use permitd_budget::{Priority, WAIT_BOUNDS_NANOS, Waits};

use super::budgets::Seen;
use crate::{
    cell::{Exemplar, Exemplars},
    config::priority_name,
};

const NANOS_PER_SECOND: f64 = 1e9;

/// Writes the families in the OpenMetrics text format.
pub(super) fn write_waits(text: &mut String, seen: &Seen) -> fmt::Result {
    let family =
        Family { name: "permitd_wait_seconds", of: "How long those waited who were granted a permit." };
    family.begin(text)?;
    for ((provider, key), figures) in &seen.figures {
        family.write(text, (provider, key), &figures.waits, figures.exemplars.as_ref())?;
    }
    let of = "How long those would have waited whom limits in shadow mode would have granted a permit.";
    let family = Family { name: "permitd_shadow_wait_seconds", of };
    family.begin(text)?;
    for ((provider, key), figures) in &seen.figures {
        if let Some(would) = &figures.shadow {
            family.write(text, (provider, key), &would.waits, None)?;
        }
    }
    Ok(())
}

/// A histogram for each budget and priority.
struct Family {
    name: &'static str,
    of: &'static str,
}

impl Family {
    fn begin(&self, text: &mut String) -> fmt::Result {
        let Self { name, of } = self;
        writeln!(text, "# HELP {name} {of}\n# TYPE {name} histogram\n# UNIT {name} seconds")
    }

    fn write(
        &self,
        text: &mut String,
        (provider, key): (&str, &str),
        waits: &[Waits; Priority::ALL.len()],
        exemplars: Option<&Exemplars>,
    ) -> fmt::Result {
        let (provider, key) = (escaped(provider), escaped(key));
        for (class, priority) in Priority::ALL.into_iter().enumerate() {
            let labels =
                format!("provider=\"{provider}\",key=\"{key}\",priority=\"{}\"", priority_name(priority));
            self.write_class(text, &labels, &waits[class], |bucket| exemplars?.of(class, bucket))?;
        }
        Ok(())
    }

    fn write_class<'a>(
        &self,
        text: &mut String,
        labels: &str,
        waits: &Waits,
        exemplar: impl Fn(usize) -> Option<&'a Exemplar>,
    ) -> fmt::Result {
        let name = self.name;
        let mut count = 0;
        for (at, in_bucket) in waits.counts.iter().enumerate() {
            count += in_bucket;
            let bound = WAIT_BOUNDS_NANOS.get(at).map(|nanos| *nanos as f64 / NANOS_PER_SECOND);
            // Bounds are floats in OpenMetrics: 1.0, not 1.
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |seconds| format!("{seconds:?}"));
            write!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}")?;
            if let Some(exemplar) = exemplar(at) {
                let (trace, waited) = (exemplar.trace_id, exemplar.waited.as_secs_f64());
                let granted = exemplar.at.as_nanos() as f64 / NANOS_PER_SECOND;
                write!(text, " # {{trace_id=\"{trace:032x}\"}} {waited:?} {granted:.3}")?;
            }
            text.push('\n');
        }
        writeln!(text, "{name}_sum{{{labels}}} {:?}", waits.sum_nanos as f64 / NANOS_PER_SECOND)?;
        writeln!(text, "{name}_count{{{labels}}} {count}")
    }
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
