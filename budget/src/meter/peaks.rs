//! How full a bucket has been since a charge. A charge that is given back raises the level by no more than the bucket would have had
//! room for all the time since: what it would have held above its burst would have been lost, and giving it back now would
//! mint it.
//!
//! With `l(t)` the level, the bucket without a charge `x` at time `a` would now hold `min(x, min over t in [a, now] of burst - l(t))`
//! more, so the highest level since `a` is all that has to be known. It is kept as a stack of falling levels, each with the
//! last charge before which it was reached (the monotone queue of sliding-window maxima).

/// Levels that are kept apart. Past it, those that are close to each other are taken for the highest of them, which gives back less, never
/// more. Many at a time: to look for the closest two at each charge took a thirtieth of a busy server's time.
const PEAKS_MAX: usize = 48;

/// The order of charges: each is later than those with a smaller number.
pub(crate) type Order = u64;

#[derive(Clone, Debug, Default)]
pub(crate) struct Peaks(Vec<Peak>);

#[derive(Clone, Copy, Debug)]
struct Peak {
    order: Order,
    level: i128,
}

impl Peaks {
    pub(crate) fn saved(&self) -> Vec<(Order, i128)> {
        self.0.iter().map(|peak| (peak.order, peak.level)).collect()
    }

    /// From [`Peaks::saved`]; what is in no order, or too much, is taken for higher than it was.
    pub(crate) fn restored(saved: &[(Order, i128)]) -> Self {
        let mut peaks = Self::default();
        for &(order, level) in saved {
            peaks.charge(order, level);
        }
        peaks
    }

    /// A charge is about to lower the level, which is a peak.
    pub(crate) fn charge(&mut self, order: Order, level: i128) {
        while self.0.last().is_some_and(|last| last.level <= level) {
            self.0.pop();
        }
        self.0.push(Peak { order, level });
        if self.0.len() > PEAKS_MAX {
            self.thin_out();
        }
    }

    /// The highest level before any charge later than `order`; `level` is the one now.
    pub(crate) fn since(&self, order: Order, level: i128) -> i128 {
        let later = self.0.partition_point(|peak| peak.order <= order);
        self.0.get(later).map_or(level, |peak| peak.level.max(level))
    }

    /// What was charged at `order` was given back: without it, every level since would have been higher by so much.
    pub(crate) fn give_back(&mut self, order: Order, parts: i128) {
        let later = self.0.partition_point(|peak| peak.order <= order);
        for peak in &mut self.0[later..] {
            peak.level += parts;
        }
        // Those before the charge that are not higher any more.
        if let Some(raised) = self.0.get(later).map(|peak| peak.level) {
            let higher = self.0[..later].partition_point(|peak| peak.level > raised);
            self.0.drain(higher..later);
        }
    }

    /// Another bucket, which holds so much more or less at the same level.
    pub(crate) fn rescale(&mut self, rescaled: impl Fn(i128) -> i128) {
        for peak in &mut self.0 {
            peak.level = rescaled(peak.level);
        }
    }

    /// Leaves three in four at most: of gaps that are no larger than the median, every second one at least is closed.
    fn thin_out(&mut self) {
        let mut gaps = [0; PEAKS_MAX];
        for (gap, pair) in gaps.iter_mut().zip(self.0.windows(2)) {
            *gap = pair[0].level - pair[1].level;
        }
        let (_, &mut median, _) = gaps.select_nth_unstable(PEAKS_MAX / 2);
        self.0.dedup_by(|later, kept| {
            let is_close = kept.level - later.level <= median;
            if is_close {
                kept.order = later.order;
            }
            is_close
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the highest level since a charge is known, and never underestimated, however many charges there were.
    #[test]
    fn knows_the_highest_level_since() {
        let mut peaks = Peaks::default();
        for (order, level) in [(1, 100), (2, 90), (3, 80), (4, 85), (5, 40)] {
            peaks.charge(order, level);
        }
        assert_eq!(peaks.since(0, 0), 100);
        assert_eq!(peaks.since(1, 0), 90);
        assert_eq!(peaks.since(2, 0), 85);
        assert_eq!(peaks.since(4, 0), 40);
        assert_eq!(peaks.since(4, 50), 50);
        assert_eq!(peaks.since(5, 30), 30);

        let mut many = Peaks::default();
        for order in 1..=1_000 {
            many.charge(order, 1_000 - i128::from(order));
        }
        for order in 0..1_000 {
            let (found, exact) = (many.since(order, 0), 999 - i128::from(order));
            assert!((exact..=exact + 80).contains(&found), "since {order}: {found}, not {exact}");
        }
    }
}
