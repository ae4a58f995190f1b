//! The server's one clock: wall time at start plus monotonic time since. It never goes back and does not follow jumps of the
//! wall clock, so that a budget's levels cannot be minted by setting the date.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use permitd_budget::Time;

/// Tells the heart's time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Time,
    started: Instant,
}

impl Clock {
    /// Starts from the wall clock.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { origin: Time::ZERO + wall, started: Instant::now() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.origin + self.started.elapsed()
    }

    /// When `time` will be, for waiting; `None` if that is too far to be told.
    #[must_use]
    pub fn instant(&self, time: Time) -> Option<Instant> {
        self.started.checked_add(time.since(self.origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: both directions agree, and the end of time is no panic.
    #[test]
    fn instants_and_times_agree() {
        let clock = Clock::start();
        let now = clock.now();
        let later = clock.instant(now + Duration::from_secs(5)).expect("near");
        assert!(later > Instant::now());
        assert_eq!(clock.instant(Time::ZERO), Some(clock.started));
        let _ = clock.instant(Time::MAX);
        assert!(clock.now() >= now);
    }
}
