//! The audit trail: who changed what, newest first. Bounded in entries and in bytes: the oldest go first. Entries outlive the
//! budgets they tell of.
//!
//! What is entered goes to the store with the change itself; the trail of an earlier process is where it begins.

use std::{collections::VecDeque, fmt, hash::Hasher as _, sync::Arc};

use parking_lot::Mutex;
use permitd_budget::Time;
use permitd_proto::v1;
use siphasher::sip::SipHasher13;

use crate::{
    cell::Declared,
    config::BudgetName,
    store::{Keeper, rows},
    wire::{budget, encode},
};

/// What all entries may take together, about. Budgets may declare thousands of tenants.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The part of a number that tells servers apart, where there are several.
const TAG: u64 = 0xfff;

/// The audit trail, and the order of changes: it is made under one lock, so that entries stand in the order in which the
/// changes took place.
pub struct Trail {
    entries_max: usize,
    /// Of this server among others: numbers of theirs differ by it.
    tag: Option<u64>,
    keeper: Option<Arc<Keeper>>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// The newest at the back.
    kept: VecDeque<Arc<Entry>>,
    /// What they take, about.
    bytes: usize,
    /// Of the next entry; counts from 1, so that 0 is before all of them.
    next: u64,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Later entries have larger numbers.
    pub number: u64,
    /// When.
    pub at: Time,
    /// The caller's identity, or `loopback`.
    pub who: String,
    /// What was done.
    pub what: What,
    /// To which budget; `None` where it was done to a server.
    pub budget: Option<BudgetName>,
    /// The server that a budget was moved to, or that was drained; empty for what has to do with none.
    pub server: String,
    /// What stood before; `None` for a new budget.
    pub before: Option<Declared>,
    /// What stands now; `None` for a deleted budget.
    pub after: Option<Declared>,
    /// What the caller said about why.
    pub reason: String,
}

/// What can be done to a budget, or to a server of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Created or replaced.
    Set,
    /// Paused.
    Pause,
    /// Resumed.
    Resume,
    /// Deleted.
    Delete,
    /// Back to what the configuration declares.
    Reset,
    /// Other limits by the budget's schedule.
    Schedule,
    /// To a server, where it stays; to none: it may be wherever the cluster likes.
    Move,
    /// A server takes no budgets.
    Drain,
    /// It takes budgets again.
    Undrain,
}

impl What {
    /// All of them.
    pub const ALL: [What; 9] = [
        What::Set,
        What::Pause,
        What::Resume,
        What::Delete,
        What::Reset,
        What::Schedule,
        What::Move,
        What::Drain,
        What::Undrain,
    ];

    /// The wire's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            What::Set => "set",
            What::Pause => "pause",
            What::Resume => "resume",
            What::Delete => "delete",
            What::Reset => "reset",
            What::Schedule => "schedule",
            What::Move => "move",
            What::Drain => "drain",
            What::Undrain => "undrain",
        }
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("entries_max", &self.entries_max).finish_non_exhaustive()
    }
}

impl Trail {
    /// An empty trail that keeps at most so many entries.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self::resume(entries_max, Vec::new(), None)
    }

    /// Goes on from what an earlier process entered, the oldest first.
    pub(crate) fn resume(entries_max: usize, entered: Vec<Entry>, keeper: Option<Arc<Keeper>>) -> Self {
        let mut entries = Entries { kept: VecDeque::new(), bytes: 0, next: 1 };
        for entry in entered {
            entries.next = entries.next.max(entry.number.saturating_add(1));
            entries.bytes += entry.bytes();
            entries.kept.push_back(Arc::new(entry));
        }
        let trail = Self { entries_max, tag: None, keeper, entries: Mutex::new(entries) };
        trail.forget_oldest(&mut trail.entries.lock());
        trail
    }

    /// One of several servers, by its name: entries are numbered by time, and none as another server's.
    pub(crate) fn shared_by(self, server: &str) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(server.as_bytes());
        Self { tag: Some(hasher.finish() & TAG), ..self }
    }

    /// Makes a change and enters it, or, if it can't be made, neither. The entry's number is filled in here.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn make<T, E>(&self, change: impl FnOnce() -> Result<(T, Entry), E>) -> Result<T, E> {
        let mut entries = self.entries.lock();
        let (made, mut entry) = change()?;
        entry.number = match self.tag {
            None => entries.next,
            Some(tag) => entries.next.max(entry.at.as_nanos()) & !TAG | tag,
        };
        entries.next = entry.number + if self.tag.is_some() { TAG + 1 } else { 1 };
        entries.bytes += entry.bytes();
        if let Some(keeper) = &self.keeper {
            keeper.push([rows::put_change(&entry)]);
        }
        entries.kept.push_back(Arc::new(entry));
        self.forget_oldest(&mut entries);
        Ok(made)
    }

    /// Takes in what another server entered. What is known already is left as it is.
    pub(crate) fn enter(&self, entry: Entry) {
        let mut entries = self.entries.lock();
        let at = entries.kept.partition_point(|known| known.number < entry.number);
        if entries.kept.get(at).is_some_and(|known| known.number == entry.number) {
            return;
        }
        entries.next = entries.next.max(entry.number.saturating_add(1));
        entries.bytes += entry.bytes();
        entries.kept.insert(at, Arc::new(entry));
        self.forget_oldest(&mut entries);
    }

    fn forget_oldest(&self, entries: &mut Entries) {
        while entries.kept.len() > self.entries_max || (entries.bytes > BYTES_MAX && entries.kept.len() > 1) {
            let oldest = entries.kept.pop_front().expect("the bounds hold for an empty trail");
            entries.bytes -= oldest.bytes();
            if let Some(keeper) = &self.keeper {
                keeper.push([rows::remove_change(oldest.number)]);
            }
        }
    }

    /// At most `most` entries of budgets, or of none, that `wanted` holds for, the newest first, from before the entry of number `before`.
    #[must_use]
    pub fn page(
        &self,
        before: Option<u64>,
        most: usize,
        wanted: impl Fn(Option<&BudgetName>) -> bool,
    ) -> Vec<Arc<Entry>> {
        let entries = self.entries.lock();
        let older =
            entries.kept.iter().rev().filter(|entry| before.is_none_or(|before| entry.number < before));
        older.filter(|entry| wanted(entry.budget.as_ref())).take(most).cloned().collect()
    }
}

impl Entry {
    /// As callers see it.
    pub(crate) fn to_wire(&self) -> v1::Change {
        let written =
            |declared: &Option<Declared>| Some(budget::write(self.budget.as_ref()?, declared.as_ref()?));
        v1::Change {
            at: Some(encode::timestamp(self.at)),
            who: self.who.clone(),
            what: self.what.name().to_owned(),
            before: written(&self.before),
            after: written(&self.after),
            reason: self.reason.clone(),
            server: self.server.clone(),
        }
    }

    /// What it takes, about: names and limits, each with what surrounds them.
    fn bytes(&self) -> usize {
        const ITEM: usize = 128;
        let of = |declared: &Option<Declared>| {
            declared.as_ref().map_or(0, |declared| {
                let scheduled = declared.spec.schedule.iter().map(|entry| &entry.limit);
                let limits = declared.spec.limits.iter().chain(scheduled);
                let limits =
                    limits.map(|limit| limit.unit.len() + limit.models.len() + limit.tenants.len() + ITEM);
                let tenants = declared.spec.tenants.keys().map(|name| name.len() + ITEM);
                limits.chain(tenants).sum::<usize>()
            })
        };
        2 * ITEM + self.reason.len() + of(&self.before) + of(&self.after)
    }
}

#[cfg(test)]
mod tests {
    use permitd_budget::{BudgetSpec, TenantSpec};

    use super::*;
    use crate::cell::Source;

    fn enter(trail: &Trail, budget: &str, what: What) {
        let entry = Entry {
            number: 0,
            at: Time::ZERO,
            who: "loopback".to_owned(),
            what,
            budget: Some(budget.parse().expect("a name")),
            server: String::new(),
            before: None,
            after: None,
            reason: String::new(),
        };
        trail.make(|| Ok::<_, ()>(((), entry))).expect("a change that is made");
    }

    fn numbers(entries: &[Arc<Entry>]) -> Vec<u64> {
        entries.iter().map(|entry| entry.number).collect()
    }

    /// Goal: newest first, page by page, and what comes meanwhile shifts nothing.
    #[test]
    fn pages_are_stable() {
        let trail = Trail::new(100);
        for _ in 0..5 {
            enter(&trail, "a/x", What::Set);
        }
        let first = trail.page(None, 2, |_| true);
        assert_eq!(numbers(&first), [5, 4]);
        enter(&trail, "a/x", What::Delete);
        assert_eq!(numbers(&trail.page(Some(4), 2, |_| true)), [3, 2]);
        assert_eq!(numbers(&trail.page(Some(2), 2, |_| true)), [1]);
        assert_eq!(numbers(&trail.page(Some(1), 2, |_| true)), [0; 0]);
    }

    /// Goal: the trail is bounded, and the oldest go first.
    #[test]
    fn forgets_the_oldest() {
        let trail = Trail::new(3);
        for _ in 0..10 {
            enter(&trail, "a/x", What::Pause);
        }
        assert_eq!(numbers(&trail.page(None, 100, |_| true)), [10, 9, 8]);
    }

    /// Goal: a few huge budgets, changed again and again, can't fill the memory.
    #[test]
    fn is_bounded_in_bytes() {
        let tenants = (0..10_000).map(|tenant| (format!("{tenant:0>256}"), TenantSpec::default()));
        let spec =
            BudgetSpec { tenants: tenants.collect(), ..BudgetSpec::default() }.check().expect("makes sense");
        let huge = Declared { spec, etag: String::new(), source: Source::Admin };
        let trail = Trail::new(1_000);
        for _ in 0..100 {
            let budget = Some("a/x".parse().expect("a name"));
            let after = Some(huge.clone());
            let (number, at, who, server, reason) =
                (0, Time::ZERO, String::new(), String::new(), String::new());
            let entry =
                Entry { number, at, who, what: What::Set, budget, server, before: None, after, reason };
            trail.make(|| Ok::<_, ()>(((), entry))).expect("a change that is made");
        }
        let kept = trail.page(None, 1_000, |_| true);
        assert!((1..20).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept[0].number, 100, "the newest is kept");
    }

    /// Goal: a change that was not made leaves no entry, and entries are found by budget.
    #[test]
    fn enters_what_was_done() {
        let trail = Trail::new(10);
        enter(&trail, "a/x", What::Set);
        enter(&trail, "b/x", What::Resume);
        assert_eq!(trail.make(|| Err::<((), Entry), _>("no")), Err("no"));
        assert_eq!(
            numbers(&trail.page(None, 10, |name| name.is_some_and(|name| name.provider() == "b"))),
            [2]
        );
        assert_eq!(trail.page(None, 10, |_| true)[0].what.name(), "resume");
    }
}
