//! Puts the limits of the hours in force when these begin and end: a change like any other, entered in the audit trail as the
//! schedule's. Only budgets that this server owns are in its registry, so in a cluster nobody else acts.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{task, time::sleep};

use super::{HoursText, InForce, wall};
use crate::{
    audit::{Entry, Trail, What},
    cell::{Cell, Declared},
    registry::Registry,
};

/// Who changes limits at their hours.
const WHO: &str = "schedule";
/// Between two looks at the clock that people set: it may have been.
const INTERVAL: Duration = Duration::from_secs(1);

/// Follows the hours for ever.
pub(crate) async fn follow(registry: Arc<Registry>, trail: Arc<Trail>) {
    loop {
        let (registry, trail) = (Arc::clone(&registry), Arc::clone(&trail));
        // Looks at all budgets: off the threads that hand out permits. It fails only where the server stops.
        let next = task::spawn_blocking(move || switch_due(&registry, &trail, wall())).await;
        let until = next.ok().flatten().map_or(INTERVAL, |next| {
            Duration::try_from(next.duration_since(wall())).unwrap_or(Duration::ZERO)
        });
        sleep(until.clamp(Duration::from_millis(1), INTERVAL)).await;
    }
}

/// Puts in force what is not yet; says when the next hours begin or end.
fn switch_due(registry: &Registry, trail: &Trail, now: Timestamp) -> Option<Timestamp> {
    let mut next = None;
    for cell in registry.list() {
        if !cell.in_force().holds_at(now) {
            // Nothing to do if somebody else changed it since.
            let _ = trail.make(|| switch(&cell, now, registry).map(|entry| ((), entry)).ok_or(()));
        }
        let until = cell.in_force().until;
        next = Some(next.map_or(until, |next: Timestamp| next.min(until)));
    }
    next
}

fn switch(cell: &Cell, now: Timestamp, registry: &Registry) -> Option<Entry> {
    let (before, after) = cell.switch(now)?;
    let declared = cell.declared();
    let put = |in_force: &InForce| Some(Declared { spec: in_force.spec.clone(), ..declared.clone() });
    let hours: Vec<String> = after.hours.iter().map(|hours| HoursText(hours).to_string()).collect();
    let reason = if hours.is_empty() { "other hours".to_owned() } else { hours.join("; ") };
    Some(Entry {
        number: 0,
        at: registry.clock().now(),
        who: WHO.to_owned(),
        what: What::Schedule,
        budget: Some(cell.name().clone()),
        server: String::new(),
        before: put(&before),
        after: put(&after),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use permitd_budget::{BudgetSpec, LimitSpec};

    use super::*;
    use crate::{
        alarm::Alarms,
        cell::{Footing, Source},
        clock::Clock,
        schedule::parse_scheduled,
    };

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// Goal: limits follow the clock that people set, forward, back and over several hours at once, each change is entered once and as
    /// the schedule's, and levels are kept in proportion.
    #[test]
    fn limits_follow_the_clock() {
        let clock = Clock::start();
        let (alarms, _thread) = Alarms::start("alarms", clock).expect("a thread");
        let registry = Registry::new(Footing::in_memory(clock, alarms), 10);
        let trail = Trail::new(100);
        let limits = vec![LimitSpec::rate("requests", 60, Duration::from_secs(86_400))];
        let schedule = vec![parse_scheduled("09:00-17:00 Europe/Berlin requests=30/1d").expect("sound")];
        let spec = BudgetSpec { limits, schedule, ..BudgetSpec::default() }.check().expect("sound");
        let name = "p/k".parse().expect("a name");
        registry.set(&name, spec, Source::Admin, "", false).expect("room");
        let cell = registry.find(&name).expect("made");
        let seen = || {
            let limit = cell.snapshot().limits.remove(0);
            (limit.configured.amount, limit.level)
        };
        let entered = || trail.page(None, 100, |_| true).len();
        let next = switch_due(&registry, &trail, at("2026-03-28T20:00:00Z"));
        let before = entered();
        assert_eq!((seen(), next), ((60, 60), Some(at("2026-03-29T07:00:00Z"))), "clocks are set that night");
        for (now, amount, changes) in [
            ("2026-03-29T06:59:59Z", 60, 0),
            ("2026-03-29T07:00:00Z", 30, 1),
            ("2026-03-29T07:00:00Z", 30, 1),
            ("2026-03-29T06:59:59Z", 60, 2),
            ("2026-03-31T08:00:00Z", 30, 3),
            ("2026-04-01T08:00:00Z", 30, 3),
            ("2026-04-01T15:00:00Z", 60, 4),
        ] {
            switch_due(&registry, &trail, at(now));
            assert_eq!(
                (seen(), entered() - before),
                ((amount, i64::try_from(amount).expect("small")), changes),
                "{now}"
            );
        }
        let last = trail.page(None, 2, |_| true);
        let amounts =
            |declared: &Option<Declared>| declared.as_ref().map(|declared| declared.spec.limits[0].amount);
        assert_eq!(
            (&*last[0].who, last[0].what, &*last[0].reason),
            ("schedule", What::Schedule, "other hours")
        );
        assert_eq!((amounts(&last[0].before), amounts(&last[0].after)), (Some(30), Some(60)));
        assert_eq!(last[1].reason, "09:00-17:00 Europe/Berlin");
        assert_eq!(cell.declared().spec.limits[0].amount, 60, "what is declared stays");
    }
}
