//! Whether a permit fits every limit that it touches, and if not, what is in the way. A permit takes from all of them or from none:
//! nothing here changes a level before everything fits.

use crate::{
    limit::{Limit, LimitSet, Rule, TICKS_PER_NANO_BITS, Ticks, members},
    meter::{Meter, Moment},
    request::{HeldBy, LimitPlace},
    tenant::Tenant,
    time::Time,
    usage::Amounts,
};

/// What is in the way of a request that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// A limit of the tenant's own, which no other tenant can be kept waiting by: until then; [`Time::MAX`] until a permit ends.
    Own { until: Time, by: usize },
    /// A limit that others share: a rate, until then.
    Rate { until: Time, by: usize },
    /// Every slot that it may use is taken.
    Slots { by: usize },
    /// There is enough, but more than has been set aside by a write.
    Store,
}

impl Obstacle {
    /// What a request that it was in the way of waits for.
    pub(crate) fn held_by(self) -> HeldBy {
        match self {
            Self::Own { by, .. } | Self::Rate { by, .. } | Self::Slots { by } => {
                HeldBy::Limit(LimitPlace::of(by))
            }
            Self::Store => HeldBy::Store,
        }
    }
}

/// How long a request would have to wait if it were alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alone {
    /// When the rates allow it.
    pub(crate) ready: Time,
    /// The limit that takes longest, if any takes time.
    pub(crate) binding: Option<usize>,
    /// A limit in flight that is full, which only its permits can end.
    pub(crate) full: Option<usize>,
}

/// Brings the meters up to now and says whether `amounts` fit all of them besides what is reserved.
pub(crate) fn fits(
    limits: &mut [Limit],
    tenant: &mut Tenant,
    set: LimitSet,
    amounts: &Amounts,
    now: Time,
) -> bool {
    let mut all = true;
    for at in members(set) {
        let Some((rule, meter)) = meter_of(limits, tenant, at) else { continue };
        meter.advance(now);
        // A cost of nothing fits only where there is no debt.
        let cost = rule.cost(amounts);
        all &= rule.gate.closed_until(now).is_none()
            && rule.need(meter, cost) + rule.reserved.now <= meter.available()
            && meter.escrow.covers(cost);
    }
    all
}

/// Takes `amounts` from every limit. Says whether it is time to write down what is left.
pub(crate) fn take(
    limits: &mut [Limit],
    tenant: &mut Tenant,
    set: LimitSet,
    amounts: &Amounts,
    moment: Moment,
) -> bool {
    let mut low = false;
    for at in members(set) {
        if let Some((rule, meter)) = meter_of(limits, tenant, at) {
            let cost = rule.cost(amounts);
            rule.note_grant(meter, cost, moment.time);
            meter.take(moment, cost);
            low |= meter.escrow.is_low();
        }
    }
    low
}

/// What is in the way of `amounts`, which do not fit now.
pub(crate) fn obstacle(
    limits: &mut [Limit],
    tenant: &mut Tenant,
    set: LimitSet,
    amounts: &Amounts,
    now: Time,
) -> Obstacle {
    // Each with the limit that it is by.
    let mut own: Option<(Time, usize)> = None;
    let mut rate: Option<(Time, usize)> = None;
    let mut slots: Option<usize> = None;
    for at in members(set) {
        let is_own = limits[at].is_own();
        let Some((rule, meter)) = meter_of(limits, tenant, at) else { continue };
        let need = rule.need(meter, rule.cost(amounts));
        if let Some(until) = rule.gate.closed_until(now) {
            later(&mut rate, until, at);
        }
        if need + rule.reserved.now <= meter.available() {
            continue;
        }
        // What those ahead leave does not grow before there is enough for them too. If there never is, they go first.
        let beside = need + rule.reserved.then;
        let ready = match rule.is_rate() && beside > meter.capacity() && beside > need {
            true => Some(if rule.reserved.until > now { rule.reserved.until } else { Time::MAX }),
            false => meter.ready_at(now, beside),
        };
        match (is_own, ready) {
            // Until a permit of the tenant ends is the longest of all.
            (true, ready) => later(&mut own, ready.unwrap_or(Time::MAX), at),
            (false, Some(ready)) => later(&mut rate, ready, at),
            (false, None) => slots = slots.or(Some(at)),
        }
    }
    match (own, rate) {
        (Some((until, by)), _) => Obstacle::Own { until, by },
        (None, Some((until, by))) => Obstacle::Rate { until, by },
        (None, None) => slots.map_or(Obstacle::Store, |by| Obstacle::Slots { by }),
    }
}

/// Of several limits the one that takes longest, and of those alike the first.
fn later(binding: &mut Option<(Time, usize)>, until: Time, at: usize) {
    if binding.is_none_or(|(known, _)| until > known) {
        *binding = Some((until, at));
    }
}

/// Asks for as much to be set aside as `amounts` take, of every limit: one that has enough now must not have less then.
pub(crate) fn want(limits: &mut [Limit], tenant: &mut Tenant, set: LimitSet, amounts: &Amounts) {
    for at in members(set) {
        if let Some((rule, meter)) = meter_of(limits, tenant, at) {
            meter.escrow.want(rule.cost(amounts));
        }
    }
}

/// Keeps back what a request that waits needs, so that those behind it do not make it wait longer: by the time at which it can go,
/// every limit has to have its part again. A request that a rate holds back takes no slot meanwhile.
pub(crate) fn reserve(limits: &mut [Limit], set: LimitSet, amounts: &Amounts, now: Time, obstacle: Obstacle) {
    for at in members(set) {
        let Limit { rule, meter: Some(meter) } = &mut limits[at] else { continue };
        let need = rule.need(meter, rule.cost(amounts));
        let (keep, until) = match obstacle {
            Obstacle::Rate { until, .. } if rule.is_rate() => {
                ((need - meter.gain_until(now, until)).max(0), until)
            }
            Obstacle::Slots { .. } | Obstacle::Store => (need, now),
            Obstacle::Rate { .. } | Obstacle::Own { .. } => continue,
        };
        // Where all of it comes back in time, those behind are not kept from anything.
        if keep > 0 {
            rule.reserved.now += keep;
            rule.reserved.then += need;
            rule.reserved.until = rule.reserved.until.max(until);
        }
    }
}

/// When `amounts` would fit if nobody else wanted anything, after `ahead` of service that others get first.
pub(crate) fn alone(
    limits: &mut [Limit],
    tenant: &mut Tenant,
    set: LimitSet,
    amounts: &Amounts,
    now: Time,
    ahead: Ticks,
) -> Alone {
    let mut alone = Alone { ready: now, binding: None, full: None };
    for at in members(set) {
        let Some((rule, meter)) = meter_of(limits, tenant, at) else { continue };
        meter.advance(now);
        let need = rule
            .need(meter, rule.cost(amounts))
            .saturating_add(rule.parts_in(meter, ahead >> TICKS_PER_NANO_BITS));
        let closed = rule.gate.closed_until(now).unwrap_or(now);
        match meter.ready_at(now, need).map(|ready| ready.max(closed)) {
            Some(ready) if ready > alone.ready => (alone.ready, alone.binding) = (ready, Some(at)),
            Some(_) => {}
            None => alone.full = Some(at),
        }
    }
    alone
}

/// Service in ticks of the limit that `amounts` take most of. Where only slots are bounded, every permit is worth the same.
pub(crate) fn dominant(limits: &[Limit], set: LimitSet, amounts: &Amounts) -> Ticks {
    const ONE_SLOT: Ticks = 1_000_000_000 << TICKS_PER_NANO_BITS;
    let mut rates = false;
    let most = members(set)
        .map(|at| &limits[at].rule)
        .filter(|rule| rule.is_rate())
        .inspect(|_| rates = true)
        .map(|rule| rule.ticks(rule.cost(amounts)))
        .max();
    if rates { most.unwrap_or(0) } else { ONE_SLOT }
}

/// The rule at a place, and the meter that counts for this tenant.
pub(crate) fn meter_of<'a>(
    limits: &'a mut [Limit],
    tenant: &'a mut Tenant,
    at: usize,
) -> Option<(&'a mut Rule, &'a mut Meter)> {
    let Limit { rule, meter } = &mut limits[at];
    let meter = match meter {
        Some(meter) => meter,
        None => tenant.meter(at)?,
    };
    Some((rule, meter))
}
