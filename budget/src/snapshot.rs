//! A look at a whole budget.

use std::{cmp::Reverse, time::Duration};

use crate::{
    budget::Budget,
    feedback::Lesson,
    limit::Source,
    meter::Meter,
    outcome::Outcome,
    request::Priority,
    shadow::ShadowSnapshot,
    spec::LimitSpec,
    tally::{LimitTally, Waits},
    tenant::Tenant,
    time::Time,
};

/// Tenants that one look tells. Callers make up names, and a look has to fit a message whatever they do.
pub const TENANTS_TOLD: usize = 1_000;

/// A budget at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// In the order declared, then learned ones.
    pub limits: Vec<LimitSnapshot>,
    /// Requests in the queue; a request for several permits is one.
    pub waiting: u32,
    /// Unreported permits.
    pub in_flight: u32,
    /// Whether an administrator paused it.
    pub paused: bool,
    /// Whether the provider said that its quota is used up: nothing is granted before a reset.
    pub exhausted: bool,
    /// When the quota is there again, if that is known.
    pub exhausted_until: Option<Time>,
    /// Tenants with something to tell, by name; of more than [`TENANTS_TOLD`] those that wait, those that have permits, those that are
    /// declared, and those that were granted most, in this order.
    pub tenants: Vec<TenantSnapshot>,
    /// Permits ever granted.
    pub granted_total: u64,
    /// Requests ever refused.
    pub refused_total: u64,
    /// The same by the wire's name of the reason, sorted; only those that happened.
    pub refused: Vec<(&'static str, u64)>,
    /// Reports of a refusal by the provider for rate.
    pub rate_limited_total: u64,
    /// Reports that settled a permit or came too late to, by [`Outcome::index`].
    pub outcomes: [u64; Outcome::NAMES.len()],
    /// Permits that ended without a report.
    pub expired_total: u64,
    /// How often the whole budget was frozen; a burst of refusals counts once.
    pub freezes_total: u64,
    /// How long those waited who were granted something, by class in the order of [`Priority::ALL`].
    pub waits: [Waits; Priority::ALL.len()],
    /// What it would have done; `None` unless it is in shadow mode.
    pub shadow: Option<ShadowSnapshot>,
}

/// One limit at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSnapshot {
    /// As declared.
    pub configured: LimitSpec,
    /// What feedback has taught; the declared amount where nothing did.
    pub effective_amount: u64,
    /// What could be granted now, rounded down, without freeze and cushion; negative means in debt. For `each`, the least
    /// tenant's.
    pub level: i64,
    /// What the level is when nothing is taken: the burst, or a quantum's part, of the effective amount.
    pub capacity: u64,
    /// No grant before then.
    pub frozen_until: Option<Time>,
    /// Who says that there is such a limit.
    pub source: Source,
    /// What taught the effective amount, and when; `None` where all that is declared is granted.
    pub lesson: Option<Lesson>,
    /// What calls take when no more run than the provider carries, where the limit follows that and it is known.
    pub usual_latency: Option<Duration>,
    /// What the provider's headers said last.
    pub told: Option<u64>,
    /// Units that are kept back of a burst.
    pub cushion: u64,
    /// How often it was frozen; a burst of refusals counts once.
    pub freezes_total: u64,
    /// What became of what permits took of it.
    pub tally: LimitTally,
}

/// One tenant at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSnapshot {
    /// Its name.
    pub tenant: String,
    /// Its requests in the queue.
    pub waiting: u32,
    /// Its unreported permits.
    pub in_flight: u32,
    /// Permits ever granted to it.
    pub granted_total: u64,
}

impl<W: Clone> Budget<W> {
    /// A look at everything. Takes time in proportion to limits and tenants.
    #[must_use]
    pub fn snapshot(&mut self, now: Time) -> Snapshot {
        let now = self.now.max(now);
        let limits = (0..self.limits.len()).map(|at| self.limit_snapshot(at, now)).collect();
        let mut tenants = self.tenants_told();
        tenants.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        Snapshot { limits, tenants, ..self.outline(now) }
    }

    /// All tenants, or the busiest of them.
    fn tenants_told(&self) -> Vec<TenantSnapshot> {
        let mut tenants: Vec<_> = self.tenants.iter().collect();
        if tenants.len() > TENANTS_TOLD {
            let declared = &self.spec.tenants;
            let mut by_use: Vec<_> = tenants
                .into_iter()
                .map(|(name, tenant)| {
                    let Tenant { waiting, in_flight, granted_total, .. } = *tenant;
                    let busy = (waiting, in_flight, declared.contains_key(name), granted_total);
                    ((Reverse(busy), name), (name, tenant))
                })
                .collect();
            by_use.select_nth_unstable_by(TENANTS_TOLD, |(one, _), (other, _)| one.cmp(other));
            by_use.truncate(TENANTS_TOLD);
            tenants = by_use.into_iter().map(|(_, tenant)| tenant).collect();
        }
        let told = |(name, tenant): (&str, &Tenant)| TenantSnapshot {
            tenant: name.to_owned(),
            waiting: tenant.waiting,
            in_flight: tenant.in_flight,
            granted_total: tenant.granted_total,
        };
        tenants.into_iter().map(told).collect()
    }

    /// The same without its limits and its tenants, however many there are.
    #[must_use]
    pub fn outline(&mut self, now: Time) -> Snapshot {
        let now = self.now.max(now);
        let exhausted = self.feedback.exhausted(now);
        let mut refused = self.tally.refused().to_vec();
        refused.sort_unstable();
        Snapshot {
            limits: Vec::new(),
            waiting: self.waiting(),
            in_flight: self.in_flight(),
            paused: self.paused,
            exhausted: exhausted.is_some(),
            exhausted_until: exhausted.flatten(),
            tenants: Vec::new(),
            granted_total: self.tally.granted,
            refused_total: refused.iter().map(|(_, times)| times).sum(),
            refused,
            rate_limited_total: self.tally.outcomes[Outcome::RateLimited.index()],
            outcomes: self.tally.outcomes,
            expired_total: self.tally.expired,
            freezes_total: self.feedback.gate.freezes(),
            waits: self.tally.waits.clone(),
            shadow: self.shadow.as_mut().map(|shadow| shadow.snapshot(now)),
        }
    }

    fn limit_snapshot(&mut self, at: usize, now: Time) -> LimitSnapshot {
        let level = |meter: &mut Meter| {
            meter.advance(now);
            meter.level()
        };
        let limit = &mut self.limits[at];
        let capacity = match &limit.meter {
            Some(meter) => meter.capacity_units(),
            None => limit.rule.effective_meter(now).capacity_units(),
        };
        let full = i64::try_from(capacity).unwrap_or(i64::MAX);
        let level = match &mut limit.meter {
            Some(meter) => level(meter),
            None => self
                .tenants
                .iter_mut()
                .filter_map(|(_, tenant)| tenant.meter(at).map(level))
                .min()
                .unwrap_or(full),
        };
        let rule = &self.limits[at].rule;
        LimitSnapshot {
            configured: rule.configured(),
            effective_amount: rule.amount(),
            level,
            capacity,
            frozen_until: rule.gate.frozen(now).max(self.feedback.gate.frozen(now)),
            source: rule.source,
            lesson: rule.lesson(),
            usual_latency: rule.gradient.as_ref().and_then(|gradient| gradient.usual_latency()),
            told: rule.told,
            cushion: rule.kept_back(),
            freezes_total: rule.gate.freezes(),
            tally: rule.tally,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Acquired, BudgetSpec, LimitSpec, Report, Request, TenantSpec, Usage, Window};

    fn ask() -> Request<'static, ()> {
        let (priority, estimate) = (Priority::Standard, Usage::default());
        Request {
            tenant: "t",
            model: "",
            priority,
            estimate,
            count: 1,
            max_wait: None,
            gives_up: None,
            waiter: (),
        }
    }

    /// Goal: an exhausted quota is seen until its reset, or until an administrator resumes the budget.
    #[test]
    fn shows_an_exhausted_quota() {
        let spec = BudgetSpec::default().check().expect("makes sense");
        let seen = |budget: &mut Budget<()>, now| {
            let snapshot = budget.snapshot(now);
            (snapshot.exhausted, snapshot.exhausted_until)
        };
        let (now, hour) = (Time::ZERO, Duration::from_secs(3_600));
        for retry_after in [Some(hour), None] {
            let mut budget = Budget::new(&spec, now);
            assert_eq!(seen(&mut budget, now), (false, None));
            let Ok(Acquired::Granted(grant)) = budget.acquire(now, ask(), &mut Vec::new()) else {
                panic!("nothing is in the way");
            };
            let report = Report { retry_after, ..Report::new(Outcome::QuotaExhausted) };
            budget.report(now, grant.permit, &report, &mut Vec::new());
            assert_eq!(seen(&mut budget, now), (true, retry_after.map(|wait| now + wait)));
            assert_eq!(seen(&mut budget, now + hour), (retry_after.is_none(), None), "{retry_after:?}");
            budget.resume(now + hour, &mut Vec::new());
            assert_eq!(seen(&mut budget, now + hour), (false, None));
        }
    }

    /// Goal: of a limit of which nothing is taken all is there, whatever it holds at once.
    #[test]
    fn an_idle_limit_is_at_its_capacity() {
        let minute = Duration::from_secs(60);
        let per_minute = || LimitSpec::rate("requests", 60, minute);
        let burst = LimitSpec { burst: 10, ..per_minute() };
        let quantised = LimitSpec {
            window: Window::Quantised { quantum: minute / 12 },
            ..LimitSpec::rate("tokens", 600, minute)
        };
        let each =
            LimitSpec { tenants: "each".to_owned(), burst: 90, ..LimitSpec::rate("points", 60, minute) };
        for (limits, capacities) in
            [(vec![burst, quantised, each, LimitSpec::in_flight(4)], vec![10, 50, 90, 4]), (vec![], vec![10])]
        {
            let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense");
            let limits = Budget::<()>::new(&spec, Time::ZERO).snapshot(Time::ZERO).limits;
            let seen: Vec<_> = limits.iter().map(|limit| (limit.capacity, limit.level)).collect();
            let all_there: Vec<_> =
                capacities.into_iter().map(|capacity| (capacity, capacity as i64)).collect();
            assert_eq!(seen, all_there);
            assert!(limits.iter().all(|limit| limit.lesson.is_none()), "nothing was learned yet");
        }
    }

    /// Goal: an outline says of the budget as a whole what a look at everything says.
    #[test]
    fn an_outline_leaves_out_limits_and_tenants() {
        let limits = vec![LimitSpec::in_flight(1)];
        let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense");
        let (mut budget, now) = (Budget::new(&spec, Time::ZERO), Time::ZERO);
        for _ in 0..2 {
            budget.acquire(now, ask(), &mut Vec::new()).expect("there is room");
        }
        let (whole, outline) = (budget.snapshot(now), budget.outline(now));
        assert_eq!((whole.limits.len(), whole.tenants.len(), outline.granted_total), (1, 1, 1));
        assert_eq!((outline.waiting, outline.in_flight), (1, 1));
        assert_eq!(Snapshot { limits: Vec::new(), tenants: Vec::new(), ..whole }, outline);
    }

    /// Goal: however many names callers make up, a look tells a bounded number of tenants: those that wait or have permits, those that are
    /// declared, and of the others those that were granted most.
    #[test]
    fn tenants_are_bounded() {
        const NAMES: usize = 65_536;
        let requests = LimitSpec::rate("requests", 2, Duration::from_secs(60));
        let spec = BudgetSpec {
            limits: vec![requests],
            tenants: [("declared".to_owned(), TenantSpec::default())].into(),
            ..BudgetSpec::default()
        };
        let (mut budget, now) = (Budget::new(&spec.check().expect("makes sense"), Time::ZERO), Time::ZERO);
        let mut asks = |tenant: &str, max_wait| {
            let asked = budget.acquire(now, Request { tenant, max_wait, ..ask() }, &mut Vec::new());
            asked.ok().map(|acquired| match acquired {
                Acquired::Granted(grant) => Some(grant.permit),
                Acquired::Waiting(_) => None,
            })
        };
        let no_wait = Some(Duration::ZERO);
        let reported = asks("was granted", None).flatten().expect("the first");
        assert!(asks("z has a permit", None).flatten().is_some());
        assert_eq!(asks("z waits", None), Some(None));
        for name in ["declared".to_owned()].into_iter().chain((4..NAMES).map(|at| format!("name {at:05}"))) {
            assert_eq!(asks(&name, no_wait), None, "it can't be in time");
        }
        budget.report(now, reported, &Report::new(Outcome::Success), &mut Vec::new());

        let snapshot = budget.snapshot(now);
        let names: Vec<_> = snapshot.tenants.iter().map(|tenant| &*tenant.tenant).collect();
        assert_eq!((names.len(), snapshot.waiting, snapshot.in_flight), (TENANTS_TOLD, 1, 1));
        assert!(names.is_sorted());
        for told in ["declared", "was granted", "z has a permit", "z waits"] {
            assert!(names.contains(&told), "{told}");
        }
    }
}
