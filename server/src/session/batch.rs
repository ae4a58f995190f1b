//! The acquires and reports of one message: read first, then put to each budget in runs under one lock, then answered. Locks
//! are what a busy budget costs most, and nothing that takes long happens under one. Answers may come in another order than the
//! items: those for one budget come together.

use std::mem;

use super::{asking::Asking, core::Core, settling::Settling};
use crate::{
    shared::{Shared, unknown},
    wire::items,
};

/// Acquires, and reports, that are put to budgets together, and at most so many of each under one lock.
pub(super) const RUN_MAX: usize = 64;

/// What was read and not put to its budgets yet.
pub(super) struct Batch<'a> {
    pub(super) settling: Settling<'a>,
    pub(super) asking: Asking<'a>,
}

impl Core {
    /// Settles what is reported, and asks for what is to be acquired. A budget has both under one lock: it comes from the core that used it
    /// last once, and not twice.
    pub(super) fn exchange(
        &mut self,
        shared: &Shared,
        reports: &[items::Report<'_>],
        acquires: &[items::Acquire<'_>],
    ) {
        // Borrowed by the requests below, while the rest of the session changes.
        let tenant = mem::take(&mut self.tenant);
        let (settling, asking) = (Settling::of(reports.len()), Asking::of(&tenant, acquires.len()));
        let mut batch = Batch { settling, asking };
        self.report_all(shared, reports, &mut batch);
        self.acquire_all(shared, acquires, &mut batch);
        self.put(shared, &mut batch);
        self.tenant = tenant;
    }

    /// Puts what was read to its budgets, each one's reports first, and answers.
    pub(super) fn put(&mut self, shared: &Shared, batch: &mut Batch<'_>) {
        let Batch { settling, asking } = batch;
        let reports = by_budget(&settling.run, |settled| settled.id);
        let acquires = by_budget(&asking.run, |asked| self.ledger.cells.cell(asked.at).id());
        let mut acquires = acquires.chunk_by(is_one).peekable();
        for reports in reports.chunk_by(is_one) {
            let of = |acquires: &&[Place]| acquires[0].0.cmp(&reports[0].0);
            while let Some(before) = acquires.next_if(|acquires| of(acquires).is_lt()) {
                self.put_to_one(shared, (settling, &[]), (asking, before));
            }
            let same = acquires.next_if(|acquires| of(acquires).is_eq()).unwrap_or_default();
            self.put_to_one(shared, (settling, reports), (asking, same));
        }
        for rest in acquires {
            self.put_to_one(shared, (settling, &[]), (asking, rest));
        }
        settling.run.clear();
        asking.clear();
    }

    /// Puts what there is for one budget to it, and answers.
    fn put_to_one(
        &mut self,
        shared: &Shared,
        (settling, reports): (&mut Settling<'_>, &[Place]),
        (asking, acquires): (&mut Asking<'_>, &[Place]),
    ) {
        let Some(&(id, _)) = reports.first().or(acquires.first()) else { return };
        let at = match acquires.first() {
            Some(&(_, place)) => Some(asking.run[place].at),
            None => self.ledger.cells.of_id(id),
        };
        let Settling { run, answers: reported } = &mut *settling;
        let told = reports.iter().map(|&(_, place)| (run[place].permit, run[place].report()));
        let Asking { run, answers: acquired, .. } = &mut *asking;
        let asked = acquires.iter().filter_map(|&(_, place)| run[place].take(shared, &self.inbox));
        let is_here = match at {
            Some(at) => self.ledger.cells.cell(at).exchange((told, reported), (asked, acquired)),
            None => match shared.registry.by_id(id) {
                Some(cell) => cell.exchange((told, reported), (asked, acquired)),
                None if shared.cluster.is_some() => false,
                None => {
                    reported.extend(told.map(|(_, report)| (unknown(report.outcome), None)));
                    true
                }
            },
        };
        if is_here {
            self.answer_reports(shared, settling, reports);
        } else {
            for &(_, place) in reports {
                self.settle_elsewhere(shared, &settling.run[place]);
            }
        }
        if let Some(at) = at.filter(|_| !acquires.is_empty()) {
            self.answer_acquires(shared, asking, (at, acquires));
        }
    }
}

/// An item's budget, by its cell's id, and its place in the run.
pub(super) type Place = (u32, usize);

fn is_one(one: &Place, other: &Place) -> bool {
    one.0 == other.0
}

/// The places of a run's items, those for one budget together, each in the order in which they came.
fn by_budget<T>(run: &[T], budget: impl Fn(&T) -> u32) -> Vec<Place> {
    let mut places: Vec<_> = run.iter().enumerate().map(|(place, item)| (budget(item), place)).collect();
    places.sort_unstable();
    places
}
