//! Refusals of limits that are counted in windows: what is one call that crossed into the next, and what is a lower limit.

use std::time::Duration;

use permitd_budget::{
    Acquired, Budget, BudgetSpec, LimitSpec, Outcome, PermitKey, Priority, Report, Request, Time, Usage,
    Window,
};

const BEGIN: Time = Time::from_nanos(1_700_000_000_000_000_000);
const WAIT: Duration = Duration::from_secs(30);

fn ask() -> Request<'static, ()> {
    Request {
        tenant: "jobs",
        model: "",
        priority: Priority::Standard,
        estimate: Usage::default(),
        count: 1,
        max_wait: Some(Duration::ZERO),
        gives_up: None,
        waiter: (),
    }
}

/// A hundred a minute are declared; the provider takes sixty. A hundred calls come at once, and nothing for minutes then. What is granted
/// of the limit after each.
fn after_bursts(window: Window, bursts: u64) -> Vec<u64> {
    let limit = LimitSpec { window, ..LimitSpec::rate("requests", 100, Duration::from_secs(60)) };
    let spec = BudgetSpec { limits: vec![limit], ..BudgetSpec::default() }.check().expect("makes sense");
    let mut budget = Budget::new(&spec, BEGIN);
    let mut events = Vec::new();
    let mut effective = Vec::new();
    for burst in 1..=bursts {
        let now = BEGIN + Duration::from_secs(300 * burst);
        let mut permits: Vec<PermitKey> = Vec::new();
        while let Ok(Acquired::Granted(grant)) = budget.acquire(now, ask(), &mut events) {
            permits.push(grant.permit);
        }
        let heard = now + Duration::from_millis(100);
        for (call, permit) in permits.into_iter().enumerate() {
            let report = match call {
                0..60 => Report::new(Outcome::Success),
                _ => Report { retry_after: Some(WAIT), ..Report::new(Outcome::RateLimited) },
            };
            budget.report(heard, permit, &report, &mut events);
        }
        let _ = budget.poll(now + Duration::from_secs(1), &mut events);
        effective.push(budget.snapshot(now + Duration::from_secs(1)).limits[0].effective_amount);
    }
    effective
}

/// Goal: a burst of which much is refused is no call that came a little early: the limit is lowered, each time that it is too high still.
#[test]
fn a_burst_that_is_too_large_lowers_the_limit() {
    for window in [Window::Sliding, Window::Fixed { phase: None }] {
        let effective = after_bursts(window, 6);
        assert!(effective[0] < 100, "{window:?}: {effective:?}");
        assert!(effective[5] < 70, "{window:?}: {effective:?}");
    }
}
