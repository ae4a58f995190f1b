//! Fleets of clients in virtual time, against a provider whose true limits nobody told: the same [`permitd_budget`] code that the
//! server runs, judged by the simulator's own buckets. A scenario is a file that says why, what is declared, what is true, who calls,
//! and what has to come out.
//!
//! | room | what is there |
//! |---|---|
//! | `file`, `expect`, `load` | a scenario as its file tells it |
//! | `engine` | one run: events in the order of their times |
//! | `managed`, `doors` | who lets calls go: the budget, or for what was possible the true limits themselves |
//! | `simulated`, `ramp`, `call` | the provider's answers, and the calls |
//! | `record` | what a run leaves behind |
//! | `figures`, `verdict` | what came out, against what had to |
//! | `trace`, `plot` | a run for people to look at |

mod call;
mod doors;
mod engine;
mod expect;
mod figures;
mod file;
mod load;
mod managed;
mod plot;
mod ramp;
mod record;
mod simulated;
mod trace;
mod verdict;

pub use self::{
    engine::run,
    expect::{Clients, Expectation, What},
    file::{BehaviourChange, Manner, Network, Pool, Ramp, Scenario, Span, WaitTold, Work},
    load::ScenarioError,
    plot::plot,
    record::{Attempt, Fate, LimitName, LimitSample, Record, Sample},
    simulated::Why,
    trace::trace,
    verdict::{Finding, Verdict, judge, judge_all},
};
