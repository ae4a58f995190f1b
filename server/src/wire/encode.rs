//! From the heart to the wire. Total: whatever the heart says can be written.

use std::{collections::BTreeMap, time::Duration};

use permitd_budget::{
    Amounts, Grant, Line, Outcome, PastAnswer, PastRefusal, Place, Priority, Reported, Seen, Time,
};
use permitd_proto::v1;
use prost_types::Timestamp;

use crate::config::BudgetName;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A span; saturates where protobuf's own range ends (10,000 years), which no span of ours reaches.
pub(crate) fn duration(span: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX).min(315_576_000_000);
    // Below 10^9, so it fits.
    prost_types::Duration { seconds, nanos: span.subsec_nanos() as i32 }
}

/// A moment.
pub(crate) fn timestamp(time: Time) -> Timestamp {
    let nanos = time.as_nanos();
    // u64 nanoseconds are 584 years: both parts fit.
    Timestamp { seconds: (nanos / NANOS_PER_SECOND) as i64, nanos: (nanos % NANOS_PER_SECOND) as i32 }
}

/// A grant with its id already written.
pub(crate) fn permit(permit_id: String, name: &BudgetName, grant: Grant) -> v1::Permit {
    v1::Permit {
        permit_id,
        provider: name.provider().to_owned(),
        key: name.key().to_owned(),
        expires_at: Some(timestamp(grant.expires)),
        ttl: Some(duration(grant.ttl)),
        waited: Some(duration(grant.waited)),
        charged: Some(amounts(grant.charged)),
    }
}

/// What a permit holds.
pub(crate) fn amounts(amounts: Amounts) -> v1::Usage {
    let other = match amounts.other {
        Some(other) => other.into_iter().map(|(unit, amount)| (unit.into_string(), amount)).collect(),
        None => BTreeMap::new(),
    };
    v1::Usage {
        requests: Some(amounts.requests),
        tokens: Some(amounts.tokens),
        input_tokens: Some(amounts.input_tokens),
        output_tokens: Some(amounts.output_tokens),
        max_output_tokens: None,
        cached_input_tokens: None,
        other,
    }
}

/// A place in the queue.
pub(crate) fn queued(request_id: u64, place: Place) -> v1::Queued {
    v1::Queued {
        request_id,
        position: place.position,
        estimated_wait: place.estimated_wait.map(duration),
        held_by: place.held_by,
        limit: place.limit.unwrap_or_default(),
    }
}

/// The first requests of a line, and how many stand behind.
pub(crate) fn waiting_line(line: &Line) -> v1::WaitingLine {
    v1::WaitingLine {
        tenant: line.tenant.clone(),
        priority: priority(line.priority).into(),
        model: line.model.clone(),
        waiting: line.waiting,
        oldest: Some(duration(line.oldest)),
        first: Some(queued(0, line.first.clone())),
    }
}

/// Requests that were refused.
pub(crate) fn past_refusal(seen: &Seen<PastRefusal>) -> v1::PastRefusal {
    let PastRefusal { tenant, refusal } = &seen.what;
    v1::PastRefusal {
        tenant: tenant.clone(),
        reason: refusal.reason.name().to_owned(),
        limit: refusal.limit.clone().unwrap_or_default(),
        message: refusal.to_string(),
        times: seen.times,
        first_at: Some(timestamp(seen.first)),
        last_at: Some(timestamp(seen.last)),
    }
}

/// Calls that the provider refused.
pub(crate) fn past_answer(seen: &Seen<PastAnswer>) -> v1::PastAnswer {
    let PastAnswer { outcome: said, model, retry_after, froze, frozen_until } = &seen.what;
    v1::PastAnswer {
        outcome: outcome(*said).into(),
        model: model.clone(),
        retry_after: retry_after.map(duration),
        froze: froze.clone(),
        frozen_until: frozen_until.map(timestamp),
        times: seen.times,
        first_at: Some(timestamp(seen.first)),
        last_at: Some(timestamp(seen.last)),
    }
}

/// A class.
fn priority(priority: Priority) -> v1::Priority {
    match priority {
        Priority::Interactive => v1::Priority::Interactive,
        Priority::Standard => v1::Priority::Standard,
        Priority::Batch => v1::Priority::Batch,
    }
}

/// The answer to a report.
pub(crate) fn reported(permit_id: String, reported: Reported) -> v1::ReportResponse {
    v1::ReportResponse {
        permit_id,
        outcome: outcome(reported.outcome).into(),
        settled: reported.settled,
        retry: reported.retry,
        retry_after: reported.retry_after.map(duration),
    }
}

/// How a call went.
pub(crate) fn outcome(outcome: Outcome) -> v1::Outcome {
    match outcome {
        Outcome::Success => v1::Outcome::Success,
        Outcome::RateLimited => v1::Outcome::RateLimited,
        Outcome::ConcurrencyLimited => v1::Outcome::ConcurrencyLimited,
        Outcome::Overloaded => v1::Outcome::Overloaded,
        Outcome::AccelerationLimited => v1::Outcome::AccelerationLimited,
        Outcome::QuotaExhausted => v1::Outcome::QuotaExhausted,
        Outcome::TooLarge => v1::Outcome::TooLarge,
        Outcome::Failed { .. } => v1::Outcome::Failed,
        Outcome::Cancelled => v1::Outcome::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the ends of both ranges are written without a wrap.
    #[test]
    fn ends_of_ranges() {
        assert_eq!(duration(Duration::MAX).seconds, 315_576_000_000);
        assert_eq!(
            duration(Duration::from_nanos(1_500_000_000)),
            prost_types::Duration { seconds: 1, nanos: 500_000_000 }
        );
        assert_eq!(timestamp(Time::MAX), Timestamp { seconds: 18_446_744_073, nanos: 709_551_615 });
    }
}
