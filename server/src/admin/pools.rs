//! Pools as they are shown: their members, and why any of them is passed over.

use permitd_proto::v1;

use super::{page, together};
use crate::{
    auth::Caller,
    cell::Cell,
    config::{BudgetName, MemberSpec},
    explain::{self, Facts},
    pool::Pool,
    registry::Registry,
};

/// A page of the pools that the caller may see, beginning behind `after`; and the last on it, if another page follows.
pub(super) fn find(
    registry: &Registry,
    caller: &Caller,
    after: Option<&BudgetName>,
    most: usize,
) -> (Vec<v1::Pool>, Option<BudgetName>) {
    let mut left = registry.pools();
    left.retain(|pool| after.is_none_or(|after| pool.name() > after) && caller.may_see(pool.name()));
    let (page, _) = page::fill(left.iter().take(most).map(|pool| write(registry, pool)));
    let next = (page.len() < left.len()).then(|| left[page.len() - 1].name().clone());
    (page, next)
}

/// A pool and how its members stand.
pub(super) fn write(registry: &Registry, pool: &Pool) -> v1::Pool {
    let members = pool.members().map(|(member, granted)| write_member(registry, member, granted));
    let name = pool.name();
    v1::Pool { provider: name.provider().to_owned(), key: name.key().to_owned(), members: members.collect() }
}

fn write_member(registry: &Registry, member: &MemberSpec, granted: u64) -> v1::PoolMember {
    let MemberSpec { budget, prefer, weight } = member;
    let (provider, key) = (budget.provider().to_owned(), budget.key().to_owned());
    let declared = v1::PoolMember {
        provider,
        key,
        prefer: *prefer,
        weight: *weight,
        granted,
        ..v1::PoolMember::default()
    };
    match registry.find(budget) {
        Ok(cell) => standing(budget, &cell, declared),
        // Nobody asked for it yet: it is made from its provider's defaults.
        Err(_) if registry.is_made_on_use(budget) => declared,
        Err(error) => v1::PoolMember { passed_over: vec![format!("{error}.")], ..declared },
    }
}

fn standing(name: &BudgetName, cell: &Cell, declared: v1::PoolMember) -> v1::PoolMember {
    let (_, (snapshot, standing, now)) = together(cell, Cell::explain);
    let facts = Facts { name, snapshot: &snapshot, standing: &standing, now };
    v1::PoolMember {
        waiting: snapshot.waiting,
        in_flight: snapshot.in_flight,
        passed_over: explain::passed_over(&facts),
        ..declared
    }
}
