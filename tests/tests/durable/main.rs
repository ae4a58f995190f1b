//! What outlasts the process (invariants 1, 6 and 9; SEMANTICS 40): everything that was acknowledged, and no more quota than there
//! was. Stores in memory stand for disks that fail when they are told to; a copy of one is what a crash would leave behind.

mod configured;
mod faults;
mod kills;
mod restarts;
mod scheduled;
