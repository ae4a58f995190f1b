//! The server as its clients see it: real sockets, through the same `run` as the binary.

mod acquire;
mod chaos;
mod drain;
mod hostile;
mod report;
mod session;
mod standard;
mod support;
