//! Between the wire's well-known types and std's. Nothing a server can send makes these panic: what makes no sense saturates.

use std::time::{Duration, SystemTime};

/// Negative spans become zero.
pub(crate) fn duration(span: prost_types::Duration) -> Duration {
    Duration::try_from(span).unwrap_or(Duration::ZERO)
}

/// Spans past the wire's range become its longest.
pub(crate) fn wire_duration(span: Duration) -> prost_types::Duration {
    /// The longest `google.protobuf.Duration`: 10,000 years.
    const SECONDS_MAX: u64 = 315_576_000_000;
    let span = span.min(Duration::from_secs(SECONDS_MAX));
    prost_types::Duration::try_from(span).expect("it was cut to the wire's range")
}

/// Instants that the platform cannot hold count as unknown.
pub(crate) fn system_time(instant: prost_types::Timestamp) -> Option<SystemTime> {
    SystemTime::try_from(instant).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_saturates() {
        assert_eq!(duration(prost_types::Duration { seconds: -5, nanos: 0 }), Duration::ZERO);
        assert_eq!(duration(prost_types::Duration { seconds: 1, nanos: 5 }), Duration::new(1, 5));
        assert_eq!(wire_duration(Duration::MAX).seconds, 315_576_000_000);
        assert_eq!(duration(wire_duration(Duration::from_millis(1_500))), Duration::from_millis(1_500));
    }
}
