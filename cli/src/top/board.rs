//! Every budget that is watched, with what it did of late; which of them are shown, and in what order.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use permitd_budget::Glob;
use permitd_proto::v1;
use permitd_server::shown::{Pressure, filter_glob};

/// Seconds that are remembered of each budget.
pub(super) const SECONDS: usize = 60;

/// A budget's name, `provider/key`.
pub(super) type Name = Arc<str>;

/// Provider and key of a name; only keys may have a slash.
pub(super) fn parts(name: &str) -> (String, String) {
    let (provider, key) = name.split_once('/').unwrap_or((name, ""));
    (provider.to_owned(), key.to_owned())
}

/// One budget.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) state: v1::BudgetState,
    pub(super) pressure: Pressure,
    /// The last [`SECONDS`], the oldest first.
    pub(super) history: VecDeque<Second>,
    /// What `granted_total` was when the last second ended.
    counted: u64,
}

/// What a budget did in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Second {
    pub(super) granted: u64,
    /// At its end.
    pub(super) waiting: u64,
}

impl Seen {
    /// Permits granted in the last whole second.
    pub(super) fn rate(&self) -> u64 {
        self.history.back().map_or(0, |second| second.granted)
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Pressure,
    Waiting,
    Granted,
    Refusals,
    Name,
}

impl Order {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Pressure => Self::Waiting,
            Self::Waiting => Self::Granted,
            Self::Granted => Self::Refusals,
            Self::Refusals => Self::Name,
            Self::Name => Self::Pressure,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pressure => "pressure",
            Self::Waiting => "waiting",
            Self::Granted => "granted",
            Self::Refusals => "429s",
            Self::Name => "name",
        }
    }
}

/// All budgets.
#[derive(Debug, Default)]
pub(super) struct Board {
    budgets: BTreeMap<Name, Seen>,
    shown: Vec<Name>,
    filter: String,
    order: Order,
    reversed: bool,
    /// Whether `shown` is not what it would be now.
    stale: bool,
}

impl Board {
    /// Takes in what a watch told.
    pub(super) fn take(&mut self, states: Vec<v1::BudgetState>) {
        for state in states {
            let Some(budget) = &state.budget else { continue };
            let name: Name = format!("{}/{}", budget.provider, budget.key).into();
            self.stale = true;
            if budget.etag.is_empty() {
                self.budgets.remove(&name);
                continue;
            }
            let granted = state.granted_total;
            // What was granted before it was first seen is nothing of the last second.
            let seen =
                self.budgets.entry(name).or_insert_with(|| Seen { counted: granted, ..Seen::default() });
            seen.pressure = Pressure::of(&state);
            seen.state = state;
        }
    }

    /// Another connection tells everything anew.
    pub(super) fn clear(&mut self) {
        self.budgets.clear();
        self.stale = true;
    }

    /// Another second is over.
    pub(super) fn tick(&mut self) {
        self.stale |= self.order == Order::Granted;
        for seen in self.budgets.values_mut() {
            let granted = seen.state.granted_total.saturating_sub(seen.counted);
            seen.counted = seen.state.granted_total;
            if seen.history.len() == SECONDS {
                seen.history.pop_front();
            }
            seen.history.push_back(Second { granted, waiting: seen.state.waiting.into() });
        }
    }

    /// What is shown, in order.
    pub(super) fn shown(&mut self) -> &[Name] {
        if std::mem::take(&mut self.stale) {
            self.shown = self.arranged();
        }
        &self.shown
    }

    fn arranged(&self) -> Vec<Name> {
        let wanted = Glob::new(&filter_glob(&self.filter));
        let mut found: Vec<(&Name, &Seen)> =
            self.budgets.iter().filter(|(name, _)| wanted.matches(name)).collect();
        // Sorting is stable, and they come by name.
        match self.order {
            Order::Pressure => found.sort_by_key(|(_, seen)| Reverse(seen.pressure)),
            Order::Waiting => found.sort_by_key(|(_, seen)| Reverse(seen.state.waiting)),
            Order::Granted => found.sort_by_key(|(_, seen)| Reverse(seen.rate())),
            Order::Refusals => found.sort_by_key(|(_, seen)| Reverse(seen.state.rate_limited_total)),
            Order::Name => {}
        }
        if self.reversed {
            found.reverse();
        }
        found.into_iter().map(|(name, _)| Arc::clone(name)).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Seen> {
        self.budgets.get(name)
    }

    /// All budgets, shown or not.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = &Seen> {
        self.budgets.values()
    }

    /// Shows those whose names match: a glob, or without a star a part of the name. Empty shows all.
    pub(super) fn filter(&mut self, filter: &str) {
        filter.clone_into(&mut self.filter);
        self.stale = true;
    }

    pub(super) fn filtered_by(&self) -> &str {
        &self.filter
    }

    pub(super) fn order_next(&mut self) {
        self.order = self.order.next();
        self.stale = true;
    }

    pub(super) fn reverse(&mut self) {
        self.reversed = !self.reversed;
        self.stale = true;
    }

    /// What comes first, for people.
    pub(super) fn ordered_by(&self) -> String {
        format!("{}{}", self.order.name(), if self.reversed { ", reversed" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(key: &str, waiting: u32, granted_total: u64) -> v1::BudgetState {
        let budget = v1::Budget {
            provider: "p".to_owned(),
            key: key.to_owned(),
            etag: "e".to_owned(),
            ..v1::Budget::default()
        };
        v1::BudgetState { budget: Some(budget), waiting, granted_total, ..v1::BudgetState::default() }
    }

    fn names(board: &mut Board) -> Vec<String> {
        board.shown().iter().map(ToString::to_string).collect()
    }

    /// Goal: who is waited for most comes first, by name among equals; filters and orders change what is shown and nothing else.
    #[test]
    fn arranges() {
        let mut board = Board::default();
        board.take(vec![state("a", 0, 5), state("b", 3, 0), state("c", 0, 0), state("d", 7, 0)]);
        assert_eq!(names(&mut board), ["p/d", "p/b", "p/a", "p/c"]);
        board.reverse();
        assert_eq!(names(&mut board), ["p/c", "p/a", "p/b", "p/d"]);
        board.reverse();
        board.filter("/c");
        assert_eq!(names(&mut board), ["p/c"]);
        board.filter("p/*");
        assert_eq!(names(&mut board).len(), 4);
        board.filter("nobody");
        assert_eq!(names(&mut board), [""; 0]);
        assert_eq!(board.all().len(), 4);
        board.filter("");
        for _ in 0..4 {
            board.order_next();
        }
        assert_eq!(board.ordered_by(), "name");
        assert_eq!(names(&mut board), ["p/a", "p/b", "p/c", "p/d"]);
    }

    /// Goal: a second has what was granted in it, and a budget that is gone leaves.
    #[test]
    fn counts_seconds() {
        let mut board = Board::default();
        board.take(vec![state("a", 0, 1_000)]);
        board.tick();
        board.take(vec![state("a", 2, 1_004)]);
        board.tick();
        let seen = board.get("p/a").expect("it is there");
        let nothing = Second::default();
        assert_eq!(seen.history, [nothing, Second { granted: 4, waiting: 2 }]);
        for _ in 0..2 * SECONDS {
            board.tick();
        }
        assert_eq!(board.get("p/a").expect("it is there").history.len(), SECONDS);
        let mut gone = state("a", 0, 0);
        gone.budget.as_mut().expect("given").etag.clear();
        board.take(vec![gone]);
        assert!(board.shown().is_empty() && board.get("p/a").is_none());
    }
}
