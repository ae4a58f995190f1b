//! etcd, as far as ownership goes: leases, the claim on one budget, and what is kept of it.

use crate::model::{BURST, LEASE, SERVERS};

/// Who owns the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    pub(crate) owner: usize,
    /// The revision at which it was made.
    pub(crate) made: u8,
    /// The revision at which it was written last.
    pub(crate) written: u8,
}

/// What is written down of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kept {
    /// What was left, and has refilled since.
    pub(crate) level: u8,
    /// What of it may have been granted.
    pub(crate) aside: u8,
}

/// A write on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Write {
    /// Made only while the claim was last written at that revision.
    pub(crate) under: u8,
    pub(crate) kept: Kept,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Etcd {
    /// For each server how long its lease lasts at least; one of 0 ends at any moment.
    pub(crate) leases: [Option<u8>; SERVERS],
    pub(crate) claim: Option<Claim>,
    pub(crate) kept: Kept,
    pub(crate) revision: u8,
    /// Writes that their senders have given up, and that may come at any moment.
    pub(crate) late: Vec<Write>,
}

impl Etcd {
    /// Time passes: whatever is told with its time refills.
    pub(crate) fn tick(&mut self) {
        for lease in self.leases.iter_mut().flatten() {
            *lease = lease.saturating_sub(1);
        }
        self.kept.refill();
        self.late.iter_mut().for_each(|write| write.kept.refill());
        self.late.sort_unstable();
    }

    /// A lease ends, and with it the claim under it.
    pub(crate) fn end_lease(&mut self, server: usize) {
        self.leases[server] = None;
        self.claim = self.claim.filter(|claim| claim.owner != server);
    }

    /// A lease is renewed, if it is there.
    pub(crate) fn renew(&mut self, server: usize) {
        self.leases[server] = self.leases[server].map(|_| LEASE);
    }

    /// The budget is this server's.
    pub(crate) fn claim(&mut self, owner: usize) -> u8 {
        self.revision += 1;
        self.claim = Some(Claim { owner, made: self.revision, written: self.revision });
        self.revision
    }

    /// A write comes. False if another claim stands than it was sent under.
    pub(crate) fn write(&mut self, write: &Write, is_fenced: bool) -> bool {
        let stands = self.claim.is_some_and(|claim| claim.written == write.under);
        if stands || !is_fenced {
            self.kept = write.kept;
        }
        stands || !is_fenced
    }
}

impl Kept {
    pub(crate) fn refill(&mut self) {
        self.level = (self.level + 1).min(BURST);
    }
}
