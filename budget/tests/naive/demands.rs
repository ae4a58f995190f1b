//! What a budget owes after a call: nobody is left waiting who could go, nothing is kept past its time, the next poll is early
//! enough, and a look at the budget agrees with the log.

use std::collections::BTreeSet;

use permitd_budget::{Snapshot, Time};

use crate::{
    meter::{Side, instant},
    model::{Asked, Model, ensure, grained},
};

/// After a call that was told the time and dispatched. What is due at this very moment may be left to a poll that is asked for.
pub(crate) fn kept(model: &Model, next: Option<Time>) -> Result<(), String> {
    let now = instant(model.now);
    let polled_now = next.is_some_and(|next| next <= model.now);
    for asked in &model.waiting {
        let id = asked.id;
        ensure!(model.impossible(asked).is_none(), "{id} waits though it can never be granted");
        ensure!(!asked.now_or_never, "{id} waits though it may not");
        let overdue = asked.deadline.is_some_and(|deadline| {
            if polled_now { grained(deadline) < now } else { grained(deadline) <= now }
        });
        ensure!(!overdue, "{id} waits past its deadline {:?}", asked.deadline);
    }
    for live in &model.live {
        ensure!(
            grained(instant(live.expires)) > now,
            "{:?} lives past its time {}",
            live.grant.permit,
            live.expires
        );
    }
    Ok(())
}

/// Work conservation: whoever fits, with all others' reservations honoured, has been granted; and of those who compete for the same
/// limits, the first one has nothing reserved ahead of it.
pub(crate) fn work_conserving(model: &Model) -> Result<(), String> {
    if model.paused {
        return Ok(());
    }
    for group in competitors(model) {
        let fitting = |asked: &Asked| model.misfit(Side::Least, asked, |_| 0).is_none();
        let ids: Vec<u64> = group.iter().map(|asked| asked.id).collect();
        ensure!(!group.iter().all(fitting), "not work-conserving: {ids:?} all wait, and each fits");
        for asked in &group {
            let beside = |limit| reserved(model, &group, asked, limit);
            let held = model.misfit(Side::Least, asked, beside);
            ensure!(held.is_some(), "not work-conserving: {} of {ids:?} fits beside all others", asked.id);
        }
    }
    Ok(())
}

/// Whether a newcomer who fits beside everybody who waits would have had to be granted.
pub(crate) fn admissible(model: &Model, asked: &Asked) -> bool {
    let first = !model.waiting.iter().any(|other| {
        other.tenant == asked.tenant
            && other.priority == asked.priority
            && model.touched(&other.tenant, &other.model) == model.touched(&asked.tenant, &asked.model)
    });
    let others: Vec<Asked> = model.waiting.clone();
    first
        && !model.paused
        && model.misfit(Side::Least, asked, |limit| reserved(model, &others, asked, limit)).is_none()
}

/// The latest moment at which the budget has to be polled next, if any.
pub(crate) fn poll_by(model: &Model) -> Option<i128> {
    let deadlines = model.waiting.iter().filter_map(|asked| asked.deadline).map(grained);
    let expiries = model.live.iter().map(|live| grained(instant(live.expires)));
    let possible = competitors(model).into_iter().filter(|_| !model.paused).filter_map(|group| {
        let slots = group.iter().all(|asked| slots_free(model, asked));
        let latest = group.iter().map(|asked| model.alone(Side::Least, asked)).collect::<Option<Vec<_>>>()?;
        latest.into_iter().max().filter(|_| slots)
    });
    deadlines.chain(expiries).chain(possible).min()
}

/// Whether the next poll is early enough.
pub(crate) fn polled_in_time(model: &Model, next: Option<Time>) -> Result<(), String> {
    // Past the end of time nothing has to happen.
    let Some(by) = poll_by(model).filter(|by| *by < instant(Time::MAX)) else { return Ok(()) };
    let enough = next.is_some_and(|next| instant(next) <= by.max(instant(model.now)));
    ensure!(enough, "next poll is {next:?}, but something happens at {by}");
    Ok(())
}

/// Whether a look at the budget says what the log says. `exact` is off where feedback may have lowered limits.
pub(crate) fn agrees(model: &Model, snapshot: &Snapshot, exact: bool) -> Result<(), String> {
    ensure!(
        snapshot.waiting as usize == model.waiting.len(),
        "{} wait, not {}",
        model.waiting.len(),
        snapshot.waiting
    );
    ensure!(
        snapshot.in_flight as usize == model.live.len(),
        "{} in flight, not {}",
        model.live.len(),
        snapshot.in_flight
    );
    ensure!(snapshot.paused == model.paused, "paused is {}", snapshot.paused);
    let totals = (snapshot.granted_total, snapshot.refused_total, snapshot.expired_total);
    let expected = (model.granted_total, model.refused_total, model.expired_total);
    ensure!(totals == expected, "totals are {totals:?}, not {expected:?}");
    for tenant in &snapshot.tenants {
        let waiting = model.tenant_waiting(&tenant.tenant);
        let live = model.live.iter().filter(|live| live.tenant == tenant.tenant).count();
        ensure!(
            tenant.waiting == waiting && tenant.in_flight as usize == live,
            "{tenant:?}: {waiting} wait, {live} in flight"
        );
    }
    let named: BTreeSet<&str> = snapshot.tenants.iter().map(|tenant| tenant.tenant.as_str()).collect();
    let there =
        model.waiting.iter().map(|asked| &asked.tenant).chain(model.live.iter().map(|live| &live.tenant));
    for tenant in there {
        ensure!(named.contains(tenant.as_str()), "{tenant} is not in the snapshot");
    }
    let mut sorted = snapshot.limits.len() >= model.limits.len();
    sorted &= model.limits.iter().zip(&snapshot.limits).all(|(ours, theirs)| ours.spec == theirs.configured);
    ensure!(sorted, "limits are {:?}", snapshot.limits);
    (0..model.limits.len()).try_for_each(|at| level(model, at, snapshot.limits[at].level, exact))
}

fn level(model: &Model, at: usize, told: i64, exact: bool) -> Result<(), String> {
    let spec = &model.limits[at].spec;
    let (most, least) = if spec.per.is_some() {
        let mut meters: Vec<_> = model.limits[at].meters.iter().map(|(_, meter)| meter.clone()).collect();
        if meters.is_empty() || spec.tenants == "each" {
            meters.push(crate::meter::Meter::new(spec, model.now));
        }
        let floor = |side| {
            let levels = meters.iter().map(|meter| meter.level(side, model.now).div_euclid(meter.parts()));
            levels.min().expect("there is one")
        };
        // Debt is capped at one window's amount; whether what is over it is still shown when the amount is lowered is open.
        (floor(Side::Most).max(-i128::from(crate::meter::capacity(spec))), floor(Side::Least))
    } else {
        let holders: BTreeSet<String> =
            model.live.iter().map(|live| model.holder(at, &live.tenant)).chain([String::new()]).collect();
        let used = holders.iter().map(|holder| model.in_flight(at, holder)).max().expect("there is one");
        let free = i128::from(spec.amount) - i128::from(used);
        (free, free)
    };
    let told = i128::from(told);
    let within = told <= most && (least <= told || !exact);
    ensure!(within, "level {told} is not in {least}..={most} for {spec:?}");
    Ok(())
}

fn slots_free(model: &Model, asked: &Asked) -> bool {
    model.touched(&asked.tenant, &asked.model).into_iter().all(|at| {
        let spec = &model.limits[at].spec;
        spec.per.is_some() || model.in_flight(at, &model.holder(at, &asked.tenant)) < spec.amount
    })
}

/// What all others of a group need of one of `asked`'s limits.
fn reserved(model: &Model, group: &[Asked], asked: &Asked, limit: usize) -> u128 {
    let holder = model.holder(limit, &asked.tenant);
    let needs = |other: &&Asked| {
        other.id != asked.id
            && model.touched(&other.tenant, &other.model).contains(&limit)
            && model.holder(limit, &other.tenant) == holder
    };
    group.iter().filter(needs).map(|other| u128::from(model.cost(limit, &other.cost))).sum()
}

/// Limits, each with whose meter of it, and those who need them.
type Group = (BTreeSet<(usize, String)>, Vec<Asked>);

/// Those who wait, first of their lanes only, by who shares a limit with whom. After a change of the limits lanes may have
/// merged, and then all who wait stand for themselves.
fn competitors(model: &Model) -> Vec<Vec<Asked>> {
    let settled = model.waiting.iter().all(|asked| asked.epoch == model.epoch);
    let heads = model.waiting.iter().filter(|asked| !settled || model.is_head(asked));
    let mut groups: Vec<Group> = Vec::new();
    for asked in heads {
        let touched = model.touched(&asked.tenant, &asked.model);
        let mut limits: BTreeSet<(usize, String)> =
            touched.into_iter().map(|at| (at, model.holder(at, &asked.tenant))).collect();
        let mut members = vec![asked.clone()];
        groups.retain(|(theirs, others)| {
            let apart = theirs.is_disjoint(&limits);
            if !apart {
                limits.extend(theirs.iter().cloned());
                members.extend(others.iter().cloned());
            }
            apart
        });
        groups.push((limits, members));
    }
    groups.into_iter().map(|(_, members)| members).collect()
}
