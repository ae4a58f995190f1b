//! A share in use: how it starts, and what it is made of.

use std::{collections::BTreeMap, time::Duration};

use permitd_budget::{
    Acquired, Adapt, Budget, BudgetSpec, CheckedSpec, Event, LimitSpec, Outcome, PermitKey, Priority,
    Request, Time, Usage, Window,
};
use permitd_proto::v1 as wire;

use crate::convert;

/// A share in use.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) provider: String,
    pub(super) key: String,
    pub(super) budget: Budget<u64>,
    /// Slots that stand for permits from before; each is freed as one of those ends.
    carried: Vec<PermitKey>,
    /// Permits from before for which there was no slot.
    over: u32,
}

impl Running {
    /// Empty, but for the slots of `carried` permits that are still held from before.
    pub(super) fn start(spec: &CheckedSpec, request: &wire::AcquireRequest, carried: u32, now: Time) -> Self {
        let mut budget = Budget::new(spec, now);
        drain(&mut budget, spec, now);
        let mut slots = Vec::new();
        let mut over = 0;
        for _ in 0..carried {
            match now_or_never(&mut budget, "", "default", now) {
                Some(slot) => slots.push(slot),
                None => over += 1,
            }
        }
        Self { provider: request.provider.clone(), key: request.key.clone(), budget, carried: slots, over }
    }

    /// A permit from before was reported: its slot is free, if it had one.
    pub(super) fn carried_ended(&mut self, now: Time, events: &mut Vec<Event<u64>>) {
        if self.over > 0 {
            self.over -= 1;
        } else if let Some(slot) = self.carried.pop() {
            self.budget.report(now, slot, &unused(), events);
        }
    }
}

/// Takes everything that a new budget holds: the narrow limits first, so that the wide ones, which they touch too, have just the rest to
/// give.
fn drain(budget: &mut Budget<u64>, spec: &CheckedSpec, now: Time) {
    let mut classes: Vec<(&str, &str)> =
        spec.limits.iter().map(|limit| (limit.models.as_str(), limit.tenants.as_str())).collect();
    classes.sort_by_key(|&(models, tenants)| (models.is_empty(), tenants.is_empty(), models, tenants));
    classes.dedup();
    for class in classes {
        let (model, tenant) = (some_match(class.0), some_match(class.1));
        let tenant = if tenant.is_empty() { "default" } else { &tenant };
        let Some(permit) = now_or_never(budget, &model, tenant, now) else { continue };
        let actual = levels(budget, class, now);
        let mut events = Vec::new();
        budget.report(now, permit, &permitd_budget::Report { actual, ..success() }, &mut events);
    }
}

/// What the limits of one class (models, tenants) hold.
fn levels(budget: &mut Budget<u64>, class: (&str, &str), now: Time) -> Usage {
    let mut usage = Usage { requests: Some(0), ..nothing() };
    let mut other: BTreeMap<String, u64> = BTreeMap::new();
    for limit in budget.snapshot(now).limits {
        let LimitSpec { unit, models, tenants, .. } = limit.configured;
        if (models.as_str(), tenants.as_str()) != class {
            continue;
        }
        let level = u64::try_from(limit.level).unwrap_or(0);
        let amount = match unit.as_str() {
            permitd_budget::REQUESTS => usage.requests.get_or_insert(0),
            permitd_budget::TOKENS => usage.tokens.get_or_insert(0),
            permitd_budget::INPUT_TOKENS => usage.input_tokens.get_or_insert(0),
            permitd_budget::OUTPUT_TOKENS => usage.output_tokens.get_or_insert(0),
            permitd_budget::IN_FLIGHT => continue,
            _ => other.entry(unit).or_default(),
        };
        *amount = (*amount).max(level);
    }
    usage.other = other.into_iter().map(|(unit, amount)| (unit.into(), amount)).collect();
    usage
}

/// A permit that costs nothing but its slot.
fn now_or_never(budget: &mut Budget<u64>, model: &str, tenant: &str, now: Time) -> Option<PermitKey> {
    let request = Request {
        tenant,
        model,
        priority: Priority::Standard,
        estimate: Usage { requests: Some(0), ..nothing() },
        count: 1,
        max_wait: Some(Duration::ZERO),
        gives_up: None,
        waiter: 0,
    };
    let mut events = Vec::new();
    match budget.acquire(now, request, &mut events) {
        Ok(Acquired::Granted(grant)) => Some(grant.permit),
        // With several reasons to look at a queue, a budget may answer by an event.
        Ok(Acquired::Waiting(_)) => events.into_iter().find_map(|event| match event {
            Event::Granted { grant, .. } => Some(grant.permit),
            Event::Refused { .. } | Event::Expired { .. } => None,
        }),
        Err(_) => None,
    }
}

fn nothing() -> Usage {
    Usage { tokens: Some(0), input_tokens: Some(0), output_tokens: Some(0), ..Usage::default() }
}

fn success() -> permitd_budget::Report {
    permitd_budget::Report::new(Outcome::Success)
}

/// Gives a slot back.
fn unused() -> permitd_budget::Report {
    permitd_budget::Report::new(Outcome::Cancelled)
}

/// A name that the glob matches.
fn some_match(glob: &str) -> String {
    glob.chars().filter(|c| *c != '*').map(|c| if c == '?' { 'x' } else { c }).collect()
}

/// A share's limits as the heart takes them, on the safe side: a limit for each tenant becomes one for all tenants of this client, and a
/// bound on what is in flight one for all models, since nobody knows which models the permits from before are for. A phase that is known
/// to the server is not kept, so that a fixed window is enforced as a sliding one, which holds for every phase.
pub(super) fn spec_of(limits: Vec<wire::Limit>) -> Option<CheckedSpec> {
    /// A guard is always in this process, so that its slot cannot be lost.
    const TTL: Duration = permitd_budget::bounds::PERMIT_TTL_MAX;
    let mut kept: Vec<LimitSpec> = Vec::with_capacity(limits.len());
    for limit in limits {
        let limit = limit_of(limit);
        match kept.iter_mut().find(|other| other.same_identity(&limit)) {
            Some(twin) if twin.amount > limit.amount => *twin = limit,
            Some(_) => {}
            None => kept.push(limit),
        }
    }
    if kept.is_empty() {
        return None;
    }
    BudgetSpec { limits: kept, permit_ttl: Some(TTL), ..BudgetSpec::default() }.check().ok()
}

fn limit_of(limit: wire::Limit) -> LimitSpec {
    let window = match limit.window() {
        wire::Window::Unspecified | wire::Window::Bucket => Window::Bucket,
        wire::Window::Fixed => Window::Fixed { phase: None },
        wire::Window::Sliding => Window::Sliding,
        wire::Window::Quantised => Window::Quantised {
            quantum: limit.quantum.map_or(permitd_budget::DEFAULT_QUANTUM, convert::duration),
        },
    };
    let in_flight = limit.unit == permitd_budget::IN_FLIGHT;
    LimitSpec {
        unit: limit.unit,
        amount: limit.amount,
        per: limit.per.map(convert::duration),
        burst: limit.burst,
        window,
        models: if in_flight { String::new() } else { limit.models },
        tenants: if in_flight || limit.tenants == "each" { String::new() } else { limit.tenants },
        adapt: Adapt::Refusals,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_nanos(1_000_000_000_000_000_000);
    const MINUTE: prost_types::Duration = prost_types::Duration { seconds: 60, nanos: 0 };

    fn limit(unit: &str, amount: u64, models: &str) -> wire::Limit {
        let per = (unit != permitd_budget::IN_FLIGHT).then_some(MINUTE);
        wire::Limit {
            unit: unit.to_owned(),
            amount,
            per,
            models: models.to_owned(),
            ..wire::Limit::default()
        }
    }

    fn start(limits: Vec<wire::Limit>, carried: u32) -> Running {
        let spec = spec_of(limits).expect("a sound share");
        Running::start(&spec, &wire::AcquireRequest::default(), carried, NOW)
    }

    /// Whatever the limits match and however they overlap, nothing is there to be granted at the start, and no limit starts deep in
    /// debt.
    #[test]
    fn every_limit_starts_empty() {
        let units = ["requests", "tokens", "input_tokens", "output_tokens", "points"];
        for window in
            [wire::Window::Bucket, wire::Window::Fixed, wire::Window::Sliding, wire::Window::Quantised]
        {
            let mut limits = vec![limit("in_flight", 3, "")];
            for unit in units {
                for (amount, models) in [(6_000, ""), (600, "claude-*"), (60, "gpt-?")] {
                    limits.push(wire::Limit { window: window as i32, ..limit(unit, amount, models) });
                }
            }
            for limit in start(limits, 2).budget.snapshot(NOW).limits {
                let wanted = if limit.configured.unit == "in_flight" { 1 } else { 0 };
                assert_eq!(limit.level, wanted, "{window:?}: {:?}", limit.configured);
            }
        }
    }

    /// Slots stand for permits from before, as many as the share has; the rest is counted.
    #[test]
    fn permits_from_before_take_slots() {
        let mut running = start(vec![limit("in_flight", 3, ""), limit("tokens", 60, "")], 5);
        assert_eq!((running.budget.in_flight(), running.over), (3, 2));
        for left in [3, 3, 2, 1, 0, 0] {
            running.carried_ended(NOW, &mut Vec::new());
            assert_eq!(running.budget.in_flight(), left);
        }
    }

    /// What the heart would refuse, or could not keep on the safe side, is made narrower.
    #[test]
    fn shares_are_read_on_the_safe_side() {
        let each = wire::Limit { tenants: "each".to_owned(), ..limit("tokens", 50, "") };
        let limits =
            vec![limit("tokens", 60, ""), each, limit("in_flight", 9, "a*"), limit("in_flight", 5, "b*")];
        let spec = spec_of(limits).expect("a sound share");
        let read: Vec<_> = spec.limits.iter().map(|limit| (limit.unit.as_str(), limit.amount)).collect();
        assert_eq!(read, [("tokens", 50), ("in_flight", 5)]);
        assert!(spec.limits.iter().all(|limit| limit.tenants.is_empty() && limit.models.is_empty()));
        assert!(spec_of(Vec::new()).is_none());
        assert!(spec_of(vec![limit("tokens", 0, "")]).is_none(), "it makes no sense");
    }
}
