//! Judges what callers saw, by their own clock and nothing else.

use std::time::{Duration, Instant};

/// Within any stretch of time, no more than `most` says of a stretch so long. A call is told by when its request was sent, when its
/// grant was read, and what it used. Server and caller may read their clocks so much apart.
///
/// # Panics
/// If there was more.
pub fn check_rate(
    name: &str,
    calls: &[(Instant, Instant, u64)],
    apart: Duration,
    most: impl Fn(Duration) -> f64,
) {
    let mut by_end = calls.to_vec();
    by_end.sort_by_key(|(_, granted, _)| *granted);
    let mut checked = 0_u64;
    for &(begin, ..) in calls {
        let mut sum = 0.0;
        for &(sent, granted, used) in &by_end {
            if sent < begin {
                continue;
            }
            sum += used as f64;
            checked += 1;
            let stretch = granted.duration_since(begin) + apart;
            let most = most(stretch);
            assert!(sum <= most, "{name}: {sum} within {stretch:?}, where {most} is the most");
        }
    }
    println!("{name}: {checked} windows");
}

/// At no moment are more calls certainly under way, from the grant that was read to the report that was about to be sent, than there
/// are slots.
///
/// # Panics
/// If there are.
pub fn check_in_flight(name: &str, calls: impl Iterator<Item = (Instant, Instant)>, slots: i64) {
    let mut edges: Vec<(Instant, i64)> = calls.flat_map(|(begin, end)| [(begin, 1), (end, -1)]).collect();
    // At the same reading, an end counts first.
    edges.sort();
    let mut live = 0;
    for (_, change) in edges {
        live += change;
        assert!(live <= slots, "{name}: {live} at once, where {slots} is the most");
    }
}
