//! The server's one clock: it starts from the wall clock and goes on by itself. It never goes back and does not follow jumps of the
//! wall clock, so that a budget's levels cannot be minted by setting the date.
//!
//! From one process to the next, time goes on by the machine's uptime where it was not started anew in between, else by the wall
//! clock, and never back: a date that was set while nobody ran mints nothing either.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use permitd_budget::{Resumed, Time};

/// How far the clock may be from the wall clock when a new process goes on by the old one. Further, it starts from the wall clock,
/// and what was saved is moved over.
const DRIFT_MAX: Duration = Duration::from_secs(1);

/// How often the machine's clocks are read, for the two readings that are closest together.
const READINGS: u32 = 16;

/// Tells the heart's time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Time,
    started: Instant,
    boot: Option<Boot>,
}

/// What the machine says of time at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The moment, for what goes on from here.
    pub at: Instant,
    /// By the date that somebody set.
    pub wall: Time,
    /// By its uptime, where it tells.
    pub boot: Option<Boot>,
}

/// One start of the machine, and how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Different after every start.
    pub id: [u8; 16],
    /// How long it has been up, sleep included.
    pub up: Duration,
}

/// A moment of a clock, to be found again after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// By the clock.
    pub at: Time,
    /// By the machine's uptime.
    pub boot: Option<Boot>,
}

impl Reading {
    /// What it says now.
    #[must_use]
    pub fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let id = boot_id();
        // Whoever is held up between the two would be that much behind the machine's uptime for good, and the next process would
        // make up for it: time that never was.
        let both = (0..READINGS).map(|_| {
            let begun = Instant::now();
            let up = uptime();
            (begun.elapsed(), begun, up)
        });
        let (_, at, up) = both.min_by_key(|(took, ..)| *took).expect("there are some");
        let boot = id.zip(up).map(|(id, up)| Boot { id, up });
        Self { at, wall: Time::ZERO + wall, boot }
    }
}

impl Clock {
    /// Starts from the wall clock.
    #[must_use]
    pub fn start() -> Self {
        Self::resume(&Reading::now(), None).0
    }

    /// Starts at `reading`, after a clock that was last seen at `last`. Says what that moment is on both.
    #[must_use]
    pub fn resume(reading: &Reading, last: Option<&Pulse>) -> (Self, Resumed) {
        let by_old_clock = last.map_or(reading.wall, |last| match (last.boot, reading.boot) {
            (Some(then), Some(now)) if then.id == now.id => last.at + now.up.saturating_sub(then.up),
            _ => last.at.max(reading.wall),
        });
        let apart = by_old_clock.since(reading.wall).max(reading.wall.since(by_old_clock));
        let now = if apart <= DRIFT_MAX { by_old_clock } else { reading.wall };
        let clock = Self { origin: now, started: reading.at, boot: reading.boot };
        (clock, Resumed { by_old_clock, now })
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.origin + self.started.elapsed()
    }

    /// Now, to be found again.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        let elapsed = self.started.elapsed();
        let boot = self.boot.map(|boot| Boot { up: boot.up + elapsed, ..boot });
        Pulse { at: self.origin + elapsed, boot }
    }

    /// When `time` will be, for waiting; `None` if that is too far to be told.
    #[must_use]
    pub fn instant(&self, time: Time) -> Option<Instant> {
        self.started.checked_add(time.since(self.origin))
    }
}

/// Linux tells both.
#[cfg(target_os = "linux")]
fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().chars().filter(|digit| *digit != '-').collect();
    Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
}

#[cfg(target_os = "linux")]
fn uptime() -> Option<Duration> {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Some(Duration::new(u64::try_from(up.tv_sec).ok()?, u32::try_from(up.tv_nsec).ok()?))
}

#[cfg(not(target_os = "linux"))]
fn boot_id() -> Option<[u8; 16]> {
    None
}

#[cfg(not(target_os = "linux"))]
fn uptime() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(hours: u32) -> Time {
        Time::ZERO + HOUR * hours
    }

    fn boot(id: u8, hours: u32) -> Option<Boot> {
        Some(Boot { id: [id; 16], up: HOUR * hours })
    }

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

    /// Goal: between two processes goes by what the machine's uptime says, and by a date only where it did not go back.
    #[test]
    fn goes_on_after_a_restart() {
        let last = Pulse { at: at(1_000), boot: boot(1, 5) };
        for (wall, boot, by_old_clock, now) in [
            (at(1_002), boot(1, 7), at(1_002), at(1_002)),
            // The date was set forward, or back; the machine knows better.
            (at(9_000), boot(1, 7), at(1_002), at(9_000)),
            (at(10), boot(1, 7), at(1_002), at(10)),
            // The machine was started anew, or does not tell.
            (at(1_002), boot(2, 1), at(1_002), at(1_002)),
            (at(10), boot(2, 1), at(1_000), at(10)),
            (at(1_002), None, at(1_002), at(1_002)),
        ] {
            let (_, resumed) = Clock::resume(&Reading { at: Instant::now(), wall, boot }, Some(&last));
            assert_eq!(resumed, Resumed { by_old_clock, now }, "{wall} {boot:?}");
        }
    }

    /// Goal: whatever a process does between reading the machine's clocks and needing one, its clock is not behind: the next process
    /// would make up for it, and refill twice.
    #[test]
    fn a_late_start_is_not_behind() {
        let last = Pulse { at: at(1_000), boot: boot(1, 5) };
        let reading = Reading { at: Instant::now(), wall: at(1_002), boot: boot(1, 7) };
        let (clock, resumed) = Clock::resume(&reading, Some(&last));
        assert_eq!(resumed, Resumed::at(at(1_002)));
        assert_eq!(clock.instant(resumed.now), Some(reading.at));
    }

    /// Goal: a drift of the wall clock moves nothing.
    #[test]
    fn small_drifts_are_kept() {
        let last = Pulse { at: at(1_000), boot: boot(1, 5) };
        let wall = at(1_000) + Duration::from_millis(300);
        let (clock, resumed) =
            Clock::resume(&Reading { at: Instant::now(), wall, boot: boot(1, 5) }, Some(&last));
        assert_eq!(resumed, Resumed::at(at(1_000)));
        let pulse = clock.pulse();
        assert!(pulse.at >= at(1_000) && pulse.boot.expect("told").up >= HOUR * 5);
    }
}
