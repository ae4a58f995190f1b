//! The independent proof of the heart: a naive model of one budget, and checkers that watch random histories with it.
//!
//! Runs are deterministic. `PERMITD_PROPTEST_CASES=20000` soaks, `PERMITD_PROPTEST_SEED=7` draws other histories; what fails is kept
//! in `proptest-regressions/` and tried first from then on.

mod absurd;
mod bounds;
mod demands;
mod fairness;
mod golden;
mod guarantees;
mod harness;
mod meter;
mod model;
mod plan;
mod properties;
mod race;
mod regressions;
mod runner;
mod settling;
mod shadow;
mod starvation;
