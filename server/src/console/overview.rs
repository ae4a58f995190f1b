//! All budgets at a glance: one line each, in the order in which somebody should look, a page at a time, so that an answer is small however
//! many budgets there are.

use std::cmp::Reverse;

use permitd_proto::v1::{self, admin_service_server::AdminService as _};
use serde::{Deserialize, Serialize};

use super::{Console, Problem};
use crate::{
    auth::Caller,
    shown::{
        Pressure, filter_glob, grants_at_once, member_name, moment, name, pool_name, shown, taken, tightest,
    },
};

/// Budgets on a page.
const ROWS: usize = 100;
/// Pools beside them.
const POOLS: u32 = 100;
/// Budgets that are asked for at once: the most that a list has.
const LIST: u32 = 1_000;

/// What somebody wants to see.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    /// A part of the name, or a glob.
    filter: String,
    order: Order,
    reversed: bool,
    /// How many budgets come before the page.
    after: usize,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    #[default]
    Pressure,
    Name,
    Waiting,
    InFlight,
    Granted,
    RateLimited,
}

/// A page of budgets, and what all those come to that match.
#[derive(Debug, Default, Serialize)]
pub(super) struct Overview {
    budgets: usize,
    waiting: u64,
    in_flight: u64,
    granted_total: u64,
    /// How many budgets come before the page.
    after: usize,
    rows: Vec<Row>,
    /// Those of which the name or that of a member matches.
    pools: Vec<PoolRow>,
    /// Whether there are more pools than those.
    more_pools: bool,
}

/// One pool.
#[derive(Debug, Serialize)]
struct PoolRow {
    pool: String,
    members: usize,
    can_grant: usize,
    granted: u64,
    /// The member that grants whoever comes now and fits.
    next: Option<String>,
    /// The limit of which that one has least left, and how much of it is taken.
    tightest: Option<String>,
    taken_permille: u32,
}

impl PoolRow {
    fn of(pool: &v1::Pool) -> Self {
        let next = pool.members.iter().find(|member| member.next);
        let tightest = next.and_then(|member| member.tightest.as_ref());
        let limit = tightest.and_then(|limit| limit.configured.as_ref());
        Self {
            pool: pool_name(pool),
            members: pool.members.len(),
            can_grant: pool.members.iter().filter(|member| grants_at_once(member)).count(),
            granted: pool.members.iter().fold(0, |sum, member| member.granted.saturating_add(sum)),
            next: next.map(member_name),
            tightest: limit.map(|limit| shown(limit).name),
            taken_permille: tightest.map_or(0, taken),
        }
    }
}

/// One budget.
#[derive(Debug, Serialize)]
struct Row {
    budget: String,
    #[serde(skip)]
    pressure: Pressure,
    /// The limit that has least left; `None` if there are no limits.
    tightest: Option<String>,
    /// How much of it is taken.
    taken_permille: u32,
    waiting: u32,
    in_flight: u32,
    granted_total: u64,
    rate_limited_total: u64,
    paused: bool,
    /// Grants everything, and records what its limits would have done.
    shadow: bool,
    exhausted: bool,
    exhausted_until: Option<String>,
    /// When the last of its frozen limits thaws.
    frozen_until: Option<String>,
}

impl Row {
    fn of(state: &v1::BudgetState) -> Self {
        let tightest = tightest(state);
        let limit = tightest.and_then(|limit| limit.configured.as_ref());
        let frozen = state.limits.iter().filter_map(|limit| limit.frozen_until.as_ref());
        Self {
            budget: state.budget.as_ref().map(name).unwrap_or_default(),
            pressure: Pressure::of(state),
            tightest: limit.map(|limit| shown(limit).name),
            taken_permille: tightest.map_or(0, taken),
            waiting: state.waiting,
            in_flight: state.in_flight,
            granted_total: state.granted_total,
            rate_limited_total: state.rate_limited_total,
            paused: state.paused,
            shadow: state.shadow.is_some(),
            exhausted: state.exhausted,
            exhausted_until: state.exhausted_until.as_ref().map(moment),
            frozen_until: frozen.max_by_key(|until| (until.seconds, until.nanos)).map(moment),
        }
    }
}

impl Overview {
    /// Looks at all budgets that match and that the caller may see, on all servers.
    pub(super) async fn look(console: &Console, caller: &Caller, asked: &Asked) -> Result<Self, Problem> {
        let _room = console.overviews.acquire().await.expect("the semaphore is never closed");
        let filter = filter_glob(&asked.filter);
        let mut overview = Self::default();
        let mut page_token = String::new();
        loop {
            let request = v1::ListBudgetsRequest { page_size: LIST, page_token, filter: filter.clone() };
            let listed = console
                .call(caller, request, |admin, request| async move { admin.list_budgets(request).await })
                .await?;
            overview.rows.extend(listed.states.iter().map(Row::of));
            page_token = listed.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        overview.arrange(asked);
        let request = v1::ListPoolsRequest { page_size: POOLS, page_token, filter };
        let listed = console
            .call(caller, request, |admin, request| async move { admin.list_pools(request).await })
            .await?;
        overview.pools = listed.pools.iter().map(PoolRow::of).collect();
        overview.more_pools = !listed.next_page_token.is_empty();
        Ok(overview)
    }

    /// Adds everything up, and keeps the page that was asked for, or the last if there are fewer.
    fn arrange(&mut self, asked: &Asked) {
        let rows = &mut self.rows;
        self.budgets = rows.len();
        self.waiting = rows.iter().map(|row| u64::from(row.waiting)).sum();
        self.in_flight = rows.iter().map(|row| u64::from(row.in_flight)).sum();
        self.granted_total = rows.iter().fold(0, |sum, row| row.granted_total.saturating_add(sum));
        // Sorting is stable, and they come by name.
        match asked.order {
            Order::Pressure => rows.sort_by_key(|row| Reverse(row.pressure)),
            Order::Name => {}
            Order::Waiting => rows.sort_by_key(|row| Reverse(row.waiting)),
            Order::InFlight => rows.sort_by_key(|row| Reverse(row.in_flight)),
            Order::Granted => rows.sort_by_key(|row| Reverse(row.granted_total)),
            Order::RateLimited => rows.sort_by_key(|row| Reverse(row.rate_limited_total)),
        }
        if asked.reversed {
            rows.reverse();
        }
        let last = rows.len().saturating_sub(1) / ROWS * ROWS;
        self.after = asked.after.min(last);
        rows.drain(..self.after);
        rows.truncate(ROWS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview(count: u32) -> Overview {
        let rows = (0..count).map(|number| {
            let budget =
                v1::Budget { provider: "p".to_owned(), key: format!("{number:05}"), ..Default::default() };
            Row::of(&v1::BudgetState { budget: Some(budget), waiting: number, ..Default::default() })
        });
        Overview { rows: rows.collect(), ..Overview::default() }
    }

    fn page(count: u32, asked: &Asked) -> (Overview, Vec<u32>) {
        let mut overview = overview(count);
        overview.arrange(asked);
        let waiting = overview.rows.iter().map(|row| row.waiting).collect();
        (overview, waiting)
    }

    /// Goal: a page is bounded, the sums are of all, and a page behind the last one is the last one.
    #[test]
    fn pages_are_bounded() {
        let (overview, waiting) = page(10_000, &Asked::default());
        assert_eq!((overview.budgets, overview.waiting), (10_000, 49_995_000));
        assert_eq!((waiting.len(), waiting[0], waiting[99]), (ROWS, 9_999, 9_900));
        let (overview, waiting) = page(250, &Asked { after: 9_999, ..Asked::default() });
        assert_eq!((overview.after, waiting.len(), waiting[0]), (200, 50, 49));
        assert_eq!(page(200, &Asked { after: 200, ..Asked::default() }).0.after, 100, "no page is empty");
        assert_eq!(page(0, &Asked::default()).1, [0; 0]);
        assert!(serde_json::to_string(&page(10_000, &Asked::default()).0).expect("text").len() < 64 * 1024);
    }

    /// Goal: every order is the one that it says.
    #[test]
    fn orders() {
        for (order, reversed, first) in [
            (Order::Pressure, false, 4),
            (Order::Waiting, true, 0),
            (Order::Name, false, 0),
            (Order::Name, true, 4),
            (Order::Granted, false, 0),
            (Order::InFlight, true, 4),
            (Order::RateLimited, false, 0),
        ] {
            let (_, waiting) = page(5, &Asked { order, reversed, ..Asked::default() });
            assert_eq!(waiting[0], first, "{order:?}");
        }
    }
}
