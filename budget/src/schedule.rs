//! Limits that are others at certain hours, as declared. Which hours it is now is for whoever knows days and places to say
//! ([`CheckedSpec::at_hours`]); the heart is told what is in force.

use crate::spec::{BudgetSpec, CheckedSpec, LimitSpec, SpecError, bounds, check_name};

/// Seconds of a day on which no clock is set.
pub const DAY_SECONDS: u32 = 86_400;

/// A limit that takes the place of the declared one of the same identity at certain hours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scheduled {
    /// When it does.
    pub hours: Hours,
    /// What is in force then.
    pub limit: LimitSpec,
}

/// Hours that come again every week, by the clocks of one place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hours {
    /// The days on which they begin, Monday first.
    pub days: [bool; 7],
    /// When they begin, in seconds of the day.
    pub from: u32,
    /// When they end, in seconds of the day, up to [`DAY_SECONDS`]; on the next day if that is before they begin.
    pub to: u32,
    /// The place, by its name in the time zone database: `Europe/Berlin`.
    pub zone: String,
}

impl CheckedSpec {
    /// The declaration with the limits that are in force while `are_now` says which hours it is; of several for one limit, the first.
    #[must_use]
    pub fn at_hours(&self, are_now: impl Fn(&Hours) -> bool) -> Self {
        let mut in_force = self.clone();
        in_force.replace_limits(|limit| {
            let other = |entry: &&Scheduled| entry.limit.same_identity(limit) && are_now(&entry.hours);
            self.schedule.iter().find(other).map(|entry| entry.limit.clone())
        });
        in_force
    }
}

impl BudgetSpec {
    pub(crate) fn check_schedule(&self) -> Result<(), SpecError> {
        let entries = self.schedule.len();
        if entries > bounds::SCHEDULED {
            let problem = format!("{entries} entries; a budget has at most {}", bounds::SCHEDULED);
            return Err(SpecError::new("schedule", problem));
        }
        for (at, entry) in self.schedule.iter().enumerate() {
            let at = format!("schedule[{at}]");
            entry.limit.check(&format!("{at}.limit"))?;
            entry.hours.check(&format!("{at}.hours"))?;
            if !self.limits.iter().any(|limit| limit.same_identity(&entry.limit)) {
                let problem = format!(
                    "no limit of {} is declared that it could take the place of; declare what holds at other hours",
                    entry.limit
                );
                return Err(SpecError::new(format!("{at}.limit"), problem));
            }
        }
        Ok(())
    }
}

impl Hours {
    fn check(&self, at: &str) -> Result<(), SpecError> {
        let error = |problem: &str| Err(SpecError::new(at, problem));
        check_name(&format!("{at}.zone"), &self.zone, false)?;
        if !self.days.contains(&true) {
            return error("no day of the week");
        }
        if self.from >= DAY_SECONDS || self.to > DAY_SECONDS {
            return error("a day ends at 24:00");
        }
        if self.from == self.to {
            return error("they end when they begin; a whole day is 00:00-24:00");
        }
        Ok(())
    }
}
