//! The part of every limit that a tenant is guaranteed. Each of its permits moves the moment from which it is due again by the permit's
//! worth in time of the limit, divided by the part. While it is due, it goes before every class and weight, which moves no tag of theirs:
//! what is left is shared as if there were no more. So with work waiting a tenant gets at least its part, what it leaves is lent to whoever
//! waits, and nothing is saved up for later. These are the reservations of Gulati, Merchant, Varman: "mClock", OSDI 2010.

use crate::{
    budget::Budget,
    limit::{Limit, LimitSet, members},
    spec::{GUARANTEED_PERCENT_MAX, TenantSpec},
    time::Time,
    usage::Amounts,
};

/// How far behind a tenant may be at most and still catch up; or by one permit's worth, if that is more.
const LATE_MAX_NANOS: u64 = 4_000_000_000;

/// What one tenant is guaranteed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guarantee {
    percent: u32,
    /// From then on it goes first.
    due: Time,
}

impl Guarantee {
    /// As declared; what a tenant that had one got of it stays.
    pub(crate) fn of(declared: TenantSpec, before: Option<Self>, now: Time) -> Option<Self> {
        let percent = declared.min_percent.min(GUARANTEED_PERCENT_MAX);
        (percent > 0).then(|| Self { percent, due: before.map_or(now, |before| before.due) })
    }

    /// The tenant had nobody waiting: what it left was lent, and is not owed.
    pub(crate) fn wakes(&mut self, now: Time) {
        self.due = self.due.max(now);
    }

    /// A permit of so much time of its limit is granted.
    pub(crate) fn serve(&mut self, now: Time, nanos: u64) {
        let step = self.step(nanos);
        let earliest = now.as_nanos().saturating_sub(LATE_MAX_NANOS.max(step));
        self.due = Time::from_nanos(self.due.as_nanos().max(earliest).saturating_add(step));
    }

    /// A permit that was granted for `charged` was worth `actual`.
    pub(crate) fn correct(&mut self, charged: u64, actual: u64) {
        let due = self.due.as_nanos();
        let due = due.saturating_sub(self.step(charged.saturating_sub(actual)));
        self.due = Time::from_nanos(due.saturating_add(self.step(actual.saturating_sub(charged))));
    }

    fn step(&self, nanos: u64) -> u64 {
        u64::try_from(u128::from(nanos) * 100 / u128::from(self.percent)).unwrap_or(u64::MAX)
    }

    /// Slots of a limit that has so many, at least one.
    fn slots(&self, amount: u64) -> u64 {
        u64::try_from(u128::from(amount) * u128::from(self.percent) / 100).unwrap_or(u64::MAX).max(1)
    }
}

impl<W: Clone> Budget<W> {
    /// The lane of a tenant that is due its part, if one is: of the tenant that has been for longest. Groups that are held are passed
    /// over.
    pub(crate) fn guaranteed_lane(&self, now: Time, held: &[u32]) -> Option<u32> {
        let due = |tenant: &&u32| self.tenants[**tenant].guarantee.is_some_and(|owed| owed.due <= now);
        let mut due: Vec<u32> = self.guaranteed.iter().filter(due).copied().collect();
        due.sort_by_key(|tenant| self.tenants[*tenant].guarantee.map(|owed| owed.due));
        let lanes = due.into_iter().flat_map(|tenant| {
            self.fair
                .order()
                .into_iter()
                .flat_map(move |class| &self.tenants[tenant].flows[class.index()].lanes)
        });
        lanes.copied().find(|lane| {
            !held.contains(&self.queue.lane(*lane).group)
                && !self.queue.is_parked(*lane)
                && self.has_slots_due(*lane)
        })
    }

    /// Whether the tenant of a lane holds less than its part of the slots that the lane's requests need.
    fn has_slots_due(&self, lane: u32) -> bool {
        let tenant = &self.tenants[self.queue.lane(lane).tenant];
        let shared = shared(&self.limits, self.queue.limits(lane)).filter(|limit| !limit.rule.is_rate());
        let mut amounts = shared.map(|limit| limit.rule.amount());
        tenant
            .guarantee
            .is_none_or(|owed| amounts.all(|amount| u64::from(tenant.in_flight) < owed.slots(amount)))
    }

    /// A permit of the tenant is granted; says what its guarantee is charged, if it has one.
    pub(crate) fn serve_guarantee(
        &mut self,
        now: Time,
        tenant: u32,
        set: LimitSet,
        charge: &Amounts,
    ) -> Option<u64> {
        self.tenants[tenant].guarantee?;
        let nanos = self.time_taken(set, charge);
        if let Some(owed) = &mut self.tenants[tenant].guarantee {
            owed.serve(now, nanos);
        }
        Some(nanos)
    }

    /// Nanoseconds of the limit that `charge` takes most of, at the rate that is granted now; nothing where only slots are bounded.
    pub(crate) fn time_taken(&self, set: LimitSet, charge: &Amounts) -> u64 {
        let rates = shared(&self.limits, set).map(|limit| &limit.rule).filter(|rule| rule.is_rate());
        let nanos = rates.map(|rule| {
            let units = u128::from(rule.weighed(rule.cost(charge))) * u128::from(rule.per_nanos());
            (units / u128::from(rule.amount().max(1))).min(rule.worth_most_nanos())
        });
        u64::try_from(nanos.max().unwrap_or(0)).unwrap_or(u64::MAX)
    }
}

/// Limits of a set that all tenants share: of those there is a part to be had.
fn shared(limits: &[Limit], set: LimitSet) -> impl Iterator<Item = &Limit> {
    members(set).map(|at| &limits[at]).filter(|limit| !limit.is_own())
}
