//! Which custom_ids are known: answered by an earlier run, or met in this run's input. A million of them take some 40 MB,
//! however long they are.

use std::collections::{HashMap, hash_map::Entry};

use siphasher::sip128::SipHasher13;

/// Requests in one input, and lines in one file of results. Past it the input has to be split.
pub(super) const REQUESTS_MAX: usize = 10_000_000;

/// Custom_ids by their 128-bit hash: that two of ten million share one is less likely than a fault of the memory.
#[derive(Debug, Default)]
pub(super) struct Ids(HashMap<u128, Known>);

#[derive(Clone, Copy, Debug)]
enum Known {
    /// Its result was written by an earlier run.
    Answered,
    /// It stands on this line of the input.
    On(u64),
}

/// What is known of a custom_id that is met in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    New,
    Answered,
    /// It stands on this earlier line already.
    Doubled(u64),
    /// There are [`REQUESTS_MAX`] others.
    Full,
}

impl Ids {
    /// Its result is written. False if there are too many.
    #[must_use]
    pub(super) fn answered(&mut self, custom_id: &str) -> bool {
        self.0.insert(hash(custom_id), Known::Answered);
        self.0.len() <= REQUESTS_MAX
    }

    /// It stands on this line of the input.
    pub(super) fn meet(&mut self, custom_id: &str, line: u64) -> Met {
        let full = self.0.len() >= REQUESTS_MAX;
        match self.0.entry(hash(custom_id)) {
            Entry::Vacant(_) if full => Met::Full,
            Entry::Vacant(free) => {
                free.insert(Known::On(line));
                Met::New
            }
            Entry::Occupied(mut known) => match known.insert(Known::On(line)) {
                Known::Answered => Met::Answered,
                Known::On(first) => {
                    known.insert(Known::On(first));
                    Met::Doubled(first)
                }
            },
        }
    }
}

fn hash(custom_id: &str) -> u128 {
    SipHasher13::new().hash(custom_id.as_bytes()).as_u128()
}

#[cfg(test)]
mod tests {
    use super::{Ids, Met};

    /// Goal: an answered request is met once, and its double is a double all the same.
    #[test]
    fn tells_answered_from_doubled() {
        let mut ids = Ids::default();
        assert!(ids.answered("a"));
        let met = [("a", 1), ("b", 2), ("a", 3), ("b", 4), ("b", 5)].map(|(id, line)| ids.meet(id, line));
        assert_eq!(met, [Met::Answered, Met::New, Met::Doubled(1), Met::Doubled(2), Met::Doubled(2)]);
    }
}
