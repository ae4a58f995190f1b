//! The heart of permitd: the [`Budget`] of one (provider, key), a pure and deterministic state machine. No clock, no I/O, no
//! async, no locks, no logging: time comes in as an argument, answers and events go out.
//!
//! ```
//! use permitd_budget::{Acquired, Budget, BudgetSpec, LimitSpec, Outcome, Priority, Report, Request, Time, Usage};
//! use std::time::Duration;
//!
//! let minute = Duration::from_secs(60);
//! let limits = vec![LimitSpec::rate("requests", 60, minute), LimitSpec::rate("tokens", 10_000, minute)];
//! let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check()?;
//! let mut now = Time::from_nanos(1_700_000_000_000_000_000);
//! let mut events = Vec::new();
//! let mut budget = Budget::new(&spec, now);
//!
//! let request = |name| Request {
//!     tenant: "web",
//!     model: "",
//!     priority: Priority::Standard,
//!     estimate: Usage::of_tokens(8_000),
//!     count: 1,
//!     max_wait: None,
//!     gives_up: None,
//!     waiter: name,
//! };
//! let Acquired::Granted(first) = budget.acquire(now, request("first"), &mut events).unwrap() else { panic!() };
//! assert!(matches!(budget.acquire(now, request("second"), &mut events), Ok(Acquired::Waiting(_))));
//!
//! // The first call used half of what it had asked for: the second can go sooner.
//! let report = Report { actual: Usage::of_tokens(4_000), ..Report::new(Outcome::Success) };
//! budget.report(now, first.permit, &report, &mut events);
//! now = budget.next_poll().unwrap();
//! budget.poll(now, &mut events);
//! assert_eq!(events.len(), 1, "the second was granted");
//! # Ok::<(), permitd_budget::SpecError>(())
//! ```
//!
//! # Map
//!
//! | room | what is there |
//! |---|---|
//! | `spec`, `schedule` | what may be declared, and the one place that checks it |
//! | `counting` | how a provider counts tokens |
//! | `request`, `outcome`, `observed`, `refusal`, `usage`, `snapshot` | what goes in and comes out |
//! | `acquire` -> `dispatch` -> `settle` | the life of a request: asked, granted in turn, ended |
//! | `admission` | whether a permit fits all its limits, what is in the way, what is reserved |
//! | `meter` | how a limit counts: bucket, fixed, sliding, slots |
//! | `fair`, `guarantee`, `queue` | who is next (the policy), who goes before that, and the lines that people stand in |
//! | `feedback` | what the provider's answers change |
//! | `configure` | live changes |
//! | `shadow` | limits that are tried out: what they would have done, while everything is granted |
//! | `saved`, `meter/escrow` | surviving the process: what is written down, and what may be granted before the next write |
//! | `place` | telling those who wait where they are |
//! | `standing`, `past`, `tally` | telling those who watch what holds it back, what was refused of late, what happened so far |
//! | `names`, `slab`, `agenda`, `chunks`, `answers`, `outputs` | bounded tables |
//!
//! # Invariants
//!
//! Numbered as in ARCHITECTURE.md and proven by `tests/`: never over, work-conserving, fair, no starvation, all or nothing,
//! settled once, honest deadlines, bounded.

mod acquire;
mod admission;
mod agenda;
mod answers;
mod budget;
mod chunks;
mod configure;
mod counting;
mod dispatch;
mod fair;
mod feedback;
mod glob;
mod guarantee;
mod limit;
mod meter;
mod names;
mod observed;
mod outcome;
mod outputs;
mod past;
mod place;
mod queue;
mod refusal;
mod request;
mod saved;
mod schedule;
mod settle;
mod shadow;
mod slab;
mod snapshot;
mod spec;
mod standing;
mod tally;
mod tenant;
mod time;
mod usage;

pub use budget::Budget;
pub use counting::{Counting, CountingSpec, Held, Settled};
pub use feedback::{Lesson, Phase, Teacher};
pub use glob::Glob;
pub use limit::{EACH, Source};
pub use observed::{OBSERVED_MAX, Observed, Tripped};
pub use outcome::{Outcome, Report, Reported};
pub use past::{PAST_MAX, PastAnswer, PastRefusal, Seen};
pub use refusal::{Reason, Refusal};
pub use request::{
    Acquired, COUNT_MAX, CallFacts, Event, Grant, HeldBy, LimitPlace, PermitKey, Place, Priority, Request,
    Ticket,
};
pub use saved::{
    Level, PermitChange, Pressure, Resumed, SavedBudget, SavedCourse, SavedGate, SavedGradient, SavedLearned,
    SavedLimit, SavedMeter, SavedPace, SavedPermit, SavedStrangers, SavedTenant,
};
pub use schedule::{DAY_SECONDS, Hours, Scheduled};
pub use shadow::ShadowSnapshot;
pub use snapshot::{LimitSnapshot, Snapshot, TENANTS_TOLD, TenantSnapshot};
pub use spec::{
    Adapt, BudgetSpec, CheckedSpec, DEFAULT_MAX_WAITING, DEFAULT_PERMIT_TTL, DEFAULT_QUANTUM, LimitSpec,
    Overflow, QueueSpec, SpecError, TenantSpec, Window, bounds, check_name,
};
pub use standing::{Halt, LINES_MAX, Line, Standing};
pub use tally::{LimitTally, WAIT_BOUNDS_NANOS, Waits, wait_bucket};
pub use time::Time;
pub use usage::{
    Amounts, IN_FLIGHT, INPUT_TOKENS, OTHER_UNITS_MAX, OUTPUT_TOKENS, OtherUnit, REQUESTS, TOKENS, Usage,
};
