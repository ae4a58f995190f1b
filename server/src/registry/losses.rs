//! Budgets that are given up at once, written down or not: the store leaves them out of what it writes, without an error. So whoever made a
//! change and waits until it is written down has to know whether it may have gone with them.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often that was, and whether it is going on.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    begun: AtomicU64,
    going_on: AtomicU64,
}

/// Budgets are being given up.
#[derive(Debug)]
pub(crate) struct GivingUp<'a>(&'a Losses);

impl Losses {
    /// Begins to give budgets up, until the answer is dropped: from before the first of them is left out until after the last.
    pub(crate) fn begin(&self) -> GivingUp<'_> {
        // In this order, and read in the other one: whoever counts this one as over sees nothing of it go on.
        self.going_on.fetch_add(1, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        GivingUp(self)
    }

    /// How often that was; `None` while it is going on, when a change may go with it or not. A change that is made after this was asked
    /// is written down if the number is the same when the store has written.
    pub(crate) fn count(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::SeqCst);
        (self.going_on.load(Ordering::SeqCst) == 0).then_some(begun)
    }
}

impl Drop for GivingUp<'_> {
    fn drop(&mut self) {
        self.0.going_on.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::Losses;

    /// Goal: nobody takes a change for written down that was made before or while budgets were given up; one made after that is its own.
    #[test]
    fn a_change_in_the_middle_is_not_counted_on() {
        let losses = Losses::default();
        let before = losses.count().expect("nothing is given up");
        let (one, other) = (losses.begin(), losses.begin());
        assert_eq!(losses.count(), None);
        drop(one);
        assert_eq!(losses.count(), None, "the other goes on");
        drop(other);
        let after = losses.count().expect("it is over");
        assert_ne!(before, after);
        assert_eq!(losses.count(), Some(after));
    }
}
