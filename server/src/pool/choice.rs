//! Whom to ask first: members by preference, and among those alike by weight, smoothly: 3 : 1 is a a b a, and not a a a b. Who could not
//! grant takes no part in a round, so nobody catches up later on what it could not serve.

use std::cmp::Reverse;

use smallvec::SmallVec;

/// Members by their places in the pool, in the order in which they are asked.
pub(crate) type Order = SmallVec<[usize; 8]>;

/// How much each member is due.
#[derive(Debug)]
pub(super) struct Choice(Vec<Turn>);

#[derive(Debug)]
struct Turn {
    prefer: u32,
    weight: i64,
    /// Rounds in which it was passed by, less those that were its own. All of them together are zero.
    credit: i64,
}

impl Choice {
    /// Of members with these `(prefer, weight)`.
    pub(super) fn new(members: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let turn = |(prefer, weight): (u32, u32)| Turn { prefer, weight: weight.into(), credit: 0 };
        Self(members.into_iter().map(turn).collect())
    }

    /// Whom to ask, one after the other.
    pub(super) fn order(&self) -> Order {
        let mut order: Order = (0..self.0.len()).collect();
        order.sort_by_key(|&at| {
            let turn = &self.0[at];
            (turn.prefer, Reverse(turn.credit + turn.weight))
        });
        order
    }

    /// The first of those left of an [`Choice::order`] granted at once. Those before it could not.
    pub(super) fn granted(&mut self, left: &[usize]) {
        let Some(&first) = left.first() else { return };
        let prefer = self.0[first].prefer;
        let mut round = 0;
        for &at in left {
            let turn = &mut self.0[at];
            if turn.prefer == prefer {
                turn.credit += turn.weight;
                round += turn.weight;
            }
        }
        self.0[first].credit -= round;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rounds` rounds in which the members for which `can` holds can grant.
    fn play(choice: &mut Choice, rounds: usize, can: impl Fn(usize) -> bool) -> Vec<usize> {
        let round = |_| {
            let order = choice.order();
            let place = order.iter().position(|&at| can(at)).expect("somebody can");
            choice.granted(&order[place..]);
            order[place]
        };
        (0..rounds).map(round).collect()
    }

    fn counts(played: &[usize], members: usize) -> Vec<usize> {
        (0..members).map(|at| played.iter().filter(|&&one| one == at).count()).collect()
    }

    /// Goal: shares are those of the weights, and smooth: in no stretch is a member ahead by more than a call.
    #[test]
    fn shares_follow_weights() {
        let mut choice = Choice::new([(1, 5), (1, 3), (1, 2)]);
        let played = play(&mut choice, 1_000, |_| true);
        assert_eq!(counts(&played, 3), [500, 300, 200]);
        assert_eq!(played[..10], played[500..510]);
        for (end, _) in played.iter().enumerate() {
            for (at, had) in counts(&played[..=end], 3).into_iter().enumerate() {
                let due = (end + 1) as f64 * [0.5, 0.3, 0.2][at];
                assert!((had as f64 - due).abs() <= 1.0, "member {at} had {had} of {due} after {end}");
            }
        }
    }

    /// Goal: who is preferred is asked first, whatever the weights; the others only while it can't.
    #[test]
    fn preference_goes_first() {
        let mut choice = Choice::new([(2, 1_000), (1, 1), (3, 1)]);
        assert_eq!(choice.order().as_slice(), [1, 0, 2]);
        assert_eq!(counts(&play(&mut choice, 50, |_| true), 3), [0, 50, 0]);
        assert_eq!(counts(&play(&mut choice, 50, |at| at != 1), 3), [50, 0, 0]);
        assert_eq!(counts(&play(&mut choice, 50, |_| true), 3), [0, 50, 0]);
    }

    /// Goal: a member that was out for long does not catch up: it has its share from then on, and no more.
    #[test]
    fn nobody_catches_up() {
        let mut choice = Choice::new([(1, 1), (1, 1), (1, 1)]);
        assert_eq!(counts(&play(&mut choice, 10_000, |at| at != 2), 3), [5_000, 5_000, 0]);
        let back = counts(&play(&mut choice, 300, |_| true), 3);
        assert!(back.iter().all(|had| had.abs_diff(100) <= 1), "{back:?}");
    }
}
