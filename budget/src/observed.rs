//! What one response of the provider tells of its limits. Reading headers and bodies is for others; here is only what they came to.

use std::time::Duration;

use crate::spec::Window;

/// Limits that one response may tell of; further ones are not looked at.
pub const OBSERVED_MAX: usize = 16;

/// What a response tells of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What is counted.
    pub unit: Box<str>,
    /// Its window; `None` for `in_flight`, and where the provider does not say: then it is the shortest of that unit.
    pub per: Option<Duration>,
    /// The models that share it, as a glob; empty means all.
    pub models: Box<str>,
    /// How the provider counts, for a limit that nobody declared.
    pub window: Window,
    /// The limit itself: authoritative.
    pub limit: Option<u64>,
    /// What was left when the provider answered: stale by one way back, so that it may lower a level and never raise it.
    pub remaining: Option<u64>,
    /// `remaining` is a multiple of this; 0 and 1 mean exact.
    pub rounded_to: u64,
    /// Until the limit is whole again: a fixed window's edge, or a bucket being full.
    pub reset: Option<Duration>,
}

/// A dimension that a refusal names, or that its headers show to be used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// What is counted.
    pub unit: Box<str>,
    /// Its window, if that is told; `None` means every window of the unit.
    pub per: Option<Duration>,
}
