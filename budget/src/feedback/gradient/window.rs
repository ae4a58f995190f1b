//! Calls, averaged until there are enough of them to say something.

use super::percent;

/// What a window takes: so many calls, or so many times the limit if that is more, but never more than this.
const WINDOW_CALLS: u64 = 30;
const WINDOW_ROUNDS: u64 = 2;
const WINDOW_CALLS_MAX: u64 = 2_000;
/// Calls differ: so many that 4 mean deviations of the average are a quarter of it, half of what is tolerated.
const PRECISION: u64 = 16;

/// Calls that are being averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    calls: u64,
    latency: u128,
    /// Differences of each call from the one before: a level that moves does not count as one.
    deviation: u128,
    last: u64,
    running: u128,
}

/// The averages of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) calls: u64,
    /// Nanoseconds of a call; at least 1.
    pub(super) short: u64,
    /// Nanoseconds by which a call differs from the next.
    pub(super) deviation: u64,
    /// Calls at once; at least 1.
    pub(super) running: u64,
}

impl Window {
    pub(super) fn add(&mut self, latency: u64, running: u64) {
        if self.calls > 0 {
            self.deviation += u128::from(self.last.abs_diff(latency));
        }
        self.calls += 1;
        self.latency += u128::from(latency);
        self.running += u128::from(running);
        self.last = latency;
    }

    /// Its averages, once it has calls enough for a limit of so much, of which each deviates by about `spread`. Then it begins anew.
    pub(super) fn end(&mut self, limit: u64, spread: u64) -> Option<Seen> {
        if self.calls < WINDOW_ROUNDS.saturating_mul(limit).clamp(WINDOW_CALLS, WINDOW_CALLS_MAX) {
            return None;
        }
        let average = |sum: u128| whole(sum / u128::from(self.calls));
        let (short, running) = (average(self.latency).max(1), average(self.running).max(1));
        let seen = Seen { calls: self.calls, short, deviation: average(self.deviation), running };
        let precise = ratio(PRECISION, seen.deviation.max(spread), short).saturating_pow(2);
        if self.calls < precise.min(WINDOW_CALLS_MAX) {
            return None;
        }
        *self = Self::default();
        Some(seen)
    }
}

impl Seen {
    /// Calls per second, in per cent of another's: calls at once by seconds per call.
    pub(super) fn throughput_of(&self, other: &Self) -> u64 {
        let (this, that) = (u128::from(self.running), u128::from(other.running));
        whole(this * u128::from(other.short) * 100 / (that * u128::from(self.short)))
    }

    pub(super) fn uses(&self, least_percent: u64, limit: u64) -> bool {
        self.running >= percent(limit, least_percent)
    }
}

/// As many calls as run at once.
pub(super) fn rounds(limit: u64) -> u64 {
    limit.min(WINDOW_CALLS_MAX / WINDOW_ROUNDS)
}

/// `amount` x `part` / `of`, to the nearest.
pub(super) fn ratio(amount: u64, part: u64, of: u64) -> u64 {
    let of = u128::from(of.max(1));
    whole((u128::from(amount) * u128::from(part) + of / 2) / of)
}

pub(super) fn mean(one: u64, other: u64) -> u64 {
    u64::midpoint(one, other)
}

pub(super) fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
