//! One budget as a plain list of who waits, a plain list of live permits and a full log per limit. It decides nothing: it is told
//! what the heart did, one thing after the other, and says whether that was allowed; [`crate::demands`] says what was owed.

use std::{collections::BTreeSet, time::Duration};

use permitd_budget::{
    Amounts, CheckedSpec, Event, Grant, LimitSpec, Priority, Reason, Refusal, Ticket, Time, Window,
};

use crate::meter::{Meter, Side, capacity, instant};

/// Deadlines and expiries may be kept late, up to the next multiple of this.
const GRAIN: i128 = 1_000_000;

/// A request as the model keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: u64,
    pub(crate) tenant: String,
    pub(crate) model: String,
    pub(crate) priority: Priority,
    pub(crate) cost: Amounts,
    pub(crate) remaining: u32,
    pub(crate) arrived: Time,
    pub(crate) deadline: Option<i128>,
    /// May not wait at all.
    pub(crate) now_or_never: bool,
    /// How often the limits had changed when it came.
    pub(crate) epoch: u32,
    pub(crate) ticket: Option<Ticket>,
}

/// A permit that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) id: u64,
    pub(crate) tenant: String,
    pub(crate) model: String,
    pub(crate) grant: Grant,
    pub(crate) granted: Time,
    pub(crate) expires: Time,
}

/// One declared limit: over time with a meter (one per tenant for `each`), or a number in flight.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    pub(crate) spec: LimitSpec,
    pub(crate) meters: Vec<(String, Meter)>,
}

/// The whole.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) now: Time,
    pub(crate) spec: CheckedSpec,
    pub(crate) limits: Vec<Limit>,
    pub(crate) waiting: Vec<Asked>,
    pub(crate) live: Vec<Live>,
    pub(crate) ended: Vec<u64>,
    pub(crate) seen: BTreeSet<u64>,
    pub(crate) paused: bool,
    pub(crate) epoch: u32,
    /// Off where feedback may freeze or lower limits: then only what may never happen is checked.
    pub(crate) exact: bool,
    pub(crate) granted_total: u64,
    pub(crate) refused_total: u64,
    pub(crate) expired_total: u64,
}

/// Says what went wrong unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($said:tt)+) => {
        if !$condition {
            return Err(format!($($said)+));
        }
    };
}
pub(crate) use ensure;

impl Model {
    pub(crate) fn new(spec: &CheckedSpec, now: Time, exact: bool) -> Self {
        let limits = bounds_of(spec).into_iter().map(|spec| Limit { spec, meters: Vec::new() }).collect();
        Self {
            now,
            spec: spec.clone(),
            limits,
            waiting: Vec::new(),
            live: Vec::new(),
            ended: Vec::new(),
            seen: BTreeSet::new(),
            paused: false,
            epoch: 0,
            exact,
            granted_total: 0,
            refused_total: 0,
            expired_total: 0,
        }
    }

    /// Which limits bear on a tenant's calls of a model.
    pub(crate) fn touched(&self, tenant: &str, model: &str) -> Vec<usize> {
        let bears = |limit: &Limit| {
            matches(&limit.spec.models, model)
                && (limit.spec.tenants == "each" || matches(&limit.spec.tenants, tenant))
        };
        (0..self.limits.len()).filter(|at| bears(&self.limits[*at])).collect()
    }

    /// Whose meter of a limit counts a tenant's calls.
    pub(crate) fn holder(&self, limit: usize, tenant: &str) -> String {
        if self.limits[limit].spec.tenants == "each" { tenant.to_owned() } else { String::new() }
    }

    /// Permits in flight under a limit, for `each` those of one tenant.
    pub(crate) fn in_flight(&self, limit: usize, holder: &str) -> u64 {
        let counts = |live: &&Live| {
            self.touched(&live.tenant, &live.model).contains(&limit)
                && self.holder(limit, &live.tenant) == holder
        };
        self.live.iter().filter(counts).count() as u64
    }

    pub(crate) fn meter(&mut self, limit: usize, holder: &str) -> &mut Meter {
        let now = self.now;
        let limit = &mut self.limits[limit];
        if let Some(at) = limit.meters.iter().position(|(name, _)| name == holder) {
            return &mut limit.meters[at].1;
        }
        limit.meters.push((holder.to_owned(), Meter::new(&limit.spec, now)));
        &mut limit.meters.last_mut().expect("just pushed").1
    }

    /// As [`Model::meter`], to look at.
    pub(crate) fn look(&self, limit: usize, holder: &str) -> Meter {
        let found = self.limits[limit].meters.iter().find(|(name, _)| name == holder);
        found.map_or_else(|| Meter::new(&self.limits[limit].spec, self.now), |(_, meter)| meter.clone())
    }

    /// What a permit takes from a limit.
    pub(crate) fn cost(&self, limit: usize, cost: &Amounts) -> u64 {
        cost.of(&self.limits[limit].spec.unit)
    }

    /// The first limit that `asked` does not fit, with `beside` units of each limit left alone.
    pub(crate) fn misfit(&self, side: Side, asked: &Asked, beside: impl Fn(usize) -> u128) -> Option<usize> {
        self.touched(&asked.tenant, &asked.model).into_iter().find(|at| {
            let holder = self.holder(*at, &asked.tenant);
            let cost = u128::from(self.cost(*at, &asked.cost)) + beside(*at);
            match self.limits[*at].spec.per {
                None => {
                    u128::from(self.in_flight(*at, &holder)) + cost > u128::from(self.limits[*at].spec.amount)
                }
                Some(_) => !self.look(*at, &holder).fits(side, cost, self.now),
            }
        })
    }

    /// When `asked` fits every limit over time if nothing else happens; `None` is never.
    pub(crate) fn alone(&self, side: Side, asked: &Asked) -> Option<i128> {
        let mut latest = instant(self.now);
        for at in self.touched(&asked.tenant, &asked.model) {
            if self.limits[at].spec.per.is_some() {
                let meter = self.look(at, &self.holder(at, &asked.tenant));
                latest =
                    latest.max(meter.fits_from(side, u128::from(self.cost(at, &asked.cost)), self.now)?);
            }
        }
        Some(latest)
    }

    /// The first limit that can never hold what is asked.
    pub(crate) fn impossible(&self, asked: &Asked) -> Option<usize> {
        let over = |at: &usize| self.cost(*at, &asked.cost) > capacity(&self.limits[*at].spec);
        self.touched(&asked.tenant, &asked.model).into_iter().find(over)
    }

    /// Waits that are first of their tenant, class and set of limits.
    pub(crate) fn is_head(&self, asked: &Asked) -> bool {
        let lane = |of: &Asked| (of.tenant.clone(), of.priority, self.touched(&of.tenant, &of.model));
        self.waiting.iter().find(|other| lane(other) == lane(asked)).is_none_or(|first| first.id == asked.id)
    }

    /// Takes in what one call made happen, in order.
    pub(crate) fn follow(&mut self, events: &[Event<u64>]) -> Result<(), String> {
        for event in events {
            match event {
                Event::Granted { waiter, grant, remaining, .. } => {
                    self.granted(*waiter, grant, *remaining)?
                }
                Event::Refused { waiter, refusal } => self.refused(*waiter, refusal)?,
                Event::Expired { waiter, permit } => self.expired(*waiter, permit.as_u64())?,
            }
        }
        Ok(())
    }

    fn granted(&mut self, id: u64, grant: &Grant, remaining: u32) -> Result<(), String> {
        let at = self.waiting.iter().position(|asked| asked.id == id);
        let Some(at) = at else { return Err(format!("granted to {id}, who does not wait")) };
        ensure!(self.waiting[at].remaining == remaining + 1, "{id} has {remaining} remaining");
        let asked = self.waiting[at].clone();
        let passed = self.waiting[..at].iter().find(|earlier| self.same_lane(earlier, &asked));
        if let Some(passed) = passed {
            return Err(format!("{id} passed {} of the same lane", passed.id));
        }
        self.take(&asked, grant)?;
        if remaining == 0 {
            self.waiting.remove(at);
        } else {
            self.waiting[at].remaining = remaining;
        }
        Ok(())
    }

    /// Whether nobody of the same lane waits.
    pub(crate) fn is_head_of_all(&self, asked: &Asked) -> bool {
        !self.waiting.iter().any(|earlier| self.same_lane(earlier, asked))
    }

    fn same_lane(&self, one: &Asked, other: &Asked) -> bool {
        // Limits that were learned may tell models apart.
        if !self.exact && one.model != other.model {
            return false;
        }
        let same_limits = || {
            one.epoch == self.epoch
                && other.epoch == self.epoch
                && self.touched(&one.tenant, &one.model) == self.touched(&other.tenant, &other.model)
        };
        one.tenant == other.tenant
            && one.priority == other.priority
            && (one.model == other.model || same_limits())
    }

    /// One permit for `asked`, with everything that has to hold for it.
    pub(crate) fn take(&mut self, asked: &Asked, grant: &Grant) -> Result<(), String> {
        let (id, key) = (asked.id, grant.permit.as_u64());
        ensure!(!self.paused, "{id} granted while paused");
        ensure!(self.seen.insert(key), "permit {key} was given before");
        let late = asked.deadline.is_some_and(|deadline| instant(self.now) > grained(deadline));
        ensure!(!late, "{id} granted after its deadline {:?}", asked.deadline);
        ensure!(grant.charged == asked.cost, "{id} charged {:?} for {:?}", grant.charged, asked.cost);
        ensure!(grant.ttl == self.spec.ttl(), "{id} lives {:?}, declared {:?}", grant.ttl, self.spec.ttl());
        let due = instant(self.now + grant.ttl);
        let expires = instant(grant.expires);
        ensure!(expires == due || expires == grained(due), "{id} expires {} at {}", grant.expires, self.now);
        ensure!(grant.waited == self.now.since(asked.arrived), "{id} waited {:?}", grant.waited);
        if let Some(short) = self.misfit(Side::Most, asked, |_| 0) {
            let spec = &self.limits[short].spec;
            return Err(format!(
                "never over: {id} granted, {} {} does not fit {spec:?}",
                self.cost(short, &asked.cost),
                spec.unit
            ));
        }
        for at in self.touched(&asked.tenant, &asked.model) {
            if self.limits[at].spec.per.is_some() {
                let (holder, cost, now) =
                    (self.holder(at, &asked.tenant), self.cost(at, &asked.cost), self.now);
                self.meter(at, &holder).charge(key, cost, now);
            }
        }
        self.granted_total += 1;
        self.live.push(Live {
            id,
            tenant: asked.tenant.clone(),
            model: asked.model.clone(),
            grant: grant.clone(),
            granted: self.now,
            expires: grant.expires,
        });
        Ok(())
    }

    fn refused(&mut self, id: u64, refusal: &Refusal) -> Result<(), String> {
        let at = self.waiting.iter().position(|asked| asked.id == id);
        let Some(at) = at else { return Err(format!("refused {id}, who does not wait")) };
        let asked = self.waiting.remove(at);
        self.may_refuse(&asked, refusal)?;
        self.refused_total += 1;
        Ok(())
    }

    /// Whether one who waits, or may not wait, could be refused so.
    pub(crate) fn may_refuse(&self, asked: &Asked, refusal: &Refusal) -> Result<(), String> {
        let (id, now) = (asked.id, instant(self.now));
        match &refusal.reason {
            Reason::NotInTime => {
                // At the very moment of its deadline a request is in time, if it fits.
                let fits = self.exact
                    && asked.deadline > Some(instant(asked.arrived))
                    && crate::demands::admissible(self, asked);
                let over =
                    asked.deadline.is_some_and(|deadline| now > deadline || (now == deadline && !fits));
                let hopeless = asked.deadline.is_some_and(|deadline| {
                    self.alone(Side::Least, asked).is_none_or(|possible| possible > deadline)
                });
                ensure!(
                    over || hopeless || asked.now_or_never || !self.exact,
                    "{id} refused {refusal:?} though it could be in time"
                );
            }
            Reason::LargerThanLimit { unit, asked: cost, most } => {
                let named = |at: &Limit| at.spec.unit == *unit && capacity(&at.spec) == *most;
                let touched = self.touched(&asked.tenant, &asked.model);
                let right =
                    touched.iter().any(|at| named(&self.limits[*at]) && self.cost(*at, &asked.cost) == *cost);
                ensure!(right && cost > most, "{id} refused {refusal:?}, which names no limit of its");
                ensure!(
                    refusal.limit.as_ref().is_some_and(|limit| limit.starts_with(unit.as_str())),
                    "{refusal:?} names no limit"
                );
                ensure!(refusal.retry_after.is_none(), "{id} refused for good with a hint: {refusal:?}");
            }
            Reason::Paused => {
                let at_once = asked.now_or_never || asked.deadline.is_some_and(|deadline| deadline <= now);
                ensure!(self.paused && at_once, "{id} refused {refusal:?}");
            }
            Reason::QueueFull { max_waiting } => {
                let full = self.waiting.len() as u64 >= u64::from(*max_waiting);
                ensure!(
                    full && *max_waiting == self.max_waiting(),
                    "{id} refused {refusal:?} with {}",
                    self.waiting.len()
                );
            }
            Reason::TenantQueueFull { max_waiting } => {
                let full = self.tenant_waiting(&asked.tenant) >= *max_waiting;
                ensure!(
                    full && Some(*max_waiting) == self.tenant_max_waiting(&asked.tenant),
                    "{id} refused {refusal:?}"
                );
            }
            other => return Err(format!("{id} refused {other:?}")),
        }
        Ok(())
    }

    fn expired(&mut self, id: u64, key: u64) -> Result<(), String> {
        let at = self.live.iter().position(|live| live.grant.permit.as_u64() == key);
        let Some(at) = at else { return Err(format!("permit {key} expired, but is not live")) };
        let live = self.live.remove(at);
        ensure!(live.id == id, "permit {key} of {} expired as {id}'s", live.id);
        ensure!(live.expires <= self.now, "permit {key} expired at {}, due {}", self.now, live.expires);
        self.ended.push(key);
        self.expired_total += 1;
        Ok(())
    }

    /// A permit's estimate becomes what was used.
    pub(crate) fn settle(&mut self, key: u64, actual: &Amounts) {
        let at = self
            .live
            .iter()
            .position(|live| live.grant.permit.as_u64() == key)
            .expect("only live permits settle");
        let live = self.live.remove(at);
        for at in self.touched(&live.tenant, &live.model) {
            if self.limits[at].spec.per.is_some() {
                let (holder, now) = (self.holder(at, &live.tenant), self.now);
                let (charged, used) = (self.cost(at, &live.grant.charged), self.cost(at, actual));
                self.meter(at, &holder).settle(key, charged, used, now);
            }
        }
        self.ended.push(key);
    }

    /// New declarations. Returns the limits whose level has to be asked of the heart.
    pub(crate) fn configure(&mut self, spec: &CheckedSpec) -> Vec<usize> {
        self.spec = spec.clone();
        self.epoch += 1;
        let before = std::mem::take(&mut self.limits);
        let (mut added, mut unknown) = (Vec::new(), Vec::new());
        for (at, limit) in bounds_of(spec).iter().enumerate() {
            let known = before.iter().find(|old| old.spec.same_identity(limit));
            let mut meters = known.map(|old| old.meters.clone()).unwrap_or_default();
            for (_, meter) in &mut meters {
                if !meter.change(limit, self.now) && !unknown.contains(&at) {
                    unknown.push(at);
                }
            }
            if known.is_none() && limit.per.is_some() {
                added.push(at);
            }
            self.limits.push(Limit { spec: limit.clone(), meters });
        }
        for at in added {
            for live in self.live.clone() {
                if self.touched(&live.tenant, &live.model).contains(&at) {
                    let (holder, now) = (self.holder(at, &live.tenant), self.now);
                    let charged = self.cost(at, &live.grant.charged);
                    self.meter(at, &holder).charge_late(
                        live.grant.permit.as_u64(),
                        charged,
                        live.granted,
                        now,
                    );
                }
            }
        }
        unknown
    }

    pub(crate) fn max_waiting(&self) -> u32 {
        if self.spec.queue.max_waiting == 0 {
            permitd_budget::DEFAULT_MAX_WAITING
        } else {
            self.spec.queue.max_waiting
        }
    }

    pub(crate) fn tenant_max_waiting(&self, tenant: &str) -> Option<u32> {
        self.spec.tenants.get(tenant).map(|tenant| tenant.max_waiting).filter(|most| *most != 0)
    }

    pub(crate) fn tenant_waiting(&self, tenant: &str) -> u32 {
        u32::try_from(self.waiting.iter().filter(|asked| asked.tenant == tenant).count()).expect("few wait")
    }

    /// The moment a request gives up, by what it says and what the budget declares.
    pub(crate) fn deadline(&self, max_wait: Option<Duration>, gives_up: Option<Time>) -> Option<i128> {
        let reject = self.spec.queue.overflow == permitd_budget::Overflow::Reject;
        let default = if reject { Some(Duration::ZERO) } else { self.spec.queue.max_wait };
        let own = max_wait.or(default).map(|wait| instant(self.now + wait));
        own.into_iter().chain(gives_up.map(instant)).min()
    }
}

/// What is declared, and behind it, tenant by tenant, the parts of what all share that some are held to.
fn bounds_of(spec: &CheckedSpec) -> Vec<LimitSpec> {
    let mut bounds = spec.limits.clone();
    for (name, tenant) in spec.tenants.iter().filter(|(_, tenant)| tenant.max_percent % 100 != 0) {
        for whole in spec.limits.iter().filter(|limit| limit.tenants.is_empty()) {
            let percent = u64::from(tenant.max_percent);
            let mut part = LimitSpec { tenants: name.clone(), ..whole.clone() };
            part.amount = (whole.amount * percent / 100).max(1);
            if whole.burst > 0 {
                part.burst = (whole.burst * percent / 100).max(1);
            }
            if matches!(whole.window, Window::Quantised { .. }) {
                part.window = Window::Sliding;
            }
            bounds.push(part);
        }
    }
    bounds
}

/// Up to the next multiple of the grain.
pub(crate) fn grained(at: i128) -> i128 {
    crate::meter::ceiling(at, GRAIN) * GRAIN
}

/// A glob with `*` only, tried every way.
fn matches(glob: &str, name: &str) -> bool {
    fn rest(glob: &[u8], name: &[u8]) -> bool {
        match glob.split_first() {
            None => name.is_empty(),
            Some((b'*', glob)) => (0..=name.len()).any(|skip| rest(glob, &name[skip..])),
            Some((byte, glob)) => {
                name.split_first().is_some_and(|(first, name)| first == byte && rest(glob, name))
            }
        }
    }
    glob.is_empty() || rest(glob.as_bytes(), name.as_bytes())
}
