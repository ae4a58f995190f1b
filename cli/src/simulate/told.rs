//! Two replays side by side, for people and for machines.

use std::time::Duration;

use permitd_server::words::about;
use serde_json::{Value, json};

use super::replay::Told;
use crate::{
    format::grouped,
    table::{Align, Table},
};

/// Both as a table.
pub(super) fn table(before: &Told, after: &Told) -> String {
    let columns = [("", Align::Left), ("BEFORE", Align::Right), ("AFTER", Align::Right)];
    let mut table = Table::new(&columns);
    let mut row =
        |name: &str, of: &dyn Fn(&Told) -> String| table.row([name.to_owned(), of(before), of(after)]);
    row("calls served", &|told| grouped(told.served));
    row("calls per minute", &|told| grouped(per_minute(told)));
    row("until the last was over", &|told| about(told.span));
    for (name, percent) in [("median wait", 50), ("95 % wait at most", 95), ("longest wait", 100)] {
        row(name, &|told| about(part(&all(told), percent)));
    }
    row("429s", &|told| grouped(told.rate_limited));
    row("given up after 429s", &|told| grouped(told.given_up));
    row("refused", &refused);
    row("waiting in the end", &|told| grouped(told.waiting));
    for tenant in
        before.waits.keys().chain(after.waits.keys().filter(|name| !before.waits.contains_key(*name)))
    {
        row(&format!("{tenant}: mean wait"), &|told| {
            told.waits.get(tenant).map_or_else(|| "none served".to_owned(), |waits| about(mean(waits)))
        });
    }
    let lost = match before.lost {
        0 => String::new(),
        lost => format!("\n\n{} lines are missing in the trace", grouped(lost)),
    };
    format!("{}{lost}", table.render())
}

/// Both as JSON.
pub(super) fn json(before: &Told, after: &Told) -> Value {
    json!({ "before": one(before), "after": one(after), "lost_lines": before.lost })
}

fn one(told: &Told) -> Value {
    let waits = all(told);
    let seconds = |percent| part(&waits, percent).as_secs_f64();
    let tenants = told.waits.iter().map(|(tenant, waits)| {
        let (served, mean) = (waits.len(), mean(waits).as_secs_f64());
        (tenant.clone(), json!({ "served": served, "wait_mean_seconds": mean }))
    });
    json!({
        "served": told.served,
        "span_seconds": told.span.as_secs_f64(),
        "wait_median_seconds": seconds(50),
        "wait_p95_seconds": seconds(95),
        "wait_longest_seconds": seconds(100),
        "rate_limited": told.rate_limited,
        "given_up": told.given_up,
        "refused": told.refused,
        "waiting": told.waiting,
        "tenants": tenants.collect::<serde_json::Map<_, _>>(),
    })
}

fn per_minute(told: &Told) -> u64 {
    let minutes = told.span.as_secs_f64() / 60.0;
    if minutes > 0.0 { (told.served as f64 / minutes).round() as u64 } else { told.served }
}

/// All waits, sorted.
fn all(told: &Told) -> Vec<Duration> {
    let mut waits: Vec<Duration> = told.waits.values().flatten().copied().collect();
    waits.sort_unstable();
    waits
}

/// What so many per cent waited at most.
fn part(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

fn mean(waits: &[Duration]) -> Duration {
    waits
        .iter()
        .sum::<Duration>()
        .checked_div(u32::try_from(waits.len()).unwrap_or(u32::MAX))
        .unwrap_or_default()
}

fn refused(told: &Told) -> String {
    let sum: u64 = told.refused.values().sum();
    let reasons: Vec<String> =
        told.refused.iter().map(|(reason, times)| format!("{reason} {}", grouped(*times))).collect();
    if reasons.is_empty() { "0".to_owned() } else { format!("{} ({})", grouped(sum), reasons.join(", ")) }
}
