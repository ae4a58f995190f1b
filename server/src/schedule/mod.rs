//! Limits by the hours of the week: what of a declaration is in force at a moment, which follows from the two alone. So a restart, a
//! clock that is set and a budget that moves to another server need nothing of their own.

mod follow;
mod hours;

use jiff::{SignedDuration, Timestamp};
use permitd_budget::{CheckedSpec, Hours};

pub(crate) use follow::follow;
pub use hours::{HoursText, ScheduledText, parse_hours, parse_scheduled};

/// After so long, whatever is in force is looked at again, for the sake of a clock that is set.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_hours(24 * 400);

/// What of a declaration is in force, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The declaration with the limits of these hours.
    pub spec: CheckedSpec,
    /// When it was looked at.
    pub from: Timestamp,
    /// When it ends, though perhaps by what is the same.
    pub until: Timestamp,
    /// The hours that it is.
    pub hours: Vec<Hours>,
}

impl InForce {
    /// What of `declared` is in force at `now`.
    #[must_use]
    pub fn at(declared: &CheckedSpec, now: Timestamp) -> Self {
        if declared.schedule.is_empty() {
            return Self { spec: declared.clone(), from: now, until: Timestamp::MAX, hours: Vec::new() };
        }
        let mut hours: Vec<Hours> = Vec::new();
        for entry in declared.schedule.iter().filter(|entry| hours::are_now(&entry.hours, now)) {
            if !hours.contains(&entry.hours) {
                hours.push(entry.hours.clone());
            }
        }
        let edges = declared.schedule.iter().filter_map(|entry| hours::next_edge(&entry.hours, now));
        let again = now.saturating_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX);
        let spec = declared.at_hours(|entry| hours.contains(entry));
        Self { spec, from: now, until: edges.min().unwrap_or(again), hours }
    }

    /// Whether it says what is in force at `now`: neither over, nor from a later time than it is now.
    #[must_use]
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.spec.schedule.is_empty() || (self.from <= now && now < self.until)
    }
}

/// What is in force from `now` on until `until`, one after the other; at most `most` of them.
#[must_use]
pub fn course(declared: &CheckedSpec, now: Timestamp, until: Timestamp, most: usize) -> Vec<InForce> {
    let mut course: Vec<InForce> = Vec::new();
    let mut next = now;
    while next < until && course.len() < most {
        let in_force = InForce::at(declared, next);
        next = in_force.until;
        match course.last_mut() {
            Some(last) if last.spec.limits == in_force.spec.limits => last.until = in_force.until,
            _ => course.push(in_force),
        }
    }
    course
}

/// Now, by the clock that people set.
pub(crate) fn wall() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use permitd_budget::{BudgetSpec, LimitSpec};

    use super::*;

    fn declared(schedule: &[&str]) -> CheckedSpec {
        let limits = vec![LimitSpec::rate("requests", 60, Duration::from_secs(60)), LimitSpec::in_flight(5)];
        let schedule = schedule.iter().map(|text| parse_scheduled(text).expect(text)).collect();
        BudgetSpec { limits, schedule, ..BudgetSpec::default() }.check().expect("sound")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn amounts(in_force: &InForce) -> [u64; 2] {
        [in_force.spec.limits[0].amount, in_force.spec.limits[1].amount]
    }

    /// Goal: of several entries for one limit the first that holds counts, and limits that none names are as declared.
    #[test]
    fn the_first_entry_counts() {
        let declared = declared(&[
            "sat 00:00-24:00 UTC requests=7/1m",
            "22:00-06:00 UTC requests=600/1m",
            "22:00-06:00 UTC in_flight=50",
        ]);
        let thursday = InForce::at(&declared, at("2026-03-05T12:00:00Z"));
        assert_eq!((amounts(&thursday), thursday.until), ([60, 5], at("2026-03-05T22:00:00Z")));
        assert_eq!(amounts(&InForce::at(&declared, thursday.until)), [600, 50]);
        let saturday = InForce::at(&declared, at("2026-03-07T03:00:00Z"));
        assert_eq!((amounts(&saturday), saturday.hours.len()), ([7, 50], 2));
        assert!(
            saturday.holds_at(at("2026-03-07T05:59:59Z")) && !saturday.holds_at(at("2026-03-07T06:00:00Z"))
        );
        assert!(!saturday.holds_at(at("2026-03-07T02:59:59Z")), "a clock that was set back");
    }

    /// Goal: a course has no gaps, and what follows differs from what was before.
    #[test]
    fn a_course_is_without_gaps() {
        let declared = declared(&["mon-fri 09:00-17:00 Europe/Berlin requests=30/1m"]);
        let now = at("2026-03-27T12:00:00Z");
        let course = course(&declared, now, now + SignedDuration::from_hours(24 * 7), 100);
        assert_eq!(course.len(), 11);
        assert!(course.windows(2).all(|pair| pair[0].until == pair[1].from));
        assert!(course.windows(2).all(|pair| amounts(&pair[0]) != amounts(&pair[1])));
        // Clocks are set on the weekend between.
        assert_eq!(course[0].until, at("2026-03-27T16:00:00Z"));
        assert_eq!(course[1].until, at("2026-03-30T07:00:00Z"));
    }
}
