//! Names that stand for several budgets. Whoever asks a pool has one permit of one member, and every rule about it is that member's: a
//! pool only chooses. It asks the members in an order ([`Choice`]); where none can grant at once, the request waits at each of them, and
//! the first grant is the only one ([`Entry`]).

mod choice;
mod counts;
mod entry;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;

use self::choice::{Choice, Order};
pub(crate) use self::counts::{Counts, MemberCounts};
#[cfg(test)]
use self::entry::Member;
pub(crate) use self::entry::{Asked, Entry};
use crate::config::{BudgetName, MemberSpec, PoolSpec};

/// One pool.
pub(crate) struct Pool {
    name: BudgetName,
    spec: PoolSpec,
    choice: Mutex<Choice>,
    counts: Counts,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Pool {
    /// As the configuration declares it.
    pub(crate) fn new(name: BudgetName, spec: PoolSpec) -> Arc<Self> {
        let choice = Choice::new(spec.members.iter().map(|member| (member.prefer, member.weight)));
        let counts = Counts::of(spec.members.len());
        Arc::new(Self { name, spec, choice: Mutex::new(choice), counts })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &BudgetName {
        &self.name
    }

    /// As it was declared.
    pub(crate) fn spec(&self) -> &PoolSpec {
        &self.spec
    }

    /// What happened in it since it was declared.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Its members, and what each did through it.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&MemberSpec, MemberCounts)> {
        self.spec.members.iter().zip(self.counts.members())
    }

    /// Whether the budget is a member.
    pub(crate) fn has(&self, budget: &BudgetName) -> bool {
        self.spec.members.iter().any(|member| member.budget == *budget)
    }

    /// The place of the member that would be the first to grant, of those for which `can` holds.
    pub(crate) fn next(&self, can: impl Fn(usize) -> bool) -> Option<usize> {
        self.order().into_iter().find(|&at| can(at))
    }

    fn order(&self) -> Order {
        self.choice.lock().order()
    }

    /// The first of those left of an order granted at once.
    fn chose(&self, left: &[usize]) {
        self.choice.lock().granted(left);
    }
}
