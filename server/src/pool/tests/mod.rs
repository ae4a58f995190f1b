//! Pools of real hearts in virtual time.

mod chosen;
mod exact;
mod waited;
mod world;

use super::Member;
