//! Who is next: start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996) in two levels, priority
//! classes first and the tenants of each class below. This file is the whole policy.
//!
//! Service is measured in ticks of the limit that the permit takes most of (its dominant cost, as in Ghodsi et al., "Dominant
//! Resource Fairness", NSDI 2011). A flow's next request starts at `S = max(V, F)`, where `F` is where its last one finished and `V`
//! where the last one served started; it finishes at `S + ticks / weight`; the least `S` is served. When a permit is settled, the difference between estimate and actual moves
//! the flow's tag (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024), so an estimate that is wrong gains and
//! loses nothing.

use smallvec::SmallVec;

use crate::{
    limit::{TICKS_PER_NANO_BITS, Ticks},
    request::Priority,
};

/// How far behind the others a flow may be at most, in virtual time. Without it, a flow that something else held back for long (a
/// frozen model, its own cap) would afterwards be served alone until it had caught up.
const LAG_MAX: Ticks = 4_000_000_000 << TICKS_PER_NANO_BITS;

/// One tenant in one class.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Where its next request starts.
    pub(crate) start: Ticks,
    /// Its lanes, one for every set of limits touched.
    pub(crate) lanes: SmallVec<[u32; 2]>,
}

/// The tags of the classes, and virtual time.
#[derive(Debug, Default)]
pub(crate) struct Fair {
    classes: [Class; 3],
    now: Ticks,
}

#[derive(Debug, Default)]
struct Class {
    start: Ticks,
    now: Ticks,
}

impl Fair {
    /// The classes, the next to be served first. Between equals, the heavier.
    pub(crate) fn order(&self) -> [Priority; 3] {
        let mut order = Priority::ALL;
        order.sort_by_key(|class| self.classes[class.index()].start);
        order
    }

    /// Where the next request of a class starts.
    pub(crate) fn class_start(&self, class: Priority) -> Ticks {
        self.classes[class.index()].start
    }

    /// A class gets its first request while `others` have some: what it left unused is not saved up.
    pub(crate) fn class_wakes(&mut self, class: Priority, others: impl Iterator<Item = Priority>) {
        let first = others.map(|other| self.classes[other.index()].start).min();
        let entry = &mut self.classes[class.index()];
        entry.start = entry.start.max(joins_at(self.now, first));
    }

    /// A flow gets its first request while the first of its rivals starts at `first`: what it left unused is not saved up.
    pub(crate) fn flow_wakes(&self, class: Priority, flow: &mut Flow, first: Option<Ticks>) {
        flow.start = flow.start.max(joins_at(self.classes[class.index()].now, first));
    }

    /// A request of the flow is served.
    pub(crate) fn serve(&mut self, class: Priority, flow: &mut Flow, weight: u32, ticks: Ticks) {
        let entry = &mut self.classes[class.index()];
        let start = entry.start.max(self.now.saturating_sub(LAG_MAX));
        self.now = self.now.max(start);
        entry.start = start.saturating_add(share(ticks, class.weight()));

        let start = flow.start.max(entry.now.saturating_sub(LAG_MAX));
        entry.now = entry.now.max(start);
        flow.start = start.saturating_add(share(ticks, weight));
    }

    /// A permit of the flow was settled: it had been charged `charged` and was worth `actual`.
    pub(crate) fn correct(
        &mut self,
        class: Priority,
        flow: &mut Flow,
        weight: u32,
        charged: Ticks,
        actual: Ticks,
    ) {
        let entry = &mut self.classes[class.index()];
        // A class is not moved back past virtual time: what its many permits get back at once would otherwise let it overtake
        // somebody of another class who is waiting already.
        let floor = entry.start.min(self.now);
        move_by(&mut entry.start, charged, actual, class.weight());
        entry.start = entry.start.max(floor);
        move_by(&mut flow.start, charged, actual, weight);
    }
}

/// Where a newcomer starts: at virtual time, but not behind everyone who is there. Refunds can have moved all of them back.
fn joins_at(now: Ticks, first: Option<Ticks>) -> Ticks {
    first.map_or(now, |first| first.min(now))
}

fn move_by(start: &mut Ticks, charged: Ticks, actual: Ticks, weight: u32) {
    *start = if actual >= charged {
        start.saturating_add(divide(actual - charged, weight))
    } else {
        start.saturating_sub(divide(charged - actual, weight))
    };
}

/// A request's part of virtual time; never nothing, so that everyone's turn comes.
pub(crate) fn share(ticks: Ticks, weight: u32) -> Ticks {
    divide(ticks, weight).max(1)
}

/// A 64-bit division where it will do: it takes a tenth of the time of a 128-bit one.
fn divide(ticks: Ticks, weight: u32) -> Ticks {
    let weight = weight.max(1);
    match u64::try_from(ticks) {
        Ok(ticks) => Ticks::from(ticks / u64::from(weight)),
        Err(_) => ticks / Ticks::from(weight),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Ticks = 1_000_000_000 << TICKS_PER_NANO_BITS;

    /// Goal: three classes that always have work are served 16 : 4 : 1.
    #[test]
    fn classes_share_by_weight() {
        let mut fair = Fair::default();
        let mut flows: [Flow; 3] = Default::default();
        let mut served = [0_u32; 3];
        for _ in 0..2_100 {
            let class = fair.order()[0];
            fair.serve(class, &mut flows[class.index()], 1, SECOND);
            served[class.index()] += 1;
        }
        assert_eq!(served, [1_600, 400, 100]);
    }

    /// Goal: whoever comes while refunds have moved everyone back is not served last.
    #[test]
    fn newcomers_are_not_behind_refunds() {
        let mut fair = Fair::default();
        let mut batch = Flow::default();
        for _ in 0..20 {
            fair.serve(Priority::Batch, &mut batch, 1, SECOND);
        }
        for _ in 0..20 {
            fair.correct(Priority::Batch, &mut batch, 1, SECOND, SECOND / 10);
        }
        fair.class_wakes(Priority::Interactive, [Priority::Batch].into_iter());
        fair.correct(Priority::Batch, &mut batch, 1, SECOND, SECOND / 10);
        assert!(fair.class_start(Priority::Interactive) <= fair.class_start(Priority::Batch));
        let mut late = Flow::default();
        fair.flow_wakes(Priority::Batch, &mut late, Some(batch.start));
        assert!(late.start <= batch.start);
    }

    /// Goal: time away earns nothing beyond the bounded lag.
    #[test]
    fn being_held_back_is_not_saved_up() {
        let mut fair = Fair::default();
        let (mut busy, mut held) = (Flow::default(), Flow::default());
        for _ in 0..1_000 {
            fair.serve(Priority::Standard, &mut busy, 1, SECOND);
        }
        let mut catching_up = 0;
        while held.start < busy.start {
            fair.serve(Priority::Standard, &mut held, 1, SECOND);
            catching_up += 1;
        }
        assert!(catching_up <= 5, "served {catching_up} times in a row");
    }
}
