//! The real binary, as people type it: a server on a port of its own, and commands that talk to it.

mod batch;
mod budgets;
mod captures;
mod check;
mod demo;
mod explain;
mod help;
mod permits;
mod profiles;
mod run;
mod security;
mod serve;
mod simulate;
mod store;
mod support;
mod terminal;
mod top;
