//! From the wire to the heart: every rule about what a peer may say, each with the field named.

use std::time::Duration;

use permitd_budget::{
    COUNT_MAX, OTHER_UNITS_MAX, Outcome, Priority, Report, Request, Time, Usage, check_name,
};
use permitd_proto::v1;

use super::items::Acquire;
use crate::{
    inbox::Waiter,
    pool::Asked,
    profile::Profile,
    reading::{self, Reading, Unreadable},
    status::Fault,
};

/// The tenant of whoever names none.
const DEFAULT_TENANT: &str = "default";
/// Bytes of an error body's excerpt.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// Headers of one response, and bytes of all of them.
const HEADERS_MAX: usize = 256;
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// The end of protobuf's range: 10,000 years.
const SECONDS_MAX: u64 = 315_576_000_000;
/// The units that have fields of their own.
const NAMED_UNITS: [&str; 5] = ["requests", "tokens", "input_tokens", "output_tokens", "in_flight"];

/// What is asked for, but for the budget's name, which whoever looks the budget up checks.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) model: &'a str,
    pub(crate) priority: Priority,
    pub(crate) estimate: Usage,
    pub(crate) count: u32,
    pub(crate) max_wait: Option<Duration>,
}

impl<'a> Ask<'a> {
    /// As a pool takes it: one permit at a time, since each may be of another member.
    pub(crate) fn for_pool(self, at: Time, gives_up: Option<Time>) -> Result<Asked, Fault> {
        let Self { tenant, model, priority, estimate, count, max_wait } = self;
        if count > 1 {
            let problem = format!(
                "{count} permits at once of a pool, of which each may be of another member; ask for one at a time"
            );
            return Err(Fault::invalid("count", problem));
        }
        Ok(Asked { tenant: tenant.into(), model: model.into(), priority, estimate, max_wait, gives_up, at })
    }

    /// As the heart takes it.
    pub(crate) fn for_waiter(self, waiter: Waiter) -> Request<'a, Waiter> {
        let Self { tenant, model, priority, estimate, count, max_wait } = self;
        Request { tenant, model, priority, estimate, count, max_wait, gives_up: None, waiter }
    }
}

/// Reads an acquire. `tenant` stands in where it names none.
pub(crate) fn acquire<'a>(request: &Acquire<'a>, tenant: &'a str) -> Result<Ask<'a>, Fault> {
    check_name("tenant", tenant_of(request, tenant), false)?;
    check_name("model", request.model, true)?;
    named_acquire(request, tenant)
}

/// Reads an acquire whose names were found to be sound.
pub(crate) fn named_acquire<'a>(request: &Acquire<'a>, tenant: &'a str) -> Result<Ask<'a>, Fault> {
    let tenant = tenant_of(request, tenant);
    if request.count > COUNT_MAX {
        let problem =
            format!("{} permits at once; at most {COUNT_MAX}, so ask again for more", request.count);
        return Err(Fault::invalid("count", problem));
    }
    Ok(Ask {
        tenant,
        model: request.model,
        priority: priority(request.priority)?,
        estimate: estimate(request)?,
        count: request.count.max(1),
        max_wait: request.max_wait.as_ref().map(|wait| duration("max_wait", wait)).transpose()?,
    })
}

fn tenant_of<'a>(request: &Acquire<'a>, tenant: &'a str) -> &'a str {
    let tenants = [request.tenant, tenant, DEFAULT_TENANT];
    tenants.into_iter().find(|tenant| !tenant.is_empty()).unwrap_or(DEFAULT_TENANT)
}

/// Reads a Hello's tenant and client.
pub(crate) fn hello(hello: &v1::Hello) -> Result<(), Fault> {
    check_name("hello.session_id", &hello.session_id, true)?;
    check_name("hello.client", &hello.client, true)?;
    check_name("hello.tenant", &hello.tenant, true)?;
    Ok(())
}

/// Reads a report, but for its permit_id, by the profile of the permit's provider. Also says what was unreadable in it.
pub(crate) fn report(
    request: &v1::ReportRequest,
    profile: &Profile,
    now: Time,
) -> Result<(Report, Unreadable), Fault> {
    if request.body.len() > BODY_BYTES_MAX {
        let problem = format!("{} bytes; send at most the first {BODY_BYTES_MAX}", request.body.len());
        return Err(Fault::invalid("body", problem));
    }
    let header_bytes: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if request.headers.len() > HEADERS_MAX || header_bytes > HEADER_BYTES_MAX {
        let problem = format!(
            "at most {HEADERS_MAX} headers with {HEADER_BYTES_MAX} bytes; send only those about limits"
        );
        return Err(Fault::invalid("headers", problem));
    }
    if !matches!(request.http_status, 0 | 100..=999) {
        return Err(Fault::invalid("http_status", format!("{} is no HTTP status", request.http_status)));
    }
    let latency = request.latency.as_ref().map(|latency| duration("latency", latency)).transpose()?;
    let told = outcome(request)?;
    let retry_after = request.retry_after.as_ref().map(|wait| duration("retry_after", wait)).transpose()?;
    let actual = match &request.actual {
        Some(actual) => usage("actual", actual)?,
        None => Usage::default(),
    };
    refuse_contradiction("actual.tokens", &actual)?;
    let parts =
        reading::Parts { status: request.http_status, headers: &request.headers, body: &request.body };
    let read = reading::read(profile, told, &parts, now);
    let retry_after = retry_after.map(|wait| wait.min(reading::WAIT_MAX)).or(read.wait);
    let Reading { outcome, tripped, observed, unreadable, .. } = read;
    Ok((Report { outcome, actual, retry_after, tripped, observed, latency }, unreadable))
}

/// Reads a span of time that can't be negative.
pub(crate) fn duration(field: &str, span: &prost_types::Duration) -> Result<Duration, Fault> {
    match (u64::try_from(span.seconds), u32::try_from(span.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 && seconds <= SECONDS_MAX => {
            Ok(Duration::new(seconds, nanos))
        }
        (Ok(_), Ok(_)) => Err(Fault::invalid(field, "is longer than a duration can be (10,000 years)")),
        _ => Err(Fault::invalid(field, "is negative")),
    }
}

fn priority(raw: i32) -> Result<Priority, Fault> {
    match v1::Priority::try_from(raw) {
        Ok(v1::Priority::Interactive) => Ok(Priority::Interactive),
        Ok(v1::Priority::Unspecified | v1::Priority::Standard) => Ok(Priority::Standard),
        Ok(v1::Priority::Batch) => Ok(Priority::Batch),
        Err(_) => {
            Err(Fault::invalid("priority", format!("{raw} is none; use interactive, standard or batch")))
        }
    }
}

/// `tokens` alone is enough; next to an estimate it has to agree with it.
fn estimate(request: &Acquire<'_>) -> Result<Usage, Fault> {
    let Some(estimate) = &request.estimate else {
        return Ok(if request.tokens == 0 { Usage::default() } else { Usage::of_tokens(request.tokens) });
    };
    let mut estimate = usage("estimate", estimate)?;
    if request.tokens != 0 {
        let tokens = *estimate.tokens.get_or_insert(request.tokens);
        if tokens != request.tokens {
            let problem = format!("is {}, but estimate.tokens is {tokens}; give one of them", request.tokens);
            return Err(Fault::invalid("tokens", problem));
        }
    }
    refuse_contradiction("estimate.tokens", &estimate)?;
    Ok(estimate)
}

fn refuse_contradiction(field: &str, usage: &Usage) -> Result<(), Fault> {
    usage.contradiction().map_or(Ok(()), |problem| Err(Fault::invalid(field, problem)))
}

fn usage(field: &str, usage: &v1::Usage) -> Result<Usage, Fault> {
    if usage.other.len() > OTHER_UNITS_MAX {
        let problem = format!(
            "{} units; at most {OTHER_UNITS_MAX} besides those with fields of their own",
            usage.other.len()
        );
        return Err(Fault::invalid(format!("{field}.other"), problem));
    }
    let mut other = Vec::with_capacity(usage.other.len());
    for (unit, &amount) in &usage.other {
        if let Err(error) = check_name("", unit, false) {
            let shown: String = unit.chars().filter(|c| !c.is_control()).take(32).collect();
            return Err(Fault::invalid(format!("{field}.other[{shown}]"), error.problem));
        }
        if NAMED_UNITS.contains(&unit.as_str()) {
            let problem = "is counted by a field of its own";
            return Err(Fault::invalid(format!("{field}.other[{unit}]"), problem));
        }
        other.push((unit.as_str().into(), amount));
    }
    Ok(Usage {
        requests: usage.requests,
        tokens: usage.tokens,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        max_output_tokens: usage.max_output_tokens,
        cached_input_tokens: usage.cached_input_tokens,
        other,
    })
}

/// The outcome that the caller gives, which wins over what the response says.
fn outcome(request: &v1::ReportRequest) -> Result<Option<Outcome>, Fault> {
    use v1::Outcome as Wire;
    let Ok(wire) = Wire::try_from(request.outcome) else {
        let problem =
            format!("{} is none that this server knows; leave it out and give http_status", request.outcome);
        return Err(Fault::invalid("outcome", problem));
    };
    Ok(Some(match wire {
        Wire::Unspecified => return Ok(None),
        Wire::Success => Outcome::Success,
        Wire::RateLimited => Outcome::RateLimited,
        Wire::ConcurrencyLimited => Outcome::ConcurrencyLimited,
        Wire::Overloaded => Outcome::Overloaded,
        Wire::AccelerationLimited => Outcome::AccelerationLimited,
        Wire::QuotaExhausted => Outcome::QuotaExhausted,
        Wire::TooLarge => Outcome::TooLarge,
        Wire::Failed => reading::failed(request.http_status),
        Wire::Cancelled => Outcome::Cancelled,
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use permitd_proto::v1::{AcquireRequest, ReportRequest};

    use super::*;
    use crate::profile::Profiles;

    fn wait(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos })
    }

    fn other(units: impl IntoIterator<Item = String>) -> Option<v1::Usage> {
        Some(v1::Usage { other: units.into_iter().map(|unit| (unit, 1)).collect(), ..Default::default() })
    }

    fn read(request: &ReportRequest) -> Result<Report, Fault> {
        let now = Time::from_nanos(1_700_000_000_000_000_000);
        report(request, Profiles::built_in().of("anybody"), now).map(|(report, _)| report)
    }

    /// Goal: each thing that makes no sense in an acquire is refused with its field.
    #[test]
    fn acquires_name_the_field() {
        let tokens = |tokens, input, output| {
            Some(v1::Usage { tokens, input_tokens: input, output_tokens: output, ..Default::default() })
        };
        let cases = [
            ("tenant", AcquireRequest { tenant: "x".repeat(257), ..Default::default() }),
            ("model", AcquireRequest { model: "a\nb".to_owned(), ..Default::default() }),
            ("count", AcquireRequest { count: u32::MAX, ..Default::default() }),
            ("priority", AcquireRequest { priority: 77, ..Default::default() }),
            ("max_wait", AcquireRequest { max_wait: wait(-1, 0), ..Default::default() }),
            ("max_wait", AcquireRequest { max_wait: wait(0, -1), ..Default::default() }),
            ("max_wait", AcquireRequest { max_wait: wait(i64::MAX, 0), ..Default::default() }),
            ("max_wait", AcquireRequest { max_wait: wait(0, 1_000_000_000), ..Default::default() }),
            (
                "tokens",
                AcquireRequest { tokens: 5, estimate: tokens(Some(6), None, None), ..Default::default() },
            ),
            (
                "estimate.tokens",
                AcquireRequest { tokens: 5, estimate: tokens(None, Some(6), None), ..Default::default() },
            ),
            (
                "estimate.tokens",
                AcquireRequest { estimate: tokens(Some(3), Some(1), Some(1)), ..Default::default() },
            ),
            (
                "estimate.other",
                AcquireRequest { estimate: other((0..17).map(|at| format!("u{at}"))), ..Default::default() },
            ),
            (
                "estimate.other[tokens]",
                AcquireRequest { estimate: other(["tokens".to_owned()]), ..Default::default() },
            ),
            ("estimate.other[]", AcquireRequest { estimate: other([String::new()]), ..Default::default() }),
        ];
        for (field, request) in cases {
            let fault = acquire(&Acquire::from(&request), "").expect_err(field);
            let expected = format!("{field}: ");
            let message = fault.into_refused().message;
            assert!(message.starts_with(&expected), "{message:?} names {field}");
        }
    }

    /// Goal: the tenant of the request wins over the session's, which wins over the default.
    #[test]
    fn tenants_in_order() {
        let mut request = Acquire::default();
        assert_eq!(acquire(&request, "").expect("fine").tenant, "default");
        assert_eq!(acquire(&request, "web").expect("fine").tenant, "web");
        request.tenant = "jobs";
        assert_eq!(acquire(&request, "web").expect("fine").tenant, "jobs");
    }

    /// Goal: tokens alone is an estimate, absurd amounts pass through untouched, a count of 0 means 1.
    #[test]
    fn plain_acquire() {
        let request = Acquire { tokens: u64::MAX, max_wait: wait(0, 0), ..Default::default() };
        let ask = acquire(&request, "").expect("fine");
        assert_eq!((ask.estimate, ask.count), (Usage::of_tokens(u64::MAX), 1));
        assert_eq!(ask.max_wait, Some(Duration::ZERO));
    }

    /// Goal: each thing that makes no sense in a report is refused with its field.
    #[test]
    fn reports_name_the_field() {
        let headers: BTreeMap<_, _> = (0..300).map(|at| (format!("h{at}"), String::new())).collect();
        let actual = v1::Usage { tokens: Some(1), input_tokens: Some(2), ..Default::default() };
        let cases = [
            ("body", ReportRequest { body: vec![0; 4_097], ..Default::default() }),
            ("headers", ReportRequest { headers, ..Default::default() }),
            ("http_status", ReportRequest { http_status: 7, ..Default::default() }),
            ("latency", ReportRequest { latency: wait(-1, 0), ..Default::default() }),
            ("outcome", ReportRequest { outcome: 99, ..Default::default() }),
            ("retry_after", ReportRequest { retry_after: wait(-1, 0), ..Default::default() }),
            ("actual.tokens", ReportRequest { actual: Some(actual), ..Default::default() }),
        ];
        for (field, request) in cases {
            let message = read(&request).expect_err(field).into_refused().message;
            assert!(message.starts_with(&format!("{field}: ")), "{message:?} names {field}");
        }
    }

    /// Goal: what is said explicitly wins over status and headers; the status tells whether a failure is worth a retry.
    #[test]
    fn explicit_wins() {
        let headers = BTreeMap::from([("Retry-After".to_owned(), "9".to_owned())]);
        let mut request = ReportRequest { http_status: 429, headers, ..Default::default() };
        let told = read(&request).expect("fine");
        assert_eq!((told.outcome, told.retry_after), (Outcome::RateLimited, Some(Duration::from_secs(9))));
        request.outcome = v1::Outcome::Overloaded.into();
        request.retry_after = wait(1_000_000, 0);
        let told = read(&request).expect("fine");
        assert_eq!((told.outcome, told.retry_after), (Outcome::Overloaded, Some(reading::WAIT_MAX)));
        let statuses =
            [(0, true), (404, false), (408, true), (413, false), (429, false), (502, true), (503, true)];
        for (http_status, retryable) in statuses {
            let failed =
                ReportRequest { outcome: v1::Outcome::Failed.into(), http_status, ..Default::default() };
            let told = read(&failed).expect("fine");
            assert_eq!(told.outcome, Outcome::Failed { retryable }, "{http_status}");
        }
    }
}
