//! Budgets between the wire and the heart, both ways. Reading checks everything, with the field named from the message down
//! (`budget.limits[2].per`); writing is total.

use std::time::Duration;

use permitd_budget::{
    Adapt, BudgetSpec, CheckedSpec, DEFAULT_QUANTUM, IN_FLIGHT, LimitSnapshot, LimitSpec, Overflow,
    QueueSpec, Scheduled, ShadowSnapshot, Snapshot, Source, Teacher, TenantSnapshot, TenantSpec, Time,
    Window, bounds,
};
use permitd_proto::v1;
use prost_types::Timestamp;

use super::{decode, encode};
use crate::{
    cell::{Cell, Declared},
    config::BudgetName,
    schedule::{HoursText, parse_hours},
    status::Fault,
};

/// Reads a declared budget.
///
/// # Errors
/// The first field that makes no sense.
pub fn read(budget: &v1::Budget) -> Result<(BudgetName, CheckedSpec), Fault> {
    let name = BudgetName::new(&budget.provider, &budget.key)?;
    // Before anything is copied: the heart would refuse them later.
    bounded("limits", budget.limits.len(), bounds::LIMITS)?;
    bounded("tenants", budget.tenants.len(), bounds::DECLARED_TENANTS)?;
    bounded("schedule", budget.schedule.len(), bounds::SCHEDULED)?;
    let limits = budget.limits.iter().enumerate();
    let tenants = budget.tenants.iter();
    let spec = BudgetSpec {
        limits: limits
            .map(|(at, limit)| read_limit(limit).map_err(|fault| fault.within(&format!("limits[{at}]"))))
            .collect::<Result<_, Fault>>()?,
        queue: match &budget.queue {
            Some(queue) => read_queue(queue).map_err(|fault| fault.within("queue"))?,
            None => QueueSpec::default(),
        },
        tenants: tenants
            .map(|(name, tenant)| {
                let v1::Tenant { weight, max_waiting, max_percent, min_percent } = *tenant;
                (name.clone(), TenantSpec { weight, max_waiting, max_percent, min_percent })
            })
            .collect(),
        permit_ttl: read_span("permit_ttl", budget.permit_ttl.as_ref())?.filter(|ttl| !ttl.is_zero()),
        // The provider's profile says that.
        counting: Vec::new(),
        shadow: budget.shadow,
        schedule: budget.schedule.iter().enumerate().map(read_scheduled).collect::<Result<_, Fault>>()?,
    };
    Ok((name, spec.check()?))
}

/// Writes a declared budget.
pub(crate) fn write(name: &BudgetName, declared: &Declared) -> v1::Budget {
    let spec: &BudgetSpec = &declared.spec;
    let overflow = match spec.queue.overflow {
        Overflow::Wait => v1::Overflow::Wait,
        Overflow::Reject => v1::Overflow::Reject,
    };
    let tenants = spec.tenants.iter();
    v1::Budget {
        provider: name.provider().to_owned(),
        key: name.key().to_owned(),
        limits: spec.limits.iter().map(write_limit).collect(),
        queue: Some(v1::Queue {
            max_waiting: spec.queue.max_waiting,
            max_wait: spec.queue.max_wait.map(encode::duration),
            overflow: overflow.into(),
        }),
        tenants: tenants
            .map(|(name, tenant)| {
                let TenantSpec { weight, max_waiting, max_percent, min_percent } = *tenant;
                (name.clone(), v1::Tenant { weight, max_waiting, max_percent, min_percent })
            })
            .collect(),
        permit_ttl: spec.permit_ttl.map(encode::duration),
        etag: declared.etag.clone(),
        shadow: spec.shadow,
        schedule: spec.schedule.iter().map(write_scheduled).collect(),
    }
}

/// Writes a look at a budget.
pub(crate) fn write_state(cell: &Cell, declared: &Declared, snapshot: Snapshot) -> v1::BudgetState {
    let limits = snapshot.limits.into_iter();
    v1::BudgetState {
        budget: Some(write(cell.name(), declared)),
        limits: limits.map(|limit| write_limit_state(limit, declared)).collect(),
        waiting: snapshot.waiting,
        in_flight: snapshot.in_flight,
        paused: snapshot.paused,
        tenants: snapshot.tenants.into_iter().map(write_tenant_state).collect(),
        granted_total: snapshot.granted_total,
        refused_total: snapshot.refused_total,
        rate_limited_total: snapshot.rate_limited_total,
        exhausted: snapshot.exhausted,
        exhausted_until: snapshot.exhausted_until.map(encode::timestamp),
        owner: cell.server().to_owned(),
        shadow: snapshot.shadow.map(write_shadow_state),
    }
}

fn bounded(field: &str, len: usize, most: usize) -> Result<(), Fault> {
    if len > most {
        return Err(Fault::invalid(field, format!("{len} {field}; a budget has at most {most}")));
    }
    Ok(())
}

fn read_scheduled((at, entry): (usize, &v1::Scheduled)) -> Result<Scheduled, Fault> {
    let at = format!("schedule[{at}]");
    let hours = parse_hours(&entry.hours).map_err(|problem| Fault::invalid("hours", problem));
    let limit = entry.limit.as_ref().ok_or_else(|| Fault::invalid("limit", "is missing"));
    let limit = limit.and_then(|limit| read_limit(limit).map_err(|fault| fault.within("limit")));
    let inside = |fault: Fault| fault.within(&at);
    Ok(Scheduled { hours: hours.map_err(inside)?, limit: limit.map_err(inside)? })
}

/// Writes one entry of a schedule.
#[must_use]
pub fn write_scheduled(entry: &Scheduled) -> v1::Scheduled {
    v1::Scheduled { hours: HoursText(&entry.hours).to_string(), limit: Some(write_limit(&entry.limit)) }
}

/// Reads one limit's form; whether it makes sense is for [`BudgetSpec::check`] to say.
///
/// # Errors
/// The first field that can't be read.
pub fn read_limit(limit: &v1::Limit) -> Result<LimitSpec, Fault> {
    let quantum = read_span("quantum", limit.quantum.as_ref())?;
    let phase = limit.phase.as_ref().map(|phase| read_time("phase", phase)).transpose()?;
    let window = match v1::Window::try_from(limit.window) {
        Ok(v1::Window::Unspecified | v1::Window::Bucket) => Window::Bucket,
        Ok(v1::Window::Fixed) => Window::Fixed { phase },
        Ok(v1::Window::Sliding) => Window::Sliding,
        Ok(v1::Window::Quantised) => Window::Quantised { quantum: quantum.unwrap_or(DEFAULT_QUANTUM) },
        Err(_) => {
            let problem = format!("{} is none; use bucket, fixed, sliding or quantised", limit.window);
            return Err(Fault::invalid("window", problem));
        }
    };
    if quantum.is_some() && !matches!(window, Window::Quantised { .. }) {
        return Err(Fault::invalid("quantum", "goes with WINDOW_QUANTISED only"));
    }
    if phase.is_some() && !matches!(window, Window::Fixed { .. }) {
        return Err(Fault::invalid("phase", "goes with WINDOW_FIXED only"));
    }
    let adapt = match v1::Adapt::try_from(limit.adapt) {
        Ok(v1::Adapt::Unspecified | v1::Adapt::Refusals) => Adapt::Refusals,
        Ok(v1::Adapt::Latency) => Adapt::Latency,
        Err(_) => {
            return Err(Fault::invalid("adapt", format!("{} is none; use refusals or latency", limit.adapt)));
        }
    };
    Ok(LimitSpec {
        unit: limit.unit.clone(),
        amount: limit.amount,
        per: read_span("per", limit.per.as_ref())?,
        burst: limit.burst,
        window,
        models: limit.models.clone(),
        tenants: limit.tenants.clone(),
        adapt,
    })
}

/// Writes one limit.
#[must_use]
pub fn write_limit(limit: &LimitSpec) -> v1::Limit {
    let window = match limit.window {
        Window::Bucket if limit.unit == IN_FLIGHT => v1::Window::Unspecified,
        Window::Bucket => v1::Window::Bucket,
        Window::Fixed { .. } => v1::Window::Fixed,
        Window::Sliding => v1::Window::Sliding,
        Window::Quantised { .. } => v1::Window::Quantised,
    };
    let adapt = match limit.adapt {
        Adapt::Refusals => v1::Adapt::Unspecified,
        Adapt::Latency => v1::Adapt::Latency,
    };
    let (quantum, phase) = match limit.window {
        Window::Quantised { quantum } => (Some(quantum), None),
        Window::Fixed { phase } => (None, phase),
        Window::Bucket | Window::Sliding => (None, None),
    };
    v1::Limit {
        unit: limit.unit.clone(),
        amount: limit.amount,
        per: limit.per.map(encode::duration),
        burst: limit.burst,
        window: window.into(),
        models: limit.models.clone(),
        tenants: limit.tenants.clone(),
        quantum: quantum.map(encode::duration),
        phase: phase.map(encode::timestamp),
        adapt: adapt.into(),
    }
}

fn read_queue(queue: &v1::Queue) -> Result<QueueSpec, Fault> {
    let overflow = match v1::Overflow::try_from(queue.overflow) {
        Ok(v1::Overflow::Unspecified | v1::Overflow::Wait) => Overflow::Wait,
        Ok(v1::Overflow::Reject) => Overflow::Reject,
        Err(_) => {
            return Err(Fault::invalid(
                "overflow",
                format!("{} is none; use wait or reject", queue.overflow),
            ));
        }
    };
    let max_wait = read_span("max_wait", queue.max_wait.as_ref())?;
    Ok(QueueSpec { max_waiting: queue.max_waiting, max_wait, overflow })
}

/// How one limit stands.
pub(crate) fn write_limit_state(limit: LimitSnapshot, declared: &Declared) -> v1::LimitState {
    let is_declared = declared.spec.limits.iter().any(|known| known.same_identity(&limit.configured))
        || declared.spec.caps().any(|cap| cap.same_identity(&limit.configured));
    let source = match limit.source {
        Source::Declared if is_declared => declared.source.name(),
        Source::Declared => "profile",
        Source::Header => "header",
        Source::Learned => "learned",
    };
    let learned_from = limit.lesson.map_or("", |lesson| match lesson.from {
        Teacher::Headers => "headers",
        Teacher::Refusals => "refusals",
        Teacher::Growth => "growth",
        Teacher::Latency => "latency",
    });
    v1::LimitState {
        configured: Some(write_limit(&limit.configured)),
        effective_amount: limit.effective_amount,
        level: limit.level,
        frozen_until: limit.frozen_until.map(encode::timestamp),
        source: source.to_owned(),
        learned_from: learned_from.to_owned(),
        learned_at: limit.lesson.map(|lesson| encode::timestamp(lesson.at)),
        header_amount: limit.told.unwrap_or(0),
        cushion: limit.cushion,
        capacity: limit.capacity,
    }
}

fn write_tenant_state(tenant: TenantSnapshot) -> v1::TenantState {
    v1::TenantState {
        tenant: tenant.tenant,
        waiting: tenant.waiting,
        in_flight: tenant.in_flight,
        granted_total: tenant.granted_total,
    }
}

fn write_shadow_state(would: ShadowSnapshot) -> v1::ShadowState {
    let nanos = would.waits.iter().map(|waits| waits.sum_nanos).fold(0, u64::saturating_add);
    v1::ShadowState {
        since: Some(encode::timestamp(would.since)),
        waiting: would.waiting,
        in_flight: would.in_flight,
        granted_total: would.granted_total,
        waited_total: would.waited_total,
        wait_total: Some(encode::duration(Duration::from_nanos(nanos))),
        wait_longest: Some(encode::duration(would.longest_wait)),
        refused_total: would.refused_total,
        refused: would.refused.into_iter().map(|(reason, times)| (reason.to_owned(), times)).collect(),
    }
}

fn read_span(field: &str, span: Option<&prost_types::Duration>) -> Result<Option<Duration>, Fault> {
    span.map(|span| decode::duration(field, span)).transpose()
}

/// Reads a moment.
pub(crate) fn read_time(field: &str, time: &Timestamp) -> Result<Time, Fault> {
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let since_epoch = u64::try_from(time.seconds).ok().zip(nanos).and_then(|(seconds, nanos)| {
        seconds.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanos.into()))
    });
    since_epoch
        .map(Time::from_nanos)
        .ok_or_else(|| Fault::invalid(field, "is no moment between 1970 and 2554"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::cell::Source;

    const MINUTE: prost_types::Duration = prost_types::Duration { seconds: 60, nanos: 0 };

    fn limit() -> v1::Limit {
        v1::Limit { unit: "requests".to_owned(), amount: 60, per: Some(MINUTE), ..v1::Limit::default() }
    }

    fn budget(limits: Vec<v1::Limit>) -> v1::Budget {
        v1::Budget { provider: "anthropic".to_owned(), limits, ..v1::Budget::default() }
    }

    /// Goal: what was declared is what is shown.
    #[test]
    fn written_is_read_back() {
        let declared = v1::Budget {
            key: "prod".to_owned(),
            limits: vec![
                v1::Limit {
                    burst: 5,
                    models: "claude-*".to_owned(),
                    window: v1::Window::Bucket.into(),
                    ..limit()
                },
                v1::Limit {
                    window: v1::Window::Fixed.into(),
                    phase: Some(Timestamp { seconds: 1_700_000_000, nanos: 5 }),
                    tenants: "each".to_owned(),
                    ..limit()
                },
                v1::Limit {
                    unit: "tokens".to_owned(),
                    window: v1::Window::Quantised.into(),
                    quantum: Some(prost_types::Duration { seconds: 2, nanos: 500_000_000 }),
                    ..limit()
                },
                v1::Limit {
                    unit: "points".to_owned(),
                    amount: u64::MAX,
                    window: v1::Window::Sliding.into(),
                    ..limit()
                },
                v1::Limit {
                    unit: "in_flight".to_owned(),
                    amount: 5,
                    adapt: v1::Adapt::Latency.into(),
                    ..v1::Limit::default()
                },
            ],
            queue: Some(v1::Queue {
                max_waiting: 9,
                max_wait: Some(prost_types::Duration::default()),
                overflow: v1::Overflow::Reject.into(),
            }),
            tenants: BTreeMap::from([(
                "web".to_owned(),
                v1::Tenant { weight: 3, max_waiting: 7, max_percent: 40, min_percent: 20 },
            )]),
            permit_ttl: Some(MINUTE),
            etag: "e".to_owned(),
            shadow: true,
            schedule: vec![v1::Scheduled {
                hours: "mon-fri 22:00-06:00 Europe/Berlin".to_owned(),
                limit: Some(v1::Limit { unit: "in_flight".to_owned(), amount: 7, ..v1::Limit::default() }),
            }],
            ..budget(vec![])
        };
        let (name, spec) = read(&declared).expect("makes sense");
        let written = write(&name, &Declared { spec, etag: "e".to_owned(), source: Source::Admin });
        assert_eq!(written, declared);
    }

    /// Goal: every field that makes no sense is named.
    #[test]
    fn names_the_field() {
        let span = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
        let time = |seconds, nanos| Some(Timestamp { seconds, nanos });
        let with = |change: fn(&mut v1::Limit)| {
            let mut changed = limit();
            change(&mut changed);
            budget(vec![limit(), changed])
        };
        let mut cases: Vec<(v1::Budget, &str)> = vec![
            (v1::Budget::default(), "provider"),
            (v1::Budget { key: "x".repeat(257), ..budget(vec![]) }, "key"),
            (budget(vec![limit(); 10_000]), "limits"),
            (budget(vec![limit(), limit()]), "limits[1]"),
            (with(|limit| limit.unit.clear()), "limits[1].unit"),
            (with(|limit| limit.amount = 0), "limits[1].amount"),
            (with(|limit| limit.per = None), "limits[1].per"),
            (with(|limit| limit.window = 77), "limits[1].window"),
            (with(|limit| limit.quantum = Some(MINUTE)), "limits[1].quantum"),
            (with(|limit| limit.adapt = 9), "limits[1].adapt"),
            (with(|limit| limit.adapt = v1::Adapt::Latency.into()), "limits[1].adapt"),
            (with(|limit| limit.models = "x".repeat(257)), "limits[1].models"),
            (v1::Budget { shadow: true, ..budget(vec![]) }, "shadow"),
            (v1::Budget { permit_ttl: span(-1, 0), ..budget(vec![]) }, "permit_ttl"),
            (v1::Budget { permit_ttl: span(0, 1), ..budget(vec![]) }, "permit_ttl"),
        ];
        for (seconds, nanos) in
            [(-1, 0), (0, -1), (0, 0), (i64::MAX, 999_999_999), (1, i32::MAX), (400 * 86_400, 0)]
        {
            let changed = v1::Limit { per: span(seconds, nanos), ..limit() };
            cases.push((budget(vec![changed]), "limits[0].per"));
        }
        for phase in [time(-1, 0), time(i64::MAX, 0), time(1, 1_000_000_000)] {
            let changed = v1::Limit { phase, window: v1::Window::Fixed.into(), ..limit() };
            cases.push((budget(vec![changed]), "limits[0].phase"));
        }
        cases.push((budget(vec![v1::Limit { phase: time(1, 0), ..limit() }]), "limits[0].phase"));
        for (queue, field) in [
            (v1::Queue { max_wait: span(-5, 0), ..v1::Queue::default() }, "queue.max_wait"),
            (v1::Queue { max_waiting: u32::MAX, ..v1::Queue::default() }, "queue.max_waiting"),
            (v1::Queue { overflow: -3, ..v1::Queue::default() }, "queue.overflow"),
        ] {
            cases.push((v1::Budget { queue: Some(queue), ..budget(vec![]) }, field));
        }
        for (hours, other, field) in [
            ("09:00-10:00 Nowhere", Some(limit()), "schedule[0].hours"),
            ("09:00-09:00 UTC", Some(limit()), "schedule[0].hours"),
            ("09:00-10:00 UTC", None, "schedule[0].limit"),
            ("09:00-10:00 UTC", Some(v1::Limit { amount: 0, ..limit() }), "schedule[0].limit.amount"),
            (
                "09:00-10:00 UTC",
                Some(v1::Limit { unit: "tokens".to_owned(), ..limit() }),
                "schedule[0].limit",
            ),
        ] {
            let schedule = vec![v1::Scheduled { hours: hours.to_owned(), limit: other }];
            cases.push((v1::Budget { schedule, ..budget(vec![limit()]) }, field));
        }
        for (case, field) in cases {
            let status = read(&case).expect_err(field).within("budget").into_status();
            assert_eq!(status.code(), Code::InvalidArgument);
            let details = status.get_error_details();
            let violations = &details.bad_request().expect("a BadRequest").field_violations;
            assert_eq!(violations[0].field, format!("budget.{field}"), "{}", status.message());
        }
    }
}
