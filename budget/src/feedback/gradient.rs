//! How many calls a provider carries at once before it gets slower: for limits in flight that say so ([`Adapt::Latency`]), of
//! providers that let calls queue inside instead of refusing them.
//!
//! The idea is that of Gradient2 in Netflix's concurrency-limits (`Gradient2Limit.java`): what calls take now against what they took in
//! the long run; up while the one is within a tolerance of the other, else down by their ratio, and nothing while the limit is not
//! used. It needs no refusal, and no target that somebody has to guess. But its long average follows everything: under a lasting load
//! it ends at what calls take in the queue, and the limit climbs with it. Here the long average is only of times at which nothing
//! queued, and whether calls became longer by themselves is found out by what lowering the limit does. By Little's law (calls at once
//! = calls per second x seconds per call) calls in a queue get shorter as they get fewer; those that are long by themselves do not.
//!
//! [`Adapt::Latency`]: crate::Adapt::Latency

mod window;

use std::time::Duration;

use self::window::{Seen, Window, mean, ratio, rounds, whole};
use super::{
    Teacher,
    learn::Heard,
    pace::{Lesson, percent},
};
use crate::{
    budget::Budget,
    limit::{Limit, members},
    meter::Moment,
    saved::{Resumed, SavedGradient},
    time::{Time, nanos},
};

/// Calls that take so much of what they usually do are no slower (Gradient2's `rttTolerance`, 1.5).
const TOLERANCE_PERCENT: u64 = 150;
/// And with no more than this they certainly do not queue.
const CALM_PERCENT: u64 = 125;
/// Once, a limit falls to no less than this (Gradient2 does the same): an outlier is no reason to stop.
const GRADIENT_MIN_PERCENT: u64 = 50;
/// A little less than the gradient says, so that no queue is left when it is seen what that does.
const UNDERSHOOT_PERCENT: u64 = 85;
/// Where the throughput stays above this there still was a queue, and calls take less than was thought. The limit then falls to so much of
/// itself, until the throughput falls too: half-way between what it would be with a queue and without.
const SAME_PERCENT: u64 = 95;
const AGAIN_PERCENT: u64 = 60;
const SAME_AGAIN_PERCENT: u64 = 80;
/// What a limit starts with of which nothing is known, doubled with every window. It may be too much: that is seen with the first doubling.
const START: u64 = 10;
/// A step up, as a part of the limit: a queue of half the limit is noticed after seven of them.
const STEP_PART: u64 = 16;
/// Nothing rises of which less than this is in use, and nothing falls of which less than that is (Gradient2: half).
const USED_TO_RISE_PERCENT: u64 = 80;
const USED_TO_FALL_PERCENT: u64 = 50;
/// The long average is of so many windows; then it stands until it is put to the test.
const LONG_WINDOWS: u64 = 16;
/// One call counts as no more than so many usual ones: one that hangs says nothing of the others.
const OUTLIER_TIMES: u64 = 8;
/// What differs by more than 4 mean deviations of the average differs by no chance.
const CHANCE_DEVIATIONS: u64 = 4;
/// Longer calls than a permit ever lives are not believed.
const LATENCY_MAX_NANOS: u64 = 86_400_000_000_000;

/// What a limit in flight is held to by how long calls take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gradient {
    limit: u64,
    phase: Phase,
    /// With so many at once nothing queued, as far as known.
    settled: u64,
    /// What calls take when nothing queues, in nanoseconds; 0 if nothing is known. And the windows that say so.
    long: u64,
    windows: u64,
    /// The mean difference of one call from the next, in nanoseconds.
    spread: u64,
    /// When the limit became what it is.
    moved: Time,
    /// When it last moved far. Calls from before then ran beside more, or fewer.
    changed: Time,
    /// Of the calls since then, so many are not looked at: short ones are the first to end.
    skip: u64,
    window: Window,
}

/// How a limit is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Twice as much with every window, since nothing queued so far.
    Double,
    /// A step up with every window.
    Climb,
    /// It has just been lowered: what does that do?
    Test {
        /// The limit, or what was used of it.
        base: u64,
        /// What was seen then.
        before: Seen,
        /// Whether it was not known at all, or thought wrong, what calls take when nothing queues.
        again: bool,
    },
}

/// A successful call, as its report is heard of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    /// From the grant to the report, in nanoseconds, or as the report says.
    pub(crate) latency: u64,
    /// Calls in flight until then, this one included.
    pub(crate) running: u64,
    pub(crate) granted: Time,
    pub(crate) now: Time,
}

impl<W: Clone> Budget<W> {
    /// A call succeeded: limits that follow latency hear how long it took. Of a permit that had ended by itself that is not known; and in
    /// shadow mode nothing is lowered, so nothing can be learned of what lowering does.
    pub(super) fn follow_latency(&mut self, now: Time, heard: &Heard<'_>) {
        if heard.charge.is_none() || self.spec.shadow {
            return;
        }
        let moment = self.moment(now);
        let latency = heard.report.latency.map_or_else(|| now.nanos_since(heard.granted), nanos);
        for at in members(heard.set) {
            self.limits[at].follow_latency(moment, latency, heard.granted);
        }
    }
}

impl Limit {
    /// A call that was granted at `granted` took so many nanoseconds.
    fn follow_latency(&mut self, moment: Moment, latency: u64, granted: Time) {
        let Self { rule, meter: Some(meter) } = self else { return };
        let cap = rule.cap();
        let Some(gradient) = &mut rule.gradient else { return };
        meter.advance(moment.time);
        // Its own slot is free again.
        let running = u64::try_from(meter.capacity() - meter.available()).unwrap_or(0).saturating_add(1);
        if gradient.hear(Timed { latency, running, granted, now: moment.time }, cap) {
            self.apply_pace(moment);
        }
    }
}

impl Gradient {
    /// Nothing is known of a limit of so much.
    pub(crate) fn start(cap: u64, now: Time) -> Self {
        Self::from(START.min(cap), now)
    }

    fn from(limit: u64, now: Time) -> Self {
        let limit = limit.max(1);
        let (phase, window) = (Phase::Double, Window::default());
        let (settled, skip) = (limit, rounds(limit));
        let (moved, changed) = (now, now);
        Self { limit, phase, settled, long: 0, windows: 0, spread: 0, moved, changed, skip, window }
    }

    /// So many at once.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What taught it: since when it is what it is.
    pub(crate) fn lesson(&self) -> Lesson {
        Lesson { at: self.moved, from: Teacher::Latency }
    }

    /// What calls take when nothing queues, if that is known.
    pub(crate) fn usual_latency(&self) -> Option<Duration> {
        (self.long > 0).then_some(Duration::from_nanos(self.long))
    }

    /// Somebody with authority says that there are so many at most.
    pub(crate) fn set_cap(&mut self, cap: u64) {
        (self.limit, self.settled) = (self.limit.min(cap), self.settled.min(cap));
    }

    /// A call succeeded. Says whether the limit, of at most `cap`, is another now.
    pub(crate) fn hear(&mut self, call: Timed, cap: u64) -> bool {
        if call.granted < self.changed {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let most = if self.long > 0 { self.long.saturating_mul(OUTLIER_TIMES) } else { LATENCY_MAX_NANOS };
        self.window.add(call.latency.clamp(1, most.min(LATENCY_MAX_NANOS)), call.running);
        let Some(seen) = self.window.end(self.limit, self.spread) else { return false };
        let before = self.limit;
        self.judge(seen, cap, call.now);
        self.spread = if self.spread == 0 { seen.deviation } else { (3 * self.spread + seen.deviation) / 4 };
        self.limit != before
    }

    fn judge(&mut self, seen: Seen, cap: u64, now: Time) {
        match self.phase {
            Phase::Test { base, before, again } => self.tested((base, before, again), seen, cap, now),
            _ if self.is_slow(&seen) => self.slowed(seen, now),
            phase => {
                self.average(&seen);
                if seen.uses(USED_TO_RISE_PERCENT, self.limit) && self.limit < cap {
                    self.rise(phase, &seen, cap, now);
                }
            }
        }
    }

    /// Whether calls take longer than they do when nothing queues, and not by chance.
    fn is_slow(&self, seen: &Seen) -> bool {
        let more = u128::from(seen.short.saturating_sub(self.long)) * u128::from(seen.calls.isqrt());
        self.long > 0
            && seen.short > percent(self.long, TOLERANCE_PERCENT)
            && more > u128::from(self.spread) * u128::from(CHANCE_DEVIATIONS)
    }

    /// Takes what was seen into the long average, where nothing queued.
    fn average(&mut self, seen: &Seen) {
        let is_calm = self.long == 0 || seen.short <= percent(self.long, CALM_PERCENT);
        let is_new = self.windows < LONG_WINDOWS
            && match self.phase {
                Phase::Double => is_calm,
                _ => seen.running <= self.settled,
            };
        // Clearly shorter: what stood for long is not true any more.
        if percent(seen.short, TOLERANCE_PERCENT) < self.long {
            (self.long, self.windows) = (mean(self.long, seen.short), 2);
        } else if is_new {
            let (sum, windows) = (u128::from(self.long) * u128::from(self.windows), self.windows + 1);
            self.long = whole((sum + u128::from(seen.short)) / u128::from(windows));
            self.windows = windows;
        }
    }

    /// Nothing queues: more are let go.
    fn rise(&mut self, phase: Phase, seen: &Seen, cap: u64, now: Time) {
        let is_calm = seen.short <= percent(self.long, CALM_PERCENT);
        // With so many a queue would have been seen: there is no end in sight.
        let is_far = self.limit > percent(self.settled, TOLERANCE_PERCENT);
        if is_calm && (phase == Phase::Double || is_far) {
            (self.phase, self.settled) = (Phase::Double, self.limit);
            self.move_to(self.limit.saturating_mul(2).min(cap), true, now);
        } else {
            self.phase = Phase::Climb;
            let step = (self.limit / STEP_PART).max(1);
            self.move_to(self.limit.saturating_add(step).min(cap), false, now);
        }
    }

    /// Calls take longer with so many of them.
    fn slowed(&mut self, seen: Seen, now: Time) {
        if !seen.uses(USED_TO_FALL_PERCENT, self.limit) {
            return;
        }
        let base = self.limit.min(seen.running);
        let gradient = ratio(base, self.long, seen.short).max(percent(base, GRADIENT_MIN_PERCENT));
        let limit = ratio(gradient, UNDERSHOOT_PERCENT, 100).max(1);
        if limit >= base {
            // Fewer than one there can't be.
            self.long = mean(self.long, seen.short);
            return;
        }
        // With the first doubling: what it started with may have queued as well.
        let again = self.phase == Phase::Double && self.windows <= 1;
        self.phase = Phase::Test { base, before: seen, again };
        self.move_to(limit, true, now);
    }

    /// The limit was lowered from `base`, and `seen` is what came of it.
    fn tested(&mut self, (base, before, again): (u64, Seen, bool), seen: Seen, cap: u64, now: Time) {
        let same = if again { SAME_AGAIN_PERCENT } else { SAME_PERCENT };
        let is_same = seen.throughput_of(&before) >= same;
        // With a queue, what calls take shrinks with their number; as far as it does not, they take so long by themselves. Half of
        // that is believed where more was known, as the provider may have got slower meanwhile.
        let queued = ratio(before.short, seen.running, before.running);
        if seen.short < self.long {
            self.long = if is_same { seen.short } else { mean(self.long, seen.short) };
        } else if queued < before.short && seen.short > queued {
            let by_itself = (seen.short - queued).min(before.short - queued);
            let more = ratio(seen.short - self.long, by_itself, before.short - queued);
            self.long += if again { more } else { more / 2 };
        }
        self.windows = 2;
        let lower = ratio(self.limit, AGAIN_PERCENT, 100).max(1);
        if is_same && lower < self.limit && seen.uses(USED_TO_RISE_PERCENT, self.limit) {
            self.phase = Phase::Test { base, before, again: true };
            self.move_to(lower, true, now);
            return;
        }
        // As many as give the throughput of before without its queue.
        let limit = ratio(base, seen.short, before.short).clamp(1, base.min(cap).max(1));
        (self.phase, self.settled) = (Phase::Climb, limit);
        self.move_to(limit, true, now);
    }

    /// Another limit. After a large step, those that run are waited for.
    fn move_to(&mut self, limit: u64, is_large: bool, now: Time) {
        if limit != self.limit {
            (self.limit, self.moved) = (limit, now);
            if is_large {
                (self.changed, self.skip) = (now, rounds(limit));
            }
        }
    }

    /// To be written down. What is being tested is not: it is seen again.
    pub(crate) fn saved(&self) -> SavedGradient {
        let Self { limit, settled, long, windows, spread, moved, .. } = *self;
        let doubles = self.phase == Phase::Double;
        SavedGradient { limit, settled, long_nanos: long, windows, spread_nanos: spread, doubles, moved }
    }

    /// As it was written down, of at most `cap`.
    pub(crate) fn restored(saved: &SavedGradient, cap: u64, back: &Resumed) -> Self {
        let SavedGradient { limit, settled, long_nanos, windows, spread_nanos, doubles, moved } = *saved;
        let phase = if doubles { Phase::Double } else { Phase::Climb };
        let new = Self::from(limit.min(cap), back.moved(moved));
        let (long, spread) = (long_nanos.min(LATENCY_MAX_NANOS), spread_nanos.min(LATENCY_MAX_NANOS));
        Self { phase, settled: settled.clamp(1, cap.max(1)), long, windows, spread, ..new }
    }
}
