//! What happened in a pool since it was declared. What a member did for those who asked for it by its own name is not in it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

/// Of one pool.
#[derive(Debug)]
pub(crate) struct Counts {
    members: Box<[Member]>,
    /// Requests that wait now.
    waiting: AtomicU64,
    /// Requests that no member took, or that waited in vain, by reason: one of the code's own words.
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

#[derive(Debug, Default)]
struct Member {
    granted: AtomicU64,
    passed_over: AtomicU64,
}

/// Of one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberCounts {
    /// Permits.
    pub(crate) granted: u64,
    /// Requests that came when it was its turn and it could not grant at once.
    pub(crate) passed_over: u64,
}

impl Counts {
    pub(super) fn of(members: usize) -> Self {
        let members = (0..members).map(|_| Member::default()).collect();
        Self { members, waiting: AtomicU64::new(0), refused: Mutex::default() }
    }

    pub(super) fn granted(&self, member: usize) {
        self.members[member].granted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn passed_over(&self, member: usize) {
        self.members[member].passed_over.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn waits(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn waits_no_more(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_default() += 1;
    }

    /// By member, in their order.
    pub(crate) fn members(&self) -> impl Iterator<Item = MemberCounts> {
        self.members.iter().map(|member| MemberCounts {
            granted: member.granted.load(Ordering::Relaxed),
            passed_over: member.passed_over.load(Ordering::Relaxed),
        })
    }

    /// Requests that wait now.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Refusals by reason; only those that happened.
    pub(crate) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refused.lock().clone()
    }
}
