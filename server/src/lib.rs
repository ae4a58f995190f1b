//! permitd's server as a library.

pub mod cell;
pub mod clock;
pub mod config;
pub mod registry;

mod alarm;
mod inbox;
