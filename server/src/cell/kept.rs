//! A budget's side of being written down: what changed, and what follows once that is durable or is not.

use std::mem;

use permitd_budget::{Budget, Event, PermitChange, Pressure, Time};

use super::{Cell, Life, State, heart::Asleep};
use crate::{
    inbox::Waiter,
    store::{StoredBudget, Write, rows},
};

/// What a save of a budget wrote, to be written again if that failed.
#[derive(Debug)]
pub(crate) struct CellSave {
    declared_anew: bool,
    permits: Vec<PermitChange>,
}

impl Cell {
    /// Everything that changed since the last time, as rows. What became of them has to be told by [`Cell::saved`] or
    /// [`Cell::not_saved`]. After the `last` one, nothing is granted any more.
    pub(crate) fn save(&self, last: bool, rows: &mut Vec<Write>) -> CellSave {
        let mut state = self.footing.contention.lock(&self.state);
        state.noted = None;
        if state.life == (Life::Away { in_order: false }) {
            return CellSave { declared_anew: false, permits: Vec::new() };
        }
        let last = last || state.is_away();
        let declared_anew = mem::take(&mut state.declared_anew);
        let deleted = state.life == Life::Deleted;
        let stored = declared_anew.then(|| StoredBudget {
            name: self.name.clone(),
            declared: state.declared.clone(),
            paused: state.heart.is_paused(),
            deleted,
        });
        if deleted {
            let mark = stored.filter(|_| state.leaves_a_mark);
            drop(state);
            rows.extend(declared_anew.then(|| rows::remove_budget(self.id)).into_iter().flatten());
            rows.extend(mark.map(|mark| rows::put_budget(self.id, &mark)));
            return CellSave { declared_anew, permits: Vec::new() };
        }
        rows.extend(stored.map(|stored| rows::put_budget(self.id, &stored)));
        let Some(heart) = state.heart.if_awake() else {
            match state.heart.save_asleep(last) {
                Asleep::Nothing => {}
                Asleep::New(balance) => rows.push(rows::write_balance(self.id, &balance)),
                Asleep::Full => rows.push(rows::remove_balance(self.id)),
            }
            return CellSave { declared_anew, permits: Vec::new() };
        };
        let (balance, permits) = heart.save(self.footing.clock.now(), last);
        drop(state);
        rows.push(rows::write_balance(self.id, &balance));
        rows.extend(permits.iter().map(|(slot, permit)| rows::put_permit(self.id, *slot, permit.as_ref())));
        CellSave { declared_anew, permits }
    }

    /// What was saved last is durable.
    pub(crate) fn saved(&self) {
        self.after_save(true, |heart, now, events| heart.saved(now, events));
    }

    /// What was saved last is not durable, and has to be told again.
    pub(crate) fn not_saved(&self, save: CellSave) {
        self.footing.contention.lock(&self.state).declared_anew |= save.declared_anew;
        self.after_save(false, |heart, now, events| heart.not_saved(now, &save.permits, events));
        self.note(&mut self.footing.contention.lock(&self.state));
    }

    /// Changes nothing that would have to be saved, unless somebody got what he waited for, or waits for more than was set aside.
    fn after_save(
        &self,
        is_durable: bool,
        call: impl FnOnce(&mut Budget<Waiter>, Time, &mut Vec<Event<Waiter>>),
    ) {
        let mut state = self.footing.contention.lock(&self.state);
        let now = self.footing.clock.now();
        let State { heart, events, .. } = &mut *state;
        heart.saved_asleep(is_durable);
        let Some(heart) = heart.if_awake() else { return };
        let mut events = mem::take(events);
        call(heart, now, &mut events);
        self.set_alarm(&mut state);
        if !state.is_away() && (state.heart.pressure() > Pressure::None || !events.is_empty()) {
            self.note(&mut state);
        }
        if events.is_empty() {
            state.events = events;
            return;
        }
        state.note_events(now, &events);
        let finished = mem::take(&mut state.finished);
        drop(state);
        self.deliver(events);
        Self::tell_finished(finished);
    }

    /// Tells the keeper, if it does not know yet. Under the lock, so that what is told is never older than what is saved.
    pub(super) fn note(&self, state: &mut State) {
        let Some(keeper) = &self.footing.keeper else { return };
        // While it sleeps there is its declaration, and once it is given up, that nothing of what was set aside is taken.
        let gives_up = state.is_away() && state.heart.has_set_aside();
        if !(state.heart.is_awake() || state.declared_anew || gives_up) {
            return;
        }
        let pressure = Some(state.heart.pressure());
        if state.noted < pressure {
            let first = state.noted.is_none().then(|| self.this.upgrade()).flatten();
            state.noted = pressure;
            keeper.note(first, state.heart.pressure());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use permitd_budget::{Acquired, Outcome, PermitKey, Report};

    use crate::{
        alarm::Alarms,
        cell::{Cell, Footing, sample},
        clock::Clock,
        inbox::Waiter,
        store::{Keeper, Table, Write},
    };

    /// Goal: a budget that was given away is written down once more, and not again when somebody asks it for anything: that would be
    /// refused, since the claim is gone, and everything that is written with it would wait.
    #[test]
    fn what_was_given_away_is_written_once() {
        let clock = Clock::start();
        let (alarms, _thread) = Alarms::start("alarms", clock).expect("a thread");
        let keeper = Some(Arc::<Keeper>::default());
        let footing = Arc::new(Footing { keeper, ..Footing::in_memory(clock, alarms) });
        let cell = sample::cell(7, 1, &footing);
        let is_noted = || cell.state.lock().noted.is_some();
        let save = || {
            let mut rows = Vec::new();
            cell.save(false, &mut rows);
            cell.saved();
            rows.len()
        };
        // Nobody has asked it for anything: there is its declaration and what it may grant, once.
        assert!(save() == 2 && !is_noted() && save() == 0);
        cell.pause();
        cell.resume();
        assert!(save() > 1);
        cell.leave(true);
        assert!(is_noted() && save() > 0, "once more");
        assert!(cell.report(PermitKey::from_u64(1), &Report::new(Outcome::Success)).is_none());
        assert!(!is_noted());
        // A write that failed is made again.
        cell.leave(true);
        let saved = cell.save(false, &mut Vec::new());
        cell.not_saved(saved);
        assert!(is_noted());
    }

    /// Goal: what is deleted is written as deleted, also if the server begins to end at that moment; and once its name is another budget's,
    /// nothing is written that would say of that one that it was deleted.
    #[test]
    fn what_is_deleted_stays_deleted() {
        let clock = Clock::start();
        let (alarms, _thread) = Alarms::start("alarms", clock).expect("a thread");
        let footing = Arc::new(Footing { keeper: Some(Arc::default()), ..Footing::in_memory(clock, alarms) });
        let save = |cell: &Cell| {
            let mut rows = Vec::new();
            let save = cell.save(false, &mut rows);
            let of_budgets = rows.into_iter().filter_map(|row| match row {
                Write::Put(Table::Budgets, ..) => Some("put"),
                Write::Remove(Table::Budgets, _) => Some("removed"),
                _ => None,
            });
            (of_budgets.collect::<Vec<_>>(), save)
        };
        let (drained, renamed) = (sample::cell(1, 1, &footing), sample::cell(2, 1, &footing));
        drained.delete(true);
        drained.drain();
        assert_eq!(save(&drained).0, ["removed", "put"], "it is gone, and a mark is left");
        renamed.delete(true);
        let (rows, failed) = save(&renamed);
        assert_eq!(rows, ["removed", "put"]);
        renamed.leave_no_mark();
        renamed.not_saved(failed);
        assert_eq!(save(&renamed).0, ["removed"], "no mark behind what has the name now");
    }

    /// Goal: what a new budget may grant before its next write is set aside while it sleeps, so that its first request waits for none;
    /// and given up, or at the end, one that nobody asked is full.
    #[test]
    fn sets_aside_while_it_sleeps() {
        let clock = Clock::start();
        let (alarms, _thread) = Alarms::start("alarms", clock).expect("a thread");
        let footing = Arc::new(Footing { keeper: Some(Arc::default()), ..Footing::in_memory(clock, alarms) });
        let new = |id| {
            let cell = sample::cell(id, 100, &footing);
            let mut rows = Vec::new();
            let save = cell.save(false, &mut rows);
            (cell, save, rows)
        };
        let acquire = |cell: &Cell| cell.acquire(sample::request(Waiter::nobody())).expect("taken");
        let is_balance = |row: &Write| matches!(row, Write::Put(Table::Balances, ..));
        let (written, _, rows) = new(1);
        assert!(rows.iter().any(is_balance));
        written.saved();
        assert!(matches!(acquire(&written), Acquired::Granted(_)));
        // Not before it is durable; and again, where it was not.
        let (under_way, _, _) = new(2);
        assert!(matches!(acquire(&under_way), Acquired::Waiting(_)));
        let (failed, save, _) = new(3);
        failed.not_saved(save);
        let mut again = Vec::new();
        failed.save(false, &mut again);
        assert!(again.iter().any(is_balance));
        // Nothing of it was granted.
        let (given_up, _, _) = new(4);
        given_up.saved();
        given_up.leave(true);
        let mut last = Vec::new();
        given_up.save(false, &mut last);
        assert!(matches!(last[..], [Write::Remove(Table::Balances, _)]), "{last:?}");
    }
}
