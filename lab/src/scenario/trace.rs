//! A run as lines to read: what was true, what was refused, what the budget made of it, and every ten seconds how things stand.

use std::fmt::Write as _;

use super::{
    expect::unit,
    figures::{seconds, true_limit},
    file::Scenario,
    record::{Attempt, Fate, LimitName, Record, Sample},
    simulated::Why,
};
use crate::provider::{Limits, account::Dimension, buckets::Nanos};

/// How things stand is told this often.
const EVERY: Nanos = 10_000_000_000;
/// Refusals that are no farther apart than this are told together.
const TOGETHER: Nanos = 1_000_000_000;
/// A rise is told when it is at least to so many times what was told before.
const TOLD_RISE: f64 = 1.02;
/// The stretch after a freeze in which the calls that were let go are counted.
const RESUMING: Nanos = 1_000_000_000;

/// What is limited, in the order in which it is told.
const DIMENSIONS: [Dimension; 5] = [
    Dimension::Requests,
    Dimension::InputTokens,
    Dimension::OutputTokens,
    Dimension::Tokens,
    Dimension::Concurrency,
];

/// A run of managed clients as text.
#[must_use]
pub fn trace(scenario: &Scenario, record: &Record) -> String {
    let mut lines = truths(scenario);
    lines.extend(refusals(record));
    lines.extend(beliefs(scenario, record));
    lines.extend(record.turned_away.iter().map(|(work, at, why)| {
        let tenant = &scenario.work[*work].tenant;
        (*at, "turned away", format!("a call of {tenant}: {why}"))
    }));
    lines.extend(standings(scenario, record));
    lines.extend(record.cut_short.map(|at| (at, "cut short", "more happens than can be right".to_owned())));
    lines.sort_by_key(|(at, ..)| *at);
    let mut text = String::new();
    for (at, what, line) in lines {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{:>10.3}  {what:<11} {line}", seconds(at));
    }
    text
}

/// When, what kind of thing, and what.
type Line = (Nanos, &'static str, String);

fn truths(scenario: &Scenario) -> Vec<Line> {
    let mut lines = Vec::new();
    let declared: Vec<String> =
        scenario.declared.limits.iter().map(|limit| format!("{limit} {}", limit.amount)).collect();
    let declared = if declared.is_empty() { "nothing".to_owned() } else { declared.join(", ") };
    lines.push((0, "declared", declared));
    for pool in &scenario.pools {
        for (at, limits) in &pool.truth {
            let models =
                if pool.models.is_empty() { String::new() } else { format!(" for {}*", pool.models) };
            lines.push((*at, "true", told(limits) + &models));
        }
    }
    for (at, behaviour) in &scenario.behaviours {
        let line = format!(
            "calls take {} ms, {} % overloaded",
            behaviour.latency_median_ms,
            behaviour.overloaded * 100.0
        );
        lines.push((*at, "provider", line));
    }
    lines
}

fn told(limits: &Limits) -> String {
    let rates = [limits.requests, limits.input_tokens, limits.output_tokens, limits.tokens];
    let mut told = Vec::new();
    for (of, rate) in DIMENSIONS.into_iter().zip(rates) {
        if let Some(rate) = rate {
            let manner = match (rate.quantum_ms, rate.burst) {
                (Some(quantum), _) => format!(", judged every {quantum} ms"),
                (None, 0) => String::new(),
                (None, burst) => format!(", burst {burst}"),
            };
            told.push(format!("{} {}/1m{manner}", unit(of), rate.per_minute));
        }
    }
    told.extend(limits.concurrency.map(|limit| format!("in_flight {limit}")));
    told.extend(limits.capacity.map(|capacity| format!("slower with more than {capacity} at once")));
    told.join("; ")
}

/// Refusals by the time at which they were heard of, those close together as one.
fn refusals(record: &Record) -> Vec<Line> {
    let mut heard: Vec<(&Attempt, Why)> = record.attempts.iter().filter_map(refused).collect();
    heard.sort_by_key(|(attempt, _)| attempt.heard);
    let together = |a: &(&Attempt, Why), b: &(&Attempt, Why)| {
        a.1 == b.1 && a.0.told == b.0.told && b.0.heard - a.0.heard <= TOGETHER
    };
    heard.chunk_by(together).map(|burst| (burst[0].0.heard, "refused", burst_line(burst))).collect()
}

fn refused(attempt: &Attempt) -> Option<(&Attempt, Why)> {
    match attempt.fate {
        Fate::Refused(why) if attempt.heard != Nanos::MAX => Some((attempt, why)),
        _ => None,
    }
}

fn burst_line(burst: &[(&Attempt, Why)]) -> String {
    let (first, why) = burst[0];
    let last = burst[burst.len() - 1].0;
    let why = match why {
        Why::Limit(of) => format!("for {}", unit(of)),
        Why::Ramp => "for growing too steeply".to_owned(),
        Why::Overloaded => "overloaded".to_owned(),
        Why::TooLarge(of) => format!("never: more {} than the limit holds", unit(of)),
    };
    let sent = burst.iter().map(|(attempt, _)| attempt.sent);
    let (least, most) = (sent.clone().min().unwrap_or(0), sent.max().unwrap_or(0));
    let mut line = format!("{}x {why}", burst.len());
    if burst.len() > 1 {
        let _ = write!(line, " until {:.3}", seconds(last.heard));
    }
    let _ = write!(line, "; sent {:.3}", seconds(least));
    if most > least {
        let _ = write!(line, " to {:.3}", seconds(most));
    }
    let wait = |wait: Option<Nanos>| wait.map_or("none".to_owned(), |wait| format!("{:.3} s", seconds(wait)));
    let _ = write!(line, "; wait told {}, needed {}", wait(first.told), wait(first.needed));
    line
}

/// What the budget believes, where it changes by something that is worth a line.
fn beliefs(scenario: &Scenario, record: &Record) -> Vec<Line> {
    let mut lines = Vec::new();
    for (place, limit) in record.limits.iter().enumerate() {
        let seen =
            record.samples.iter().map(|sample| (sample.at, sample.limits.get(place).copied().flatten()));
        let (mut told, mut frozen): (Option<f64>, Option<Nanos>) = (None, None);
        for (at, now) in seen {
            let believed = now.map(|now| now.effective);
            if is_news(told, believed) {
                lines.push((at, direction(told, believed), belief(scenario, limit, (told, believed), at)));
                told = believed;
            }
            match (frozen, now.and_then(|now| now.frozen_until)) {
                (Some(until), Some(later)) if later <= until + TOGETHER => {}
                (_, Some(until)) => {
                    let (end, span) = (seconds(until), seconds(until - at));
                    lines.push((at, "frozen", format!("{} until {end:.3} ({span:.3} s)", limit.text)));
                    frozen = Some(until);
                }
                (Some(until), None) => {
                    lines.extend(resumed(record, &limit.text, until));
                    frozen = None;
                }
                (None, None) => {}
            }
        }
    }
    lines
}

/// Whether a change is worth a line: a limit that comes or goes, a fall, a rise of a fiftieth.
fn is_news(told: Option<f64>, now: Option<f64>) -> bool {
    match (told, now) {
        (Some(told), Some(now)) => now < told || now >= told * TOLD_RISE,
        (told, now) => told.is_some() != now.is_some(),
    }
}

fn belief(
    scenario: &Scenario,
    limit: &LimitName,
    (before, now): (Option<f64>, Option<f64>),
    at: Nanos,
) -> String {
    let name = |limit: Option<f64>| limit.map_or("none".to_owned(), |limit| format!("{limit:.1}"));
    let of = DIMENSIONS.into_iter().find(|of| unit(*of) == limit.unit);
    let truth = of.and_then(|of| true_limit(scenario, limit.models.trim_end_matches('*'), of, at));
    format!("{} {} -> {} (true {})", limit.text, name(before), name(now), name(truth))
}

fn direction(before: Option<f64>, now: Option<f64>) -> &'static str {
    match (before, now) {
        (Some(before), Some(now)) if now < before => "lowered",
        (Some(_), Some(_)) => "raised",
        (None, _) => "learned",
        (_, None) => "forgotten",
    }
}

/// How calls went out again after a freeze.
fn resumed(record: &Record, limit: &str, at: Nanos) -> Option<Line> {
    let first = record.attempts.partition_point(|attempt| attempt.sent < at);
    let after = &record.attempts[first..];
    let begun = after.first()?.sent;
    let soon = after.iter().take_while(|attempt| attempt.sent < begun + RESUMING).count();
    let line = format!("{limit}: {soon} calls went out in the first second, from {:.3}", seconds(begun));
    Some((begun, "resumed", line))
}

/// How things stand, every ten seconds that differ from those before.
fn standings(scenario: &Scenario, record: &Record) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut arrived: Vec<&Attempt> = record.attempts.iter().collect();
    arrived.sort_by_key(|attempt| attempt.arrived);
    for step in 1..=record.cut_short.unwrap_or(scenario.lasts) / EVERY {
        let at = step * EVERY;
        let within = |time: Nanos| arrived.partition_point(|attempt| attempt.arrived < time);
        let lately = &arrived[within(at - EVERY)..within(at)];
        let started = lately.iter().filter(|attempt| attempt.fate == Fate::Started).count();
        let limited = lately.iter().filter(|attempt| attempt.is_limited()).count();
        let overloaded = lately.len() - started - limited;
        let mut line = format!("{:>6.1}/m let through, {limited} 429s", started as f64 * 6.0);
        if overloaded > 0 {
            let _ = write!(line, ", {overloaded} others refused");
        }
        let last = record.samples.partition_point(|sample| sample.at <= at);
        if let Some(sample) = last.checked_sub(1).map(|last| &record.samples[last]) {
            line += &standing(record, sample);
        }
        lines.push((at, "", line));
    }
    // A while in which nothing changes is told by its first line.
    lines.dedup_by(|later, earlier| later.2 == earlier.2);
    lines
}

fn standing(record: &Record, sample: &Sample) -> String {
    let mut line = format!("; in flight {}, waiting {}", sample.in_flight, sample.waiting);
    for (name, limit) in record.limits.iter().zip(&sample.limits) {
        if let Some(limit) = limit {
            let _ = write!(line, "; {} {:.1} level {}", name.text, limit.effective, limit.level);
        }
    }
    line
}
