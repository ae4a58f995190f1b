//! How a unit is counted in a window, and when windows that follow a clock end.

use std::time::Duration;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use permitd_budget::{DEFAULT_QUANTUM, Time, Window};

use super::rules::{Units, choice};
use crate::config::read::{Table, duration, number, text};

/// The longest window that a clock divides into.
const DAY: Duration = Duration::from_secs(86_400);

/// How a unit is counted in a window, for limits of which nobody said more.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WindowRule {
    pub(crate) unit: String,
    pub(crate) per: Option<Duration>,
    pub(crate) window: Window,
    /// The clock by which a fixed window begins, if it follows one.
    pub(crate) aligned_to: Option<TimeZone>,
    /// What a bucket holds, in per cent of the amount.
    pub(crate) burst_percent: Option<u64>,
}

impl WindowRule {
    pub(super) fn read(mut table: Table<'_>, units: &Units<'_>) -> Option<Self> {
        let unit = table.need("unit", |value| units.check(&text(value)?));
        let per = table.need("per", duration);
        let kind = table.read("window", |value| {
            choice("window", &text(value)?, &["bucket", "sliding", "fixed", "quantised"])
        });
        let quantum = table.read("quantum", duration);
        let aligned_to = table.read("aligned_to", |value| zone(&text(value)?));
        let burst_percent = table.read("burst_percent", number);
        let kind = kind.unwrap_or("bucket");
        for (given, name, wanted) in [
            (quantum.is_some(), "quantum", "quantised"),
            (aligned_to.is_some(), "aligned_to", "fixed"),
            (burst_percent.is_some(), "burst_percent", "bucket"),
        ] {
            if given && kind != wanted {
                table.problem(format!("{name} goes with window = \"{wanted}\" only"));
            }
        }
        if burst_percent == Some(0) {
            table.problem("burst_percent = 0 would never grant".to_owned());
        }
        if aligned_to.is_some()
            && per.is_some_and(|per| per.is_zero() || !DAY.as_nanos().is_multiple_of(per.as_nanos()))
        {
            table.problem("per has to divide a day where windows follow a clock".to_owned());
        }
        table.finish();
        let window = match kind {
            "sliding" => Window::Sliding,
            "fixed" => Window::Fixed { phase: None },
            "quantised" => Window::Quantised { quantum: quantum.unwrap_or(DEFAULT_QUANTUM) },
            _ => Window::Bucket,
        };
        Some(Self { unit: unit?, per, window, aligned_to, burst_percent })
    }

    /// How long the window that `now` falls into still lasts, where windows follow a clock.
    pub(crate) fn ends_in(&self, now: Time) -> Option<Duration> {
        let (zone, per) = (self.aligned_to.clone()?, self.per?);
        let now = Timestamp::from_nanosecond(i128::from(now.as_nanos())).ok()?.to_zoned(zone);
        let midnight = now.start_of_day().ok()?;
        let tomorrow = midnight.checked_add(1.day()).ok()?.start_of_day().ok()?;
        let since = u128::try_from(now.timestamp().duration_since(midnight.timestamp()).as_nanos()).ok()?;
        let left = u128::try_from(tomorrow.timestamp().duration_since(now.timestamp()).as_nanos()).ok()?;
        // A day may have 23 or 25 hours; what is shorter than a day starts anew with it.
        let in_window = if per >= DAY { left } else { per.as_nanos() - since % per.as_nanos() };
        u64::try_from(in_window.min(left)).ok().map(Duration::from_nanos)
    }
}

fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name)
        .map_err(|_| format!("{name:?} is no time zone; write it like \"UTC\" or \"America/Los_Angeles\""))
}
