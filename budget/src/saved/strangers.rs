//! Tenants of whom nothing was written down before a crash: each may have taken what was set aside for a stranger, so each starts
//! with that much less, for as long as it counts.

use crate::{
    limit::Rule,
    meter::{Meter, Moment},
    time::{Time, nanos},
};

/// What strangers owe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strangers {
    /// Units; `u64::MAX` for all there are.
    owed: u64,
    /// The restart, by when it was taken.
    since: Moment,
    /// When it counts no more.
    until: Time,
}

impl Rule {
    /// The meter of a tenant that was not known.
    pub(crate) fn newcomers_meter(&self, now: Time) -> Meter {
        let mut meter = match self.strangers.filter(|strangers| now < strangers.until) {
            Some(Strangers { owed, since, until }) => {
                let mut meter = Meter::new(&self.spec, since.time);
                meter.owe(owed, since, until);
                meter.advance(now);
                meter
            }
            None => Meter::new(&self.spec, now),
        };
        meter.escrow = self.fresh;
        meter
    }

    /// After a crash: strangers owe so much as of `since`. Permits have ended `ttl` later.
    pub(crate) fn let_strangers_owe(&mut self, owed: u64, since: Moment, end_of_permits: Time) {
        let until = match self.spec.per {
            Some(per) => since.time.plus_nanos(nanos(per)),
            None => end_of_permits,
        };
        self.strangers = (owed > 0).then_some(Strangers { owed, since, until });
    }

    pub(crate) fn owed_by_strangers(&self, now: Time) -> Option<(u64, Time)> {
        let strangers = self.strangers.filter(|strangers| now < strangers.until)?;
        Some((strangers.owed, strangers.until))
    }
}
