//! What many concurrent clients saw, judged by an independent checker. A grant happened at some moment between the sending of its request
//! and the reading of its answer; only what must have happened within a window counts against it.

mod over;
mod served;
mod support;
