//! What this session's client may use by itself while no server can be reached: a budget's limits divided by the sessions that
//! use the budget, so that with every client inside its share nobody exceeds the whole.
//!
//! A client is told of limits that are for tenants which it may be, and of no others.
//!
//! A newcomer to a shared budget gets its share only once the others have had the time to hear of their smaller ones.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use foldhash::fast::RandomState;
use permitd_budget::{Adapt, BudgetSpec, CheckedSpec, LimitSpec, Time, Window};
use permitd_proto::v1::{Limit, LocalShare};

use super::outgoing::Outgoing;
use crate::{
    auth::Caller,
    cell::Cell,
    config::BudgetName,
    shared::Shared,
    wire::{budget, encode},
};

/// Budgets of which one session gets shares: the first ones that it uses.
const BUDGETS_MAX: usize = 64;
/// Between two looks at whether shares changed.
const INTERVAL: Duration = Duration::from_secs(2);
/// After which every session has had a look, and its client heard of it.
const SETTLED: Duration = Duration::from_secs(5);
/// The share of a budget in shadow mode, whose limits bound nobody: so many calls at once.
const SHADOW_IN_FLIGHT: u64 = 1_000_000;
/// A budget that was not asked for permits for so long is not used any more: its part goes to the others.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// The shares of one session.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    used: Vec<Used>,
    /// Where a cell stands in `used`, by its id.
    places: HashMap<u32, usize, RandomState>,
    next: Option<Time>,
}

#[derive(Debug)]
struct Used {
    cell: Arc<Cell>,
    sharing: Sharing,
    since: Time,
    /// Since the last look.
    asked: bool,
    /// When it was last seen to be asked, to within [`INTERVAL`].
    seen: Time,
    sent: Option<Sent>,
}

#[derive(Debug, PartialEq, Eq)]
struct Sent {
    divisor: u32,
    /// Of what was in force.
    spec: CheckedSpec,
    /// Before the client's share ends.
    renew: Time,
}

impl Shares {
    /// The session uses this budget; the first time, its share may go out at once.
    pub(super) fn used(&mut self, cell: &Arc<Cell>, shared: &Shared, caller: &Caller, out: &mut Outgoing) {
        if let Some(&known) = self.places.get(&cell.id()) {
            self.used[known].asked = true;
            return;
        }
        if self.used.len() >= BUDGETS_MAX {
            return;
        }
        let now = shared.clock.now();
        let sharing = Sharing::new(Arc::clone(cell));
        let mut used =
            Used { cell: Arc::clone(cell), sharing, since: now, asked: true, seen: now, sent: None };
        used.tell(now, shared.config.share_valid_for, caller, out);
        self.places.insert(cell.id(), self.used.len());
        self.used.push(used);
        self.next.get_or_insert(now + INTERVAL);
    }

    /// Sends what changed, and what would soon end.
    pub(super) fn tick(&mut self, now: Time, valid_for: Duration, caller: &Caller, out: &mut Outgoing) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        self.keep(|used| {
            if std::mem::take(&mut used.asked) {
                used.seen = now;
            }
            let idle = now.since(used.seen) >= IDLE_MAX;
            if idle {
                used.revoke(out);
            } else {
                used.tell(now, valid_for, caller, out);
            }
            !idle
        });
        self.next = (!self.used.is_empty()).then_some(now + INTERVAL);
    }

    /// When [`Shares::tick`] is next worth calling.
    pub(super) fn next_tick(&self) -> Option<Time> {
        self.next
    }

    /// The client may have heard of nothing: everything is sent again with the next tick. What it may not use any more is taken back.
    pub(super) fn begin_anew(&mut self, caller: &Caller, out: &mut Outgoing) {
        self.keep(|used| {
            used.sent = None;
            let may_use = caller.may_see(used.cell.name());
            if !may_use {
                used.send(Vec::new(), Duration::ZERO, out);
            }
            may_use
        });
        self.next = (!self.used.is_empty()).then_some(Time::ZERO);
    }

    fn keep(&mut self, is_kept: impl FnMut(&mut Used) -> bool) {
        self.used.retain_mut(is_kept);
        if self.used.len() < self.places.len() {
            let place = |(place, used): (usize, &Used)| (used.cell.id(), place);
            self.places = self.used.iter().enumerate().map(place).collect();
        }
    }
}

impl Used {
    fn tell(&mut self, now: Time, valid_for: Duration, caller: &Caller, out: &mut Outgoing) {
        let divisor = self.sharing.count();
        if self.sent.is_none() && divisor > 1 && now.since(self.since) < SETTLED {
            return;
        }
        let spec = self.cell.in_force().spec;
        let current = self
            .sent
            .as_ref()
            .is_some_and(|sent| sent.divisor == divisor && sent.spec.is(&spec) && now < sent.renew);
        if current {
            return;
        }
        // Nothing safe may be left. Whoever had a share has to know then.
        let Some(part) = divide(&spec, divisor) else { return self.revoke(out) };
        let limits = part.limits.iter().cloned().chain(part.caps());
        let limits = limits.filter(|limit| caller.may_be_one_of(&limit.tenants));
        let limits: Vec<Limit> = limits.map(|limit| budget::write_limit(&limit)).collect();
        // None bounds this client, and a share without limits would be none.
        if limits.is_empty() {
            return self.revoke(out);
        }
        self.send(limits, valid_for, out);
        self.sent = Some(Sent { divisor, spec, renew: now + valid_for / 2 });
    }

    /// Takes the share back, if the client has one.
    fn revoke(&mut self, out: &mut Outgoing) {
        if self.sent.take().is_some() {
            self.send(Vec::new(), Duration::ZERO, out);
        }
    }

    fn send(&self, limits: Vec<Limit>, valid_for: Duration, out: &mut Outgoing) {
        out.share(&LocalShare {
            provider: self.cell.name().provider().to_owned(),
            key: self.cell.name().key().to_owned(),
            limits,
            valid_for: Some(encode::duration(valid_for)),
        });
    }
}

/// Another server's share, as far as it is for the caller, whom that server does not know.
pub(super) fn passed(caller: &Caller, mut share: LocalShare) -> LocalShare {
    let may_use = BudgetName::new(&share.provider, &share.key).is_ok_and(|name| caller.may_see(&name));
    share.limits.retain(|limit| may_use && caller.may_be_one_of(&limit.tenants));
    if share.limits.is_empty() {
        share.valid_for = Some(encode::duration(Duration::ZERO));
    }
    share
}

/// Counts the session as a sharer of a budget until it is dropped.
#[derive(Debug)]
struct Sharing(Arc<Cell>);

impl Sharing {
    fn new(cell: Arc<Cell>) -> Self {
        cell.sharers().fetch_add(1, Ordering::Relaxed);
        Self(cell)
    }

    fn count(&self) -> u32 {
        self.0.sharers().load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.0.sharers().fetch_sub(1, Ordering::Relaxed);
    }
}

/// An equal part of every limit, rounded down; `None` if one of them rounds to nothing, since without it the others would
/// be no safe part.
fn divide(spec: &CheckedSpec, divisor: u32) -> Option<CheckedSpec> {
    let divisor = u64::from(divisor);
    if spec.shadow {
        let limits = vec![LimitSpec::in_flight(SHADOW_IN_FLIGHT)];
        return BudgetSpec { limits, ..BudgetSpec::default() }.check().ok();
    }
    let part = |limit: &LimitSpec| {
        let burst = match limit.burst {
            0 => 0,
            _ if limit.window != Window::Bucket || limit.per.is_none() => 0,
            burst => burst.checked_div(divisor).filter(|&burst| burst > 0)?,
        };
        let amount = limit.amount.checked_div(divisor).filter(|&amount| amount > 0)?;
        // A client enforces its share as it is: what the provider takes is for the server to learn.
        Some(LimitSpec { amount, burst, adapt: Adapt::Refusals, ..limit.clone() })
    };
    let limits = spec.limits.iter().map(part).collect::<Option<Vec<_>>>()?;
    BudgetSpec { limits, schedule: Vec::new(), ..BudgetSpec::clone(spec) }.check().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(limits: Vec<LimitSpec>) -> CheckedSpec {
        BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("a sound spec")
    }

    /// Goal: however many share, their parts together are within the whole; where nothing is left, nobody gets a part.
    #[test]
    fn parts_are_within_the_whole() {
        let minute = Duration::from_secs(60);
        let bursty = LimitSpec { burst: 10, ..LimitSpec::rate("tokens", 1_000, minute) };
        let slots = LimitSpec { adapt: Adapt::Latency, ..LimitSpec::in_flight(7) };
        let whole = spec(vec![LimitSpec::rate("requests", 60, minute), bursty, slots]);
        for divisor in 1..=7 {
            let part = divide(&whole, divisor).expect("something is left");
            for (part, whole) in part.limits.iter().zip(&whole.limits) {
                assert!(part.same_identity(whole) && part.adapt == Adapt::Refusals);
                assert!(part.amount * u64::from(divisor) <= whole.amount);
                assert!(part.burst * u64::from(divisor) <= whole.burst);
                assert_eq!(part.burst == 0, whole.burst == 0, "a burst of 0 would mean the whole amount");
            }
        }
        assert_eq!(divide(&whole, 8), None, "7 in flight among 8");
        let bursty = LimitSpec { burst: 3, ..LimitSpec::rate("tokens", 1_000, minute) };
        assert_eq!(divide(&spec(vec![bursty]), 4), None, "a burst of 3 among 4");
        let tried_out = BudgetSpec { shadow: true, ..BudgetSpec::clone(&whole) }.check().expect("sound");
        let part = divide(&tried_out, 8).expect("shadow mode bounds nobody");
        assert_eq!(part.limits, [LimitSpec::in_flight(SHADOW_IN_FLIGHT)]);
    }
}
