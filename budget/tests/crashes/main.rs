//! Whatever a process was at when it ended, the next one grants no more than it could have: random histories with saves that
//! succeed, fail, and fail after they have reached the disk, with crashes and clocks that were set in between. The referee counts
//! what callers saw, by true time, and knows nothing of the heart.
//!
//! `PERMITD_PROPTEST_CASES=20000` looks for longer, `PERMITD_PROPTEST_SEED=7` begins elsewhere. A failure names its seed.

mod histories;
mod lessons;
mod named;
mod referee;
mod world;
