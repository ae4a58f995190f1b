//! Random histories, followed step by step by the naive model: never over, work-conserving, all or nothing, settled once,
//! honest deadlines, bounded queues, and a snapshot that agrees with the log.

use proptest::strategy::Strategy;

use crate::{
    harness::Harness,
    plan::{any_outcome, plain_outcome, plan},
    runner::try_all,
};

/// Goal: whatever happens to a budget that is not taught by refusals, the heart does what the model owes and nothing it forbids.
#[test]
fn short_histories_follow_the_model() {
    let plans = plan(25, plain_outcome().boxed());
    try_all("proptest-regressions/short.txt", 1_500, &plans, |plan| Harness::play(plan, true).map(drop));
}

/// Goal: as above where state has built up: full windows, long queues, many changes.
#[test]
fn long_histories_follow_the_model() {
    let plans = plan(140, plain_outcome().boxed());
    try_all("proptest-regressions/long.txt", 150, &plans, |plan| Harness::play(plan, true).map(drop));
}

/// Goal: refusals by the provider may freeze and lower limits, and never let anything through that was not there before.
#[test]
fn feedback_never_mints() {
    let plans = plan(50, any_outcome().boxed());
    try_all("proptest-regressions/feedback.txt", 400, &plans, |plan| Harness::play(plan, false).map(drop));
}
