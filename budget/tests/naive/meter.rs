//! What one limit holds at an instant, found by adding up a full log: slow, and hard to get wrong.
//!
//! Where the rules leave the heart a choice (which of two close instants a merged grant leaves a sliding window, how a changed level
//! is rounded), the answer has two sides: the most and the least that an honest heart may hold.

use std::time::Duration;

use permitd_budget::{LimitSpec, Time, Window};

/// Which end of what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// No heart may hold more: bounds what may be granted.
    Most,
    /// No heart may hold less: bounds what has to be granted.
    Least,
}

#[derive(Clone, Debug)]
enum Entry {
    Charge { permit: u64, amount: u64, most: u64, most_at: i128, least_at: i128 },
    Refund { permit: u64, amount: u64, at: i128 },
    Debit { most: i128, least: i128, at: i128 },
    Change { to: LimitSpec, at: i128 },
    Known { level: i128, at: i128 },
}

/// One limit of one budget, or of one tenant where the limit is `each`.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    first: LimitSpec,
    spec: LimitSpec,
    since: i128,
    log: Vec<Entry>,
}

/// A bucket's log, added up.
#[derive(Clone, Debug)]
struct Walked {
    level: i128,
    /// Since when it has been refilling, or from when on it will.
    refills_from: i128,
    /// What came of each entry.
    steps: Vec<Step>,
}

/// What came of one entry of a bucket's log.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The level before it.
    before: i128,
    /// What it gave back.
    back: i128,
}

/// How late a bucket that was full may begin to refill, in nanoseconds.
const START: i128 = 25_000_000;

/// How a limit counts, with everything worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Bucket,
    Fixed { phase: i128, per: i128 },
    Sliding { length: i128 },
}

impl Meter {
    pub(crate) fn new(spec: &LimitSpec, now: Time) -> Self {
        Self { first: spec.clone(), spec: spec.clone(), since: instant(now), log: Vec::new() }
    }

    pub(crate) fn charge(&mut self, permit: u64, amount: u64, now: Time) {
        let at = instant(now);
        self.log.push(Entry::Charge { permit, amount, most: amount, most_at: at, least_at: at });
    }

    /// A permit in flight when the limit was added. Whether it counts from its grant or from now is open.
    pub(crate) fn charge_late(&mut self, permit: u64, amount: u64, granted: Time, now: Time) {
        let most = match rule(&self.spec) {
            // The replay caps the debt itself.
            Rule::Bucket => amount,
            _ => {
                let room = self.level(Side::Least, now) + i128::from(capacity(&self.spec));
                u64::try_from(i128::from(amount).min(room.max(0))).expect("at most the amount")
            }
        };
        self.log.push(Entry::Charge {
            permit,
            amount,
            most,
            most_at: instant(granted),
            least_at: instant(now),
        });
    }

    pub(crate) fn settle(&mut self, permit: u64, charged: u64, actual: u64, now: Time) {
        let at = instant(now);
        if actual < charged {
            self.log.push(Entry::Refund { permit, amount: charged - actual, at });
        } else if actual > charged {
            let debit = i128::from(actual - charged);
            let room = |side| (self.level(side, now) + i128::from(capacity(&self.spec))).max(0);
            let (most, least) = match rule(&self.spec) {
                // The replay caps these itself.
                Rule::Bucket => (debit, debit),
                _ => (debit.min(room(Side::Least)), debit.min(2 * i128::from(self.spec.amount))),
            };
            self.log.push(Entry::Debit { most, least, at });
        }
    }

    /// Whether the change is one whose effect on the level is settled; otherwise look with [`Meter::known`].
    pub(crate) fn change(&mut self, to: &LimitSpec, now: Time) -> bool {
        let settled = rule(&self.spec) == rule(to);
        self.spec = to.clone();
        self.log.push(Entry::Change { to: to.clone(), at: instant(now) });
        settled
    }

    /// Starts again from what the heart says, rounded down.
    pub(crate) fn known(&mut self, level: i64, now: Time) {
        self.first = self.spec.clone();
        self.since = instant(now);
        self.log = vec![Entry::Known { level: i128::from(level), at: instant(now) }];
    }

    /// How many parts make one unit: levels and costs are whole numbers of parts.
    pub(crate) fn parts(&self) -> i128 {
        match rule(&self.spec) {
            Rule::Bucket => span(self.spec.per),
            _ => 1,
        }
    }

    /// What could be taken, in parts; negative in debt.
    pub(crate) fn level(&self, side: Side, now: Time) -> i128 {
        self.level_at(side, instant(now))
    }

    /// Whether `cost` units could be taken.
    pub(crate) fn fits(&self, side: Side, cost: u128, now: Time) -> bool {
        self.level(side, now) >= self.need(cost)
    }

    /// When `cost` units could be taken if nothing else happened; `None` is never.
    pub(crate) fn fits_from(&self, side: Side, cost: u128, now: Time) -> Option<i128> {
        let now = instant(now);
        let need = self.need(cost);
        let level = self.level_at(side, now);
        if level >= need {
            return Some(now);
        }
        match rule(&self.spec) {
            Rule::Bucket if need > burst(&self.spec) * self.parts() => None,
            Rule::Bucket => {
                let from = self.walked(side, now).refills_from.max(now);
                Some(from + ceiling(need - level, i128::from(self.spec.amount)))
            }
            Rule::Fixed { phase, per } => {
                let window = (now - phase).div_euclid(per);
                let mut starts = (1..64).map(|ahead| phase + (window + ahead) * per);
                starts.find(|start| self.level_at(side, *start) >= need)
            }
            Rule::Sliding { .. } => {
                let mut leaves: Vec<i128> =
                    self.log.iter().filter_map(|entry| self.leaves(entry, side)).collect();
                leaves.sort_unstable();
                leaves.into_iter().filter(|at| *at > now).find(|at| self.level_at(side, *at) >= need)
            }
        }
    }

    fn need(&self, cost: u128) -> i128 {
        i128::try_from(cost).expect("costs in model runs are moderate") * self.parts()
    }

    fn level_at(&self, side: Side, now: i128) -> i128 {
        match rule(&self.spec) {
            Rule::Bucket => self.bucket(side, now),
            Rule::Fixed { phase, per } => {
                i128::from(self.spec.amount) - self.fixed_used(side, now, phase, per)
            }
            Rule::Sliding { .. } => i128::from(capacity(&self.spec)) - self.sliding_used(side, now),
        }
    }

    fn bucket(&self, side: Side, now: i128) -> i128 {
        self.walked(side, now).level
    }

    fn walked(&self, side: Side, now: i128) -> Walked {
        let most = self.walk(now, None);
        if side == Side::Most { most } else { self.walk(now, Some(&most.steps)) }
    }

    /// Adds up the log of a bucket: the most that it may hold, and how it came to that; with what came of that, the least.
    fn walk(&self, now: i128, most_steps: Option<&[Step]>) -> Walked {
        let side = if most_steps.is_some() { Side::Least } else { Side::Most };
        let parts = span(self.spec.per);
        let mut spec = &self.first;
        let mut level = burst(spec) * parts;
        let mut last = self.since;
        let mut steps = Vec::new();
        // The level before each entry, as it would have been without what was given back since; and where in it permits were charged.
        let mut history: Vec<i128> = Vec::new();
        let mut charged: Vec<(u64, usize)> = Vec::new();
        for (place, entry) in self.log.iter().enumerate() {
            let at = moment(entry);
            let most = most_steps.map(|steps| steps[place]);
            level = refill(level, spec, at - last);
            last = last.max(at);
            history.push(level);
            let mut step = Step { before: level, back: 0 };
            // A bucket that may have been full may begin to refill a moment late.
            if takes(entry) && most.is_some_and(|most| most.before == burst(spec) * parts) {
                last = at + START;
            }
            match entry {
                Entry::Charge { permit, amount, .. } => {
                    level -= i128::from(*amount) * parts;
                    if side == Side::Most {
                        level = level.max(-i128::from(spec.amount) * parts);
                    }
                    charged.push((*permit, history.len()));
                }
                Entry::Refund { permit, amount, .. } => {
                    // What would have overflowed without the charge does not come back. Of a charge made under another way of
                    // counting nothing may come back.
                    let since = charged.iter().find(|(of, _)| of == permit).map(|(_, at)| *at);
                    let unknown = if side == Side::Most { history.len() - 1 } else { 0 };
                    let since = since.unwrap_or(unknown);
                    let peak = history[since..].iter().max().expect("the level of now is there");
                    let room = (burst(spec) * parts - peak).max(0);
                    let back = if since == 0 { 0 } else { room.min(i128::from(*amount) * parts) };
                    // The less there was, the more comes back: no more than that has to.
                    step.back = most.map_or(back, |most| back.min(most.back));
                    history[since..].iter_mut().for_each(|level| *level += step.back);
                    level += step.back;
                }
                Entry::Debit { most, .. } => {
                    let capped = (level - most * parts).max(-i128::from(spec.amount) * parts);
                    level = if side == Side::Most { capped } else { capped.min(level) };
                }
                Entry::Change { to, .. } => {
                    level = rescale(side, level, burst(spec), burst(to), parts);
                    for before in &mut history {
                        *before = rescale(side, *before, burst(spec), burst(to), parts);
                    }
                    // Debt stays absolute, and is capped at one window's amount, perhaps at once.
                    if side == Side::Most {
                        level = level.max(-i128::from(to.amount) * parts);
                    }
                    spec = to;
                }
                Entry::Known { level: known, .. } => {
                    level = (known + i128::from(side == Side::Most)) * parts;
                    // What was used under another way of counting may be taken from a full one.
                    if side == Side::Least {
                        last = at + START;
                    }
                }
            }
            steps.push(step);
        }
        Walked { level: refill(level, spec, now - last), refills_from: last, steps }
    }

    fn sliding_used(&self, side: Side, now: i128) -> i128 {
        let inside = |entry: &Entry| self.leaves(entry, side).is_some_and(|leaves| leaves > now);
        let used: i128 =
            self.log.iter().filter(|entry| inside(entry)).map(|entry| self.held(entry, side)).sum();
        used.max(0)
    }

    /// When an entry leaves a sliding window.
    fn leaves(&self, entry: &Entry, side: Side) -> Option<i128> {
        let Rule::Sliding { length } = rule(&self.spec) else { return None };
        let lag = match side {
            Side::Most => 0,
            Side::Least => ceiling(length, 1024),
        };
        match (entry, side) {
            (Entry::Charge { most_at, .. }, Side::Most) => Some(most_at + length),
            (Entry::Known { at, .. }, Side::Most) => Some(at + 1),
            (Entry::Charge { .. } | Entry::Known { .. } | Entry::Debit { .. }, _) => {
                Some(moment(entry) + length + lag)
            }
            (Entry::Refund { .. } | Entry::Change { .. }, _) => None,
        }
    }

    /// What an entry of a sliding window holds once refunds are taken off.
    fn held(&self, entry: &Entry, side: Side) -> i128 {
        match entry {
            Entry::Charge { permit, amount, most, most_at, .. } => {
                let until = match side {
                    Side::Most => self.leaves(entry, Side::Least),
                    Side::Least => self.leaves(&Entry::Debit { most: 0, least: 0, at: *most_at }, Side::Most),
                };
                let held = if side == Side::Most { *most } else { *amount };
                i128::from(held) - self.refunds(*permit, |at| until.is_some_and(|until| at < until))
            }
            Entry::Debit { most, .. } if side == Side::Most => *most,
            Entry::Debit { least, .. } => *least,
            Entry::Known { level, .. } => {
                let used = i128::from(capacity(&self.first)) - level;
                // Refunds of what was charged before are honest, and may come too late.
                let back = if side == Side::Most { self.refunds_of_earlier() + 1 } else { 0 };
                (used - back).max(0)
            }
            Entry::Refund { .. } | Entry::Change { .. } => 0,
        }
    }

    fn fixed_used(&self, side: Side, now: i128, phase: i128, per: i128) -> i128 {
        let window = |at: i128| (at - phase).div_euclid(per);
        let place = |entry: &Entry| match (entry, side) {
            (Entry::Charge { most_at, .. }, Side::Most) => window(*most_at),
            _ => window(moment(entry)),
        };
        let held = |entry: &Entry| match entry {
            Entry::Charge { permit, amount, most, most_at, least_at } => {
                let refunded = |at| match side {
                    Side::Most => window(at) == window(*most_at) || window(at) == window(*least_at),
                    Side::Least => window(at) == window(*most_at) && window(at) == window(*least_at),
                };
                let held = if side == Side::Most { *most } else { *amount };
                i128::from(held) - self.refunds(*permit, refunded)
            }
            Entry::Known { .. } if side == Side::Most => 0,
            other => self.held(other, side),
        };
        // What was used under another way of counting may be kept for a whole window more.
        let kept = |entry: &Entry, at| matches!(entry, Entry::Known { .. }) && place(entry) == at - 1;
        let used = |at: i128| -> i128 {
            let counts = |entry: &&Entry| place(entry) == at || (side == Side::Least && kept(entry, at));
            self.log.iter().filter(counts).map(held).sum()
        };
        match side {
            Side::Most => used(window(now)).max(0),
            Side::Least => used(window(now)).max(0) + self.carried(window(now), place, used),
        }
    }

    /// What was over the amount in earlier windows and has not been made up for by what was left in later ones.
    fn carried(&self, now: i128, place: impl Fn(&Entry) -> i128, used: impl Fn(i128) -> i128) -> i128 {
        let changed = self.log.iter().filter_map(|entry| match entry {
            Entry::Change { to, .. } => Some(to.amount),
            _ => None,
        });
        let amount = i128::from(changed.chain([self.first.amount]).min().expect("there is a first"));
        let mut windows: Vec<i128> =
            self.log.iter().flat_map(|entry| [place(entry), place(entry) + 1]).collect();
        windows.sort_unstable();
        windows.dedup();
        let mut carried = 0;
        let mut next = None;
        for at in windows.into_iter().filter(|at| *at < now) {
            carried -= (at - next.unwrap_or(at)) * amount;
            carried = (carried.max(0) + used(at) - amount).max(0);
            next = Some(at + 1);
        }
        (carried - next.map_or(0, |next| (now - next) * amount)).max(0)
    }

    fn refunds_of_earlier(&self) -> i128 {
        let charged = |of: u64| {
            self.log.iter().any(|entry| matches!(entry, Entry::Charge { permit, .. } if *permit == of))
        };
        let refund = |entry: &Entry| match entry {
            Entry::Refund { permit, amount, .. } if !charged(*permit) => i128::from(*amount),
            _ => 0,
        };
        self.log.iter().map(refund).sum()
    }

    fn refunds(&self, of: u64, counts: impl Fn(i128) -> bool) -> i128 {
        let refund = |entry: &Entry| match entry {
            Entry::Refund { permit, amount, at } if *permit == of && counts(*at) => i128::from(*amount),
            _ => 0,
        };
        self.log.iter().map(refund).sum()
    }
}

/// How a limit counts.
pub(crate) fn rule(spec: &LimitSpec) -> Rule {
    let per = span(spec.per);
    match spec.window {
        Window::Bucket => Rule::Bucket,
        Window::Fixed { phase: Some(phase) } => Rule::Fixed { phase: instant(phase), per },
        Window::Fixed { phase: None } | Window::Sliding => Rule::Sliding { length: per },
        Window::Quantised { quantum } if share(spec.amount, quantum, per) > 0 => {
            Rule::Sliding { length: span(Some(quantum)) }
        }
        Window::Quantised { .. } => Rule::Sliding { length: ceiling(per, i128::from(spec.amount)) },
    }
}

/// The most that the limit ever holds.
pub(crate) fn capacity(spec: &LimitSpec) -> u64 {
    match spec.window {
        Window::Bucket if spec.burst != 0 => spec.burst,
        Window::Quantised { quantum } => {
            u64::try_from(share(spec.amount, quantum, span(spec.per)).max(1)).expect("at most the amount")
        }
        _ => spec.amount,
    }
}

/// Rounded up.
pub(crate) fn ceiling(whole: i128, by: i128) -> i128 {
    whole.div_euclid(by) + i128::from(whole.rem_euclid(by) != 0)
}

/// An instant as a plain number of nanoseconds.
pub(crate) fn instant(time: Time) -> i128 {
    i128::from(time.as_nanos())
}

fn share(amount: u64, quantum: Duration, per: i128) -> i128 {
    i128::from(amount) * span(Some(quantum)) / per
}

fn span(per: Option<Duration>) -> i128 {
    i128::try_from(per.expect("a limit over time has a window").as_nanos())
        .expect("a window is at most a year")
}

fn burst(spec: &LimitSpec) -> i128 {
    i128::from(capacity(spec))
}

fn refill(level: i128, spec: &LimitSpec, nanoseconds: i128) -> i128 {
    (level + i128::from(spec.amount) * nanoseconds.max(0)).min(burst(spec) * span(spec.per))
}

fn rescale(side: Side, level: i128, from: i128, to: i128, parts: i128) -> i128 {
    if level < 0 || from == to {
        return level;
    }
    match side {
        Side::Most => ceiling(level * to, from),
        Side::Least => level * to / from - parts,
    }
}

fn takes(entry: &Entry) -> bool {
    match entry {
        Entry::Charge { amount, .. } => *amount > 0,
        Entry::Debit { most, .. } => *most > 0,
        Entry::Refund { .. } | Entry::Change { .. } | Entry::Known { .. } => false,
    }
}

fn moment(entry: &Entry) -> i128 {
    match entry {
        Entry::Charge { least_at: at, .. }
        | Entry::Refund { at, .. }
        | Entry::Debit { at, .. }
        | Entry::Change { at, .. }
        | Entry::Known { at, .. } => *at,
    }
}
