//! From samples to figures: what was possible, what was used, how evenly. Pure; every figure comes from the provider's counters or
//! from the clients' own clocks.

use std::time::Duration;

use permitd_lab::provider::{ByDimension, Counters, Stats};
use serde::{Deserialize, Serialize};

/// The initial burst is not the sustained rate: figures per time start after it.
const WARM_UP: Duration = Duration::from_millis(1_500);

/// Over less than this, figures per time say more about chance than about anything else.
const STRETCH_MIN: Duration = Duration::from_secs(3);

/// The state of the fleet at one moment of a phase.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Since the phase began.
    pub(crate) at: Duration,
    /// What the provider had counted by then.
    pub(crate) stats: Stats,
    /// For every batch client: how many of its calls had not been let through to the provider yet.
    pub(crate) left: Vec<u64>,
}

/// One wait of the interactive client: from wanting to call until the call that succeeded set out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wait {
    /// When it wanted to call, in microseconds since the phase began.
    pub(crate) wanted_at_us: u64,
    pub(crate) waited_us: u64,
    /// Whether the phase ended before the wait did; it would have been longer.
    pub(crate) cut_off: bool,
}

/// The figures of one phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Until the last batch call was answered, or the phase was stopped.
    pub(crate) wall_seconds: f64,
    /// The share of the batch calls that were answered; 1 unless the phase was stopped.
    pub(crate) done_share: f64,
    /// Work let through, over what the limit that was used most provided while there was a backlog.
    pub(crate) possible_share: Option<f64>,
    /// The limit that was used most.
    pub(crate) bottleneck: Option<&'static str>,
    /// The same share for every limit.
    pub(crate) shares: Vec<(&'static str, f64)>,
    pub(crate) limited: u64,
    pub(crate) succeeded: u64,
    pub(crate) limited_per_success: f64,
    /// Jain's index over what the batch clients were served while all of them had work left.
    pub(crate) jain: Option<f64>,
    /// What that was for each of them, in seconds of the limit that each of its calls needs longest.
    pub(crate) served_seconds: Vec<(String, f64)>,
    /// The interactive client's waits while there was a backlog, the shortest first.
    pub(crate) waits: Vec<Wait>,
    pub(crate) wait_median_ms: Option<f64>,
    pub(crate) wait_mean_ms: Option<f64>,
    pub(crate) wait_worst_ms: Option<f64>,
    /// Whether the worst wait was still going on when the phase was stopped.
    pub(crate) wait_worst_cut_off: bool,
    /// The stretch that shares are measured over, in seconds since the phase began.
    pub(crate) backlog_seconds: Option<(f64, f64)>,
}

/// What a phase left behind.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) samples: &'a [Sample],
    /// In the order of `left` in the samples.
    pub(crate) batch_clients: &'a [String],
    pub(crate) waits: &'a [Wait],
    pub(crate) wall: Duration,
    pub(crate) done: u64,
    pub(crate) wanted: u64,
}

/// All figures of one phase.
pub(crate) fn figures(observed: &Observed<'_>) -> Figures {
    // What was sampled after the phase was stopped is for the totals only.
    let running: Vec<&Sample> =
        observed.samples.iter().take_while(|sample| sample.at <= observed.wall).collect();
    let backlog = stretch(&running, |left| left.iter().any(|&calls| calls > 0));
    let shares = backlog.map(|(from, to)| shares(from, to)).unwrap_or_default();
    let most_used = shares.iter().copied().max_by(|(_, one), (_, other)| one.total_cmp(other));
    let all_busy = stretch(&running, |left| left.iter().all(|&calls| calls > 0));
    let served = all_busy.map(|(from, to)| served(from, to, observed.batch_clients));

    let backlog_ends = running.iter().rev().find(|sample| sample.left.iter().any(|&calls| calls > 0));
    let backlog_ends = backlog_ends.map_or(Duration::ZERO, |sample| sample.at);
    let mut waits: Vec<Wait> = observed.waits.to_vec();
    waits.retain(|wait| u128::from(wait.wanted_at_us) <= backlog_ends.as_micros());
    waits.sort_by_key(|wait| wait.waited_us);

    let total = observed.samples.last().map(|sample| total(&sample.stats)).unwrap_or_default();
    Figures {
        wall_seconds: observed.wall.as_secs_f64(),
        done_share: ratio(observed.done, observed.wanted),
        possible_share: most_used.map(|(_, share)| share),
        bottleneck: most_used.map(|(name, _)| name),
        shares,
        limited: total.limited,
        succeeded: total.ok,
        limited_per_success: ratio(total.limited, total.ok),
        jain: served.as_deref().and_then(jain),
        served_seconds: named_seconds(observed.batch_clients, served.as_deref().unwrap_or_default()),
        wait_median_ms: median(&waits),
        wait_mean_ms: mean(&waits),
        wait_worst_ms: waits.last().map(|wait| milliseconds(wait.waited_us)),
        wait_worst_cut_off: waits.last().is_some_and(|wait| wait.cut_off),
        waits,
        backlog_seconds: backlog.map(|(from, to)| (from.at.as_secs_f64(), to.at.as_secs_f64())),
    }
}

/// Jain's index: 1 where all have the same, 1/n where one has everything. `None` where nobody has anything.
fn jain(served: &[u64]) -> Option<f64> {
    let sum: f64 = served.iter().map(|&amount| float(amount)).sum();
    let squares: f64 = served.iter().map(|&amount| float(amount).powi(2)).sum();
    (squares > 0.0).then(|| sum * sum / (float(served.len() as u64) * squares))
}

/// The first sample after the warm-up and the last one of which `holds` is true, if there is enough time between them.
fn stretch<'a>(samples: &[&'a Sample], holds: impl Fn(&[u64]) -> bool) -> Option<(&'a Sample, &'a Sample)> {
    let from = samples.iter().find(|sample| sample.at >= WARM_UP)?;
    let to = samples.iter().take_while(|sample| holds(&sample.left)).last()?;
    (to.at.saturating_sub(from.at) >= STRETCH_MIN).then_some((from, to))
}

fn shares(from: &Sample, to: &Sample) -> Vec<(&'static str, f64)> {
    let (before, after) = (total(&from.stats), total(&to.stats));
    let possible = |of: fn(&ByDimension) -> u64| of(&to.stats.possible) - of(&from.stats.possible);
    let limits = [
        ("requests", after.admitted - before.admitted, possible(|amounts| amounts.requests)),
        ("input_tokens", after.input_tokens - before.input_tokens, possible(|amounts| amounts.input_tokens)),
        (
            "output_tokens",
            after.output_tokens - before.output_tokens,
            possible(|amounts| amounts.output_tokens),
        ),
    ];
    let limited = limits.into_iter().filter(|(_, _, possible)| *possible > 0);
    limited.map(|(name, used, possible)| (name, ratio(used, possible))).collect()
}

fn served(from: &Sample, to: &Sample, clients: &[String]) -> Vec<u64> {
    let service = |sample: &Sample, name: &String| {
        sample.stats.clients.get(name).map_or(0, |counters| counters.service_ns)
    };
    clients.iter().map(|name| service(to, name).saturating_sub(service(from, name))).collect()
}

fn named_seconds(clients: &[String], served: &[u64]) -> Vec<(String, f64)> {
    clients
        .iter()
        .cloned()
        .zip(served.iter().map(|&nanos| Duration::from_nanos(nanos).as_secs_f64()))
        .collect()
}

fn total(stats: &Stats) -> Counters {
    stats.clients.values().fold(Counters::default(), |sum, counters| Counters {
        requests: sum.requests + counters.requests,
        admitted: sum.admitted + counters.admitted,
        ok: sum.ok + counters.ok,
        limited: sum.limited + counters.limited,
        input_tokens: sum.input_tokens + counters.input_tokens,
        output_tokens: sum.output_tokens + counters.output_tokens,
        ..sum
    })
}

fn median(sorted: &[Wait]) -> Option<f64> {
    let (upper, lower) = (sorted.get(sorted.len() / 2)?, sorted.get((sorted.len() - 1) / 2)?);
    Some(milliseconds(upper.waited_us).midpoint(milliseconds(lower.waited_us)))
}

fn mean(waits: &[Wait]) -> Option<f64> {
    let sum: u64 = waits.iter().map(|wait| wait.waited_us).sum();
    (!waits.is_empty()).then(|| milliseconds(sum) / float(waits.len() as u64))
}

fn milliseconds(microseconds: u64) -> f64 {
    float(microseconds) / 1_000.0
}

fn ratio(of: u64, to: u64) -> f64 {
    if to == 0 { 0.0 } else { float(of) / float(to) }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, admitted: [u64; 2], left: [u64; 2]) -> Sample {
        let clients = ["a", "b"].into_iter().zip(admitted).map(|(name, admitted)| {
            let service_ns = admitted * 100_000_000;
            (
                name.to_owned(),
                Counters { admitted, ok: admitted, limited: 1, service_ns, ..Counters::default() },
            )
        });
        let possible = ByDimension { requests: seconds * 10, ..ByDimension::default() };
        let stats = Stats { possible, clients: clients.collect(), ..Stats::default() };
        Sample { at: Duration::from_secs(seconds), stats, left: left.to_vec() }
    }

    fn wait(at: u64, waited: u64) -> Wait {
        Wait { wanted_at_us: at * 1_000_000, waited_us: waited * 1_000, cut_off: false }
    }

    #[test]
    fn shares_and_fairness_are_measured_while_there_is_work_left() {
        let samples = [
            sample(0, [0, 0], [40, 40]),
            sample(2, [10, 10], [30, 30]),
            sample(5, [20, 19], [10, 11]),
            sample(7, [40, 30], [0, 10]),
            sample(8, [40, 40], [0, 0]),
            sample(9, [40, 40], [0, 0]),
        ];
        let names = ["a".to_owned(), "b".to_owned()];
        let waits = [wait(1, 30), wait(3, 10), wait(5, 20), wait(9, 500)];
        let figures = figures(&Observed {
            samples: &samples,
            batch_clients: &names,
            waits: &waits,
            wall: Duration::from_secs(8),
            done: 80,
            wanted: 80,
        });
        // From 2 s to 7 s: 50 of 50 possible; all busy only until 5 s: 10 and 9.
        assert_eq!((figures.possible_share, figures.bottleneck), (Some(1.0), Some("requests")));
        assert_eq!(figures.backlog_seconds, Some((2.0, 7.0)));
        assert_eq!(figures.jain, Some(19.0 * 19.0 / (2.0 * (100.0 + 81.0))));
        assert_eq!((figures.limited, figures.succeeded), (2, 80));
        assert_eq!(
            (figures.waits.len(), figures.wait_median_ms, figures.wait_worst_ms),
            (3, Some(20.0), Some(30.0))
        );
    }

    #[test]
    fn jains_index_is_one_for_equal_and_low_for_greedy() {
        assert_eq!(jain(&[7, 7, 7]), Some(1.0));
        assert_eq!(jain(&[9, 0, 0]), Some(1.0 / 3.0));
        assert_eq!(jain(&[0, 0]), None);
    }

    #[test]
    fn without_a_backlog_nothing_is_claimed() {
        let figures = figures(&Observed {
            samples: &[sample(0, [0, 0], [1, 1]), sample(2, [1, 1], [0, 0])],
            batch_clients: &[],
            waits: &[],
            wall: Duration::from_secs(2),
            done: 2,
            wanted: 2,
        });
        assert_eq!((figures.possible_share, figures.jain, figures.wait_median_ms), (None, None, None));
    }
}
