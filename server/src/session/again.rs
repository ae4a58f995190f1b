//! Answers that are said once more: because the client repeats a request, or because a broken stream may have lost them. A request may have
//! thousands of permits, so they are said a few in each turn, and while they are, nothing more is read; a request of which not all is said
//! yet is not said twice.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use permitd_budget::PermitKey;

use super::{asking::send_grant, core::Core};
use crate::shared::Shared;

/// Grants, and places, that are said again at a time.
const SAID_AT_ONCE: usize = 256;

/// What is to be said again.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// In this order.
    requests: VecDeque<u64>,
    how: HashMap<u64, How, RandomState>,
    /// Of the first request: the permit that was said last.
    said: Option<PermitKey>,
}

/// How much of an answer is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// What is live.
    Open,
    /// All that there is.
    Whole,
}

impl Again {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    fn add(&mut self, request_id: u64, how: How) {
        match self.how.insert(request_id, how) {
            None => self.requests.push_back(request_id),
            Some(before) if before == how => {}
            Some(How::Whole) => {
                self.how.insert(request_id, How::Whole);
            }
            // What has ended was passed over so far.
            Some(How::Open) if self.requests.front() == Some(&request_id) => self.said = None,
            Some(How::Open) => {}
        }
    }

    fn first(&self) -> Option<(u64, How)> {
        let request_id = *self.requests.front()?;
        Some((request_id, *self.how.get(&request_id)?))
    }

    fn first_is_said(&mut self) {
        self.said = None;
        if let Some(request_id) = self.requests.pop_front() {
            self.how.remove(&request_id);
        }
    }
}

impl Core {
    /// The same answer once more, as far as there is one.
    pub(super) fn repeat(&mut self, shared: &Shared, request_id: u64) {
        let is_first = self.again.is_empty();
        self.again.add(request_id, How::Whole);
        if is_first {
            self.say_again(shared);
        }
    }

    /// After a resume: every live grant, and every place.
    pub(super) fn repeat_open(&mut self) {
        // The broken stream may have lost what it said.
        self.again.said = None;
        let open = self.ledger.iter().filter(|(_, asked)| asked.has_live() || asked.ticket.is_some());
        let mut open: Vec<u64> = open.map(|(request_id, _)| request_id).collect();
        open.sort_unstable();
        for request_id in open.into_iter().chain(self.requests_in_pools()) {
            self.again.add(request_id, How::Open);
        }
    }

    /// Says as much as one turn may, and as there is room for.
    pub(super) fn say_again(&mut self, shared: &Shared) {
        let mut most = SAID_AT_ONCE;
        while most > 0
            && !self.out.is_full()
            && let Some((request_id, how)) = self.again.first()
        {
            if !self.grants_again(shared, request_id, how, &mut most) {
                return;
            }
            most = most.saturating_sub(1);
            self.again.first_is_said();
            match self.ledger.find_mut(request_id) {
                Some(asked) => {
                    asked.told = None;
                    if let Some(refused) = asked.refused.as_ref().filter(|_| how == How::Whole) {
                        self.out.refused(refused);
                    }
                    if self.progress {
                        self.tell_place(request_id);
                    }
                }
                None => {
                    self.repeat_in_pool(request_id);
                }
            }
        }
    }

    /// Whether all of them are said.
    fn grants_again(&mut self, shared: &Shared, request_id: u64, how: How, most: &mut usize) -> bool {
        let Some(asked) = self.ledger.find(request_id) else { return true };
        let Some(at) = asked.cell else { return true };
        // Where the answer was a refusal in the end, permits that ended are no part of it.
        let live_only = how == How::Open || asked.refused.is_some();
        let (cell, said) = (self.ledger.cells.cell(at), self.again.said);
        for grant in asked.grants(live_only).filter(|grant| said.is_none_or(|said| said < grant.permit)) {
            if *most == 0 || self.out.is_full() {
                return false;
            }
            // As it stands now: it may have been extended.
            let standing = cell.grant(grant.permit);
            let standing = standing.as_ref().unwrap_or(grant);
            send_grant(shared, self.caller.holder(), &mut self.out, request_id, cell, standing);
            *most -= 1;
            self.again.said = Some(grant.permit);
        }
        true
    }

    /// Nobody comes back: the permit_ids of live grants that were still to be said.
    pub(super) fn bury_again(&mut self, shared: &Shared) -> Vec<String> {
        let mut unsaid = Vec::new();
        while let Some((request_id, _)) = self.again.first() {
            if let Some(asked) = self.ledger.find(request_id)
                && let Some(at) = asked.cell
            {
                let (id, said) = (self.ledger.cells.cell(at).id(), self.again.said);
                let grants = asked.grants(true).filter(|grant| said.is_none_or(|said| said < grant.permit));
                let holder = self.caller.holder();
                unsaid.extend(
                    grants.map(|grant| shared.permit_ids.write(id, grant.permit, holder).as_str().to_owned()),
                );
            }
            self.again.first_is_said();
        }
        unsaid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a request is said once however often that is asked for, in its turn, and as a whole if anybody asks for that.
    #[test]
    fn each_once() {
        let mut again = Again::default();
        for (request_id, how) in
            [(7, How::Open), (3, How::Open), (3, How::Whole), (3, How::Open), (9, How::Whole), (7, How::Open)]
        {
            again.add(request_id, how);
        }
        again.said = Some(PermitKey::from_u64(1));
        again.add(3, How::Whole);
        assert!(again.said.is_some(), "of another one");
        again.add(7, How::Whole);
        assert_eq!(again.said, None, "from the beginning");
        let mut said = Vec::new();
        while let Some(first) = again.first() {
            said.push(first);
            again.first_is_said();
        }
        assert_eq!(said, [7, 3, 9].map(|request_id| (request_id, How::Whole)));
        assert!(again.is_empty() && again.how.is_empty());
    }
}
