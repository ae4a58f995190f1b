//! Pools as they are shown: their members, what each could serve, which of them is next, and why any is passed over.

use permitd_proto::v1;

use super::{
    page::{self, Wanted},
    together,
};
use crate::{
    cell::Cell,
    config::{BudgetName, MemberSpec},
    explain::{self, Facts},
    pool::Pool,
    registry::Registry,
    shown::{grants_at_once, tightest_of},
    wire::budget,
};

/// A page of the pools that are wanted, beginning behind `after`; and the last on it, if another page follows.
pub(super) fn find(
    registry: &Registry,
    wanted: &Wanted,
    after: Option<&BudgetName>,
    most: usize,
) -> (Vec<v1::Pool>, Option<BudgetName>) {
    let mut left = registry.pools();
    left.retain(|pool| after.is_none_or(|after| pool.name() > after) && wanted.holds_for_pool(pool));
    let (page, _) = page::fill(left.iter().take(most).map(|pool| write(registry, pool)));
    let next = (page.len() < left.len()).then(|| left[page.len() - 1].name().clone());
    (page, next)
}

/// A pool and how its members stand.
pub(super) fn write(registry: &Registry, pool: &Pool) -> v1::Pool {
    let members = pool.members().map(|(member, counts)| write_member(registry, member, counts.granted));
    let mut members: Vec<_> = members.collect();
    if let Some(next) = pool.next(|at| grants_at_once(&members[at])) {
        members[next].next = true;
    }
    v1::Pool { members, ..named(pool.name()) }
}

/// A pool by its name alone.
pub(super) fn named(name: &BudgetName) -> v1::Pool {
    v1::Pool { provider: name.provider().to_owned(), key: name.key().to_owned(), members: Vec::new() }
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
    let (declared_as, (snapshot, standing, now)) = together(cell, Cell::explain);
    let facts = Facts { name, snapshot: &snapshot, standing: &standing, pools: &[], now };
    let passed_over = explain::passed_over(&facts);
    let limits = snapshot.limits.into_iter().map(|limit| budget::write_limit_state(limit, &declared_as));
    v1::PoolMember {
        waiting: snapshot.waiting,
        in_flight: snapshot.in_flight,
        passed_over,
        tightest: tightest_of(&limits.collect::<Vec<_>>()).cloned(),
        ..declared
    }
}
