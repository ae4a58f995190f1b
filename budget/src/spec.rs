//! What is declared about a budget, and the one place that says which declarations make sense.

use std::{collections::BTreeMap, ops::Deref, sync::Arc, time::Duration};

use crate::{
    counting::{Counting, CountingSpec, Settled},
    glob::{Glob, WILD},
    limit::EACH,
    schedule::Scheduled,
    time::{Time, nanos},
};

/// Bounds on what may be declared. Past each one is a [`SpecError`] that names the field.
pub mod bounds {
    use std::time::Duration;

    /// Limits in one budget: one bit each in the sets that the queue works with.
    pub const LIMITS: usize = 128;
    /// Bytes in a name, a glob or a unit.
    pub const NAME_BYTES: usize = 256;
    /// Tenants declared by name.
    pub const DECLARED_TENANTS: usize = 10_000;
    /// The shortest window and quantum.
    pub const PER_MIN: Duration = Duration::from_millis(1);
    /// The longest window: a leap year.
    pub const PER_MAX: Duration = Duration::from_secs(366 * 86_400);
    /// The shortest life of a permit.
    pub const PERMIT_TTL_MIN: Duration = Duration::from_secs(1);
    /// The longest life of a permit.
    pub const PERMIT_TTL_MAX: Duration = Duration::from_secs(86_400);
    /// Requests that may wait in one budget, whatever it declares.
    pub const WAITING: u32 = 4_000_000;
    /// The most that an output may weigh against the input, in per cent.
    pub const PERCENT: u32 = 10_000;
    /// Entries of a schedule.
    pub const SCHEDULED: usize = 64;
    /// Ways of counting in one budget, each for some models.
    pub const COUNTINGS: usize = 64;
}

/// Everything declared about one budget.
///
/// As somebody wrote it: [`BudgetSpec::check`] makes it usable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BudgetSpec {
    /// What a call has to fit, all of it at the same time. At most [`bounds::LIMITS`]. None means those that the provider's profile has for
    /// every key; where it has none either, the limit is found: it starts with 60 requests a minute, 10 at once, and doubles while it is
    /// used, until the provider refuses or its headers tell.
    pub limits: Vec<LimitSpec>,
    /// How requests wait.
    pub queue: QueueSpec,
    /// Tenants that differ from the default, by name.
    pub tenants: BTreeMap<String, TenantSpec>,
    /// How long a permit lives unreported; `None` means what the provider's profile says, else [`DEFAULT_PERMIT_TTL`].
    pub permit_ttl: Option<Duration>,
    /// How the provider counts tokens, by model; the first that matches counts. Where none does, [`Counting::default`] holds.
    pub counting: Vec<CountingSpec>,
    /// Whether everything is granted at once, and what the limits would have done is recorded beside it.
    pub shadow: bool,
    /// Limits that are others at certain hours.
    ///
    /// The heart grants by `limits` alone: see [`CheckedSpec::at_hours`].
    pub schedule: Vec<Scheduled>,
}

/// The life of a permit where nobody declared one. Longer than the longest common client timeout (the OpenAI and Anthropic
/// SDKs give up after 10 minutes), so that a slow call is not taken for a dead one.
pub const DEFAULT_PERMIT_TTL: Duration = Duration::from_secs(600);

/// Requests that may wait in one budget where nobody declared a number.
pub const DEFAULT_MAX_WAITING: u32 = 100_000;

/// One bound: so much of a unit per window, or so many in flight. Its identity is (unit, per, models, tenants).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LimitSpec {
    /// `requests`, `tokens`, `input_tokens`, `output_tokens`, `in_flight`, or any other name.
    pub unit: String,
    /// How much per window, or how many at once. At least 1.
    pub amount: u64,
    /// The window's length; `None` for `in_flight`, and only there.
    pub per: Option<Duration>,
    /// What may be taken at once after idle time ([`Window::Bucket`] only); 0 means the amount.
    pub burst: u64,
    /// How the provider counts.
    pub window: Window,
    /// A glob over models; empty means all.
    pub models: String,
    /// A glob over tenants that share the limit; empty means all; `each` means one limit for every tenant.
    pub tenants: String,
    /// What lowers it besides headers. [`Adapt::Latency`] is for `in_flight` of all tenants only.
    pub adapt: Adapt,
}

/// What an effective limit follows, besides what the provider's headers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Adapt {
    /// The provider's refusals.
    #[default]
    Refusals,
    /// And how long calls take: for a provider that gets slower, where others refuse.
    Latency,
}

/// How a limit counts over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Window {
    /// A token bucket: refills continuously, holds at most `burst`.
    #[default]
    Bucket,
    /// Starts from zero at fixed instants, one of which is `phase`. With an unknown phase it is enforced as [`Window::Sliding`],
    /// which holds for every phase.
    Fixed {
        /// Some instant at which a window begins.
        phase: Option<Time>,
    },
    /// Never more than the amount in any stretch of `per`.
    Sliding,
    /// Judged over a shorter stretch: in any `quantum` no more than its part of the amount.
    Quantised {
        /// The stretch; shorter than `per`.
        quantum: Duration,
    },
}

/// The quantum where nobody declared one.
pub const DEFAULT_QUANTUM: Duration = Duration::from_secs(1);

/// How requests wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct QueueSpec {
    /// How many requests may wait; 0 means [`DEFAULT_MAX_WAITING`].
    pub max_waiting: u32,
    /// How long a request waits that does not say; `None` means as long as it takes.
    pub max_wait: Option<Duration>,
    /// What becomes of a request that gives no `max_wait` and can't be granted at once.
    pub overflow: Overflow,
}

/// What becomes of a request that gives no `max_wait` and can't be granted at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// It waits.
    #[default]
    Wait,
    /// It is refused.
    Reject,
}

/// What is declared about one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TenantSpec {
    /// The part of the budget relative to other tenants; 0 means 1.
    pub weight: u32,
    /// How many of its requests may wait; 0 means as many as the budget lets.
    pub max_waiting: u32,
    /// The most that it may have of each limit that all tenants share, in per cent of what is declared; 0 and 100 mean all.
    pub max_percent: u32,
    /// The least that it gets of each limit that all tenants share while it has work waiting, in per cent of what is granted; 0
    /// means nothing but its turn. What it does not use is lent.
    pub min_percent: u32,
}

/// All guarantees together, in per cent: the rest is for those who have none, so that nobody starves.
pub(crate) const GUARANTEED_PERCENT_MAX: u32 = 90;

impl TenantSpec {
    /// Whether it may not have all of the budget.
    fn is_capped(self) -> bool {
        (1..100).contains(&self.max_percent)
    }
}

/// A [`BudgetSpec`] that makes sense. Only [`BudgetSpec::check`] makes one; its clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CheckedSpec(Arc<BudgetSpec>);

impl CheckedSpec {
    /// The same without shadow mode. Calls that nothing held back do not tell how long they would have taken.
    pub(crate) fn in_earnest(&self) -> Self {
        let mut earnest = BudgetSpec { shadow: false, ..BudgetSpec::clone(self) };
        for limit in &mut earnest.limits {
            limit.adapt = Adapt::Refusals;
        }
        Self(Arc::new(earnest))
    }

    /// Whether it is this very declaration, and not only one that says the same.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether others share it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Puts other limits of the same identity in the place of some.
    pub(crate) fn replace_limits(&mut self, other: impl Fn(&LimitSpec) -> Option<LimitSpec>) {
        for limit in &mut Arc::make_mut(&mut self.0).limits {
            if let Some(other) = other(limit) {
                *limit = other;
            }
        }
    }
}

impl Deref for CheckedSpec {
    type Target = BudgetSpec;

    fn deref(&self) -> &BudgetSpec {
        &self.0
    }
}

/// What is wrong with a declaration, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SpecError {
    /// The path of the field, for example `limits[2].per`.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl SpecError {
    /// An error at `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl BudgetSpec {
    /// Parses, so that nobody has to validate again.
    ///
    /// # Errors
    /// The first field that makes no sense.
    pub fn check(self) -> Result<CheckedSpec, SpecError> {
        if self.limits.len() > bounds::LIMITS {
            let problem = format!("{} limits; a budget has at most {}", self.limits.len(), bounds::LIMITS);
            return Err(SpecError::new("limits", problem));
        }
        for (at, limit) in self.limits.iter().enumerate() {
            limit.check(&format!("limits[{at}]"))?;
            if let Some(twin) = self.limits[..at].iter().position(|other| other.same_identity(limit)) {
                let problem =
                    format!("the same unit, per, models and tenants as limits[{twin}]; keep one of them");
                return Err(SpecError::new(format!("limits[{at}]"), problem));
            }
        }
        if self.tenants.len() > bounds::DECLARED_TENANTS {
            let problem = format!("{} tenants; at most {}", self.tenants.len(), bounds::DECLARED_TENANTS);
            return Err(SpecError::new("tenants", problem));
        }
        for (name, tenant) in &self.tenants {
            let at = format!("tenants[{}]", shorten(name));
            check_name(&at, name, false)?;
            self.check_cap(&at, name, *tenant)?;
        }
        self.check_guarantees()?;
        let caps = self.caps().count();
        if self.limits.len() + caps > bounds::LIMITS {
            let problem = format!(
                "{} limits and {caps} parts of them that tenants are held to; a budget has at most {} together",
                self.limits.len(),
                bounds::LIMITS
            );
            return Err(SpecError::new("tenants", problem));
        }
        self.check_schedule()?;
        if self.shadow && self.limits.is_empty() {
            return Err(SpecError::new("shadow", "without limits there is nothing to try out; declare some"));
        }
        if self.queue.max_waiting > bounds::WAITING {
            return Err(SpecError::new("queue.max_waiting", format!("at most {}", bounds::WAITING)));
        }
        if let Some(ttl) = self.permit_ttl
            && !(bounds::PERMIT_TTL_MIN..=bounds::PERMIT_TTL_MAX).contains(&ttl)
        {
            return Err(SpecError::new("permit_ttl", format!("{ttl:?} is outside 1 s to 24 h")));
        }
        if self.counting.len() > bounds::COUNTINGS {
            let problem = format!("{} of them; at most {}", self.counting.len(), bounds::COUNTINGS);
            return Err(SpecError::new("counting", problem));
        }
        for (at, counting) in self.counting.iter().enumerate() {
            counting.check(&format!("counting[{at}]"))?;
        }
        Ok(CheckedSpec(Arc::new(self)))
    }

    fn check_cap(&self, at: &str, name: &str, tenant: TenantSpec) -> Result<(), SpecError> {
        let error = |problem: String| Err(SpecError::new(format!("{at}.max_percent"), problem));
        if tenant.max_percent > 100 {
            return error(format!("{} %; at most 100", tenant.max_percent));
        }
        if !tenant.is_capped() {
            return Ok(());
        }
        if name == EACH || name.contains(WILD) {
            return error(
                "the tenant's name is one for many, so no part is its own; give it another name".to_owned(),
            );
        }
        let twin = |cap: &LimitSpec| self.limits.iter().position(|limit| limit.same_identity(cap));
        match self.caps().filter(|cap| cap.tenants == name).find_map(|cap| twin(&cap)) {
            Some(twin) => error(format!("limits[{twin}] bounds the same for this tenant; keep one of them")),
            None => Ok(()),
        }
    }

    fn check_guarantees(&self) -> Result<(), SpecError> {
        let mut together: u32 = 0;
        for (name, tenant) in self.tenants.iter().filter(|(_, tenant)| tenant.min_percent > 0) {
            let error = |problem: String| {
                Err(SpecError::new(format!("tenants[{}].min_percent", shorten(name)), problem))
            };
            if name == EACH || name.contains(WILD) {
                return error("the tenant's name is one for many; give it another name".to_owned());
            }
            if tenant.is_capped() && tenant.min_percent > tenant.max_percent {
                return error(format!("more than the {} % that it may have at most", tenant.max_percent));
            }
            together = together.saturating_add(tenant.min_percent);
            if together > GUARANTEED_PERCENT_MAX {
                return error(format!(
                    "{together} % are guaranteed together; at most {GUARANTEED_PERCENT_MAX}, so that something is left for the others"
                ));
            }
        }
        Ok(())
    }

    /// What tenants with a [`TenantSpec::max_percent`] are held to: a limit of their own for each that all tenants share.
    pub fn caps(&self) -> impl Iterator<Item = LimitSpec> {
        let capped = self.tenants.iter().filter(|(_, tenant)| tenant.is_capped());
        capped.flat_map(|(name, tenant)| {
            let shared = self.limits.iter().filter(|limit| limit.tenants.is_empty());
            shared.map(|limit| limit.part_of(name, tenant.max_percent))
        })
    }

    /// How calls to a model are counted.
    pub(crate) fn counting_of(&self, model: &str) -> Counting {
        let found = self.counting.iter().find(|counting| Glob::new(&counting.models).matches(model));
        found.map_or_else(Counting::default, |found| found.counting)
    }

    /// The life of a permit.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.permit_ttl.unwrap_or(DEFAULT_PERMIT_TTL)
    }
}

impl CountingSpec {
    fn check(&self, at: &str) -> Result<(), SpecError> {
        check_name(&format!("{at}.models"), &self.models, true)?;
        if self.counting.cached_input_percent > 100 {
            let problem = format!("{} %; at most 100", self.counting.cached_input_percent);
            return Err(SpecError::new(format!("{at}.cached_input_percent"), problem));
        }
        if let Settled::Used { output_percent } = self.counting.settled
            && output_percent > bounds::PERCENT
        {
            let problem = format!("{output_percent} %; at most {}", bounds::PERCENT);
            return Err(SpecError::new(format!("{at}.output_percent"), problem));
        }
        Ok(())
    }
}

impl LimitSpec {
    /// `amount` of `unit` per `per` in a bucket, for all models and tenants.
    #[must_use]
    pub fn rate(unit: &str, amount: u64, per: Duration) -> Self {
        Self {
            unit: unit.to_owned(),
            amount,
            per: Some(per),
            burst: 0,
            window: Window::Bucket,
            models: String::new(),
            tenants: String::new(),
            adapt: Adapt::Refusals,
        }
    }

    /// At most `amount` permits at once.
    #[must_use]
    pub fn in_flight(amount: u64) -> Self {
        Self { per: None, ..Self::rate(crate::usage::IN_FLIGHT, amount, Duration::ZERO) }
    }

    /// So many per cent of it, for one tenant; of anything at least 1. How the provider judges it within the window is for the limit
    /// itself to follow.
    fn part_of(&self, tenant: &str, percent: u32) -> Self {
        let part = |whole: u64| {
            let part = u128::from(whole) * u128::from(percent) / 100;
            u64::try_from(part).unwrap_or(u64::MAX).max(u64::from(whole > 0))
        };
        let window = match self.window {
            Window::Quantised { .. } => Window::Sliding,
            window => window,
        };
        let (amount, burst) = (part(self.amount), part(self.burst));
        // What the provider takes is learned of the whole.
        let adapt = Adapt::Refusals;
        Self { amount, burst, window, tenants: tenant.to_owned(), adapt, ..self.clone() }
    }

    /// Whether both bound the same thing, so that one is a change of the other.
    #[must_use]
    pub fn same_identity(&self, other: &Self) -> bool {
        self.unit == other.unit
            && self.per == other.per
            && self.models == other.models
            && self.tenants == other.tenants
    }

    /// Whether it makes sense by itself.
    pub(crate) fn is_sound(&self) -> bool {
        self.check("limit").is_ok()
    }

    pub(crate) fn check(&self, at: &str) -> Result<(), SpecError> {
        let error = |field: &str, problem: String| Err(SpecError::new(format!("{at}.{field}"), problem));
        check_name(&format!("{at}.unit"), &self.unit, false)?;
        check_name(&format!("{at}.models"), &self.models, true)?;
        check_name(&format!("{at}.tenants"), &self.tenants, true)?;
        if let Some(problem) = Glob::problem(&self.models) {
            return error("models", problem);
        }
        if let Some(problem) = Glob::problem(&self.tenants) {
            return error("tenants", problem);
        }
        if self.amount == 0 {
            return error("amount", "0 would never grant; to stop a budget, pause it".to_owned());
        }
        let in_flight = self.unit == crate::usage::IN_FLIGHT;
        match self.per {
            None if !in_flight => {
                return error("per", format!("missing: how much {} in how long?", self.unit));
            }
            Some(_) if in_flight => {
                return error("per", "in_flight is a number at once; it has no window".to_owned());
            }
            Some(per) if !(bounds::PER_MIN..=bounds::PER_MAX).contains(&per) => {
                return error("per", format!("{per:?} is outside 1 ms to 366 days"));
            }
            _ => {}
        }
        if self.adapt == Adapt::Latency {
            if !in_flight {
                let problem = format!(
                    "latency is for in_flight only: it tells nothing of how much {} there are",
                    self.unit
                );
                return error("adapt", problem);
            }
            if !self.tenants.is_empty() {
                let problem = "latency is for limits of all tenants: a provider slows down for all of them";
                return error("adapt", problem.to_owned());
            }
        }
        if in_flight && self.window != Window::Bucket {
            return error("window", "in_flight has no window".to_owned());
        }
        let bursts = self.window == Window::Bucket && !in_flight;
        if !bursts && self.burst != 0 && self.burst != self.amount {
            return error("burst", "only a token bucket has a burst beside its amount".to_owned());
        }
        if let (Window::Quantised { quantum }, Some(per)) = (self.window, self.per)
            && !(bounds::PER_MIN..=per).contains(&quantum)
        {
            return error("quantum", format!("{quantum:?} is outside 1 ms to the limit's window, {per:?}"));
        }
        if let Some(per) = self.per
            && nanos(per) == 0
        {
            return error("per", "is zero".to_owned());
        }
        Ok(())
    }
}

/// Checks a name that people chose: not too long, printable, and not empty unless `may_be_empty`.
///
/// # Errors
/// Names `field`.
pub fn check_name(field: &str, name: &str, may_be_empty: bool) -> Result<(), SpecError> {
    if name.is_empty() && !may_be_empty {
        return Err(SpecError::new(field, "is empty"));
    }
    if name.len() > bounds::NAME_BYTES {
        let problem = format!("{} bytes; a name has at most {}", name.len(), bounds::NAME_BYTES);
        return Err(SpecError::new(field, problem));
    }
    // Names are checked with every request, and nearly all are plain: their bytes need not be read as characters.
    let plain = name.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'));
    if !plain && name.chars().any(char::is_control) {
        return Err(SpecError::new(field, "has control characters"));
    }
    Ok(())
}

fn shorten(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(32).collect()
}
