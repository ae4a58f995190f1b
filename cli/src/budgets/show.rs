//! How budgets look as tables, and as the commands that declare them.

use std::time::Duration;

use permitd_proto::v1;
use permitd_server::{
    shown::{command, name, shown},
    words::about,
};

use crate::{
    format::{grouped, moment, span},
    table::{Align, Table},
};

/// A table of budgets, a row for each limit.
pub(super) fn table(states: &[v1::BudgetState]) -> String {
    let mut table = Table::new(&[
        ("BUDGET", Align::Left),
        ("LIMIT", Align::Left),
        ("FREE", Align::Right),
        ("OF", Align::Right),
        ("WAITING", Align::Right),
        ("IN FLIGHT", Align::Right),
        ("GRANTED", Align::Right),
        ("REFUSED", Align::Right),
        ("429S", Align::Right),
        ("STATE", Align::Left),
    ]);
    for state in states {
        let mut limits = state.limits.iter();
        let first = limits.next();
        let mut row = vec![state.budget.as_ref().map(name).unwrap_or_default()];
        row.extend(first.map_or([const { String::new() }; 3], limit_cells));
        let counts = [u64::from(state.waiting), state.in_flight.into(), state.granted_total];
        row.extend(counts.map(grouped));
        row.extend([state.refused_total, state.rate_limited_total].map(grouped));
        row.push(condition(state, first));
        table.row(row);
        for limit in limits {
            let mut row = vec![String::new()];
            row.extend(limit_cells(limit));
            row.resize(9, String::new());
            row.push(remark(limit).unwrap_or_default());
            table.row(row);
        }
    }
    table.render()
}

/// What is special about a limit: frozen, learned, or a guess.
fn remark(limit: &v1::LimitState) -> Option<String> {
    let guessed = || (limit.source == "learned").then(|| "nobody declared it".to_owned());
    frozen(limit).or_else(|| learned(limit)).or_else(guessed)
}

fn learned(limit: &v1::LimitState) -> Option<String> {
    let at = limit.learned_at.as_ref().map_or_else(String::new, |at| format!(" at {}", moment(at)));
    (!limit.learned_from.is_empty()).then(|| format!("from {}{at}", limit.learned_from))
}

fn limit_cells(limit: &v1::LimitState) -> [String; 3] {
    let configured = limit.configured.clone().unwrap_or_default();
    let mut amount = if limit.effective_amount == configured.amount {
        grouped(configured.amount)
    } else {
        format!("{} ({})", grouped(limit.effective_amount), grouped(configured.amount))
    };
    // Else an idle limit looks nearly used up.
    if limit.capacity != limit.effective_amount && limit.capacity > 0 {
        amount = format!("{amount}, {} at once", grouped(limit.capacity));
    }
    [shown(&configured).name, grouped(limit.level), amount]
}

fn condition(state: &v1::BudgetState, first: Option<&v1::LimitState>) -> String {
    let paused = state.paused.then(|| "paused".to_owned());
    let shadow = state.shadow.is_some().then(|| "shadow".to_owned());
    let halted: Vec<String> = paused.into_iter().chain(exhausted(state)).chain(shadow).collect();
    if !halted.is_empty() {
        return halted.join(", ");
    }
    first.and_then(remark).unwrap_or_default()
}

fn exhausted(state: &v1::BudgetState) -> Option<String> {
    state.exhausted.then(|| match &state.exhausted_until {
        Some(until) => format!("exhausted until {}", moment(until)),
        None => "exhausted".to_owned(),
    })
}

fn frozen(limit: &v1::LimitState) -> Option<String> {
    limit.frozen_until.as_ref().map(|until| format!("frozen until {}", moment(until)))
}

/// One budget at length.
pub(super) fn at_length(state: &v1::BudgetState) -> String {
    let mut text = table(std::slice::from_ref(state));
    if let Some(budget) = &state.budget {
        text += &format!("\n\n{}", declared(budget));
    }
    if !state.owner.is_empty() {
        text += &format!("\nserver    {}", state.owner);
    }
    if let Some(shadow) = &state.shadow {
        text += &format!("\n\n{}", in_shadow(shadow));
    }
    if !state.tenants.is_empty() {
        let mut tenants = Table::new(&[
            ("TENANT", Align::Left),
            ("WEIGHT", Align::Right),
            ("WAITING", Align::Right),
            ("IN FLIGHT", Align::Right),
            ("GRANTED", Align::Right),
        ]);
        for tenant in &state.tenants {
            let weight = state.budget.as_ref().and_then(|budget| budget.tenants.get(&tenant.tenant));
            let counts = [u64::from(tenant.waiting), tenant.in_flight.into(), tenant.granted_total];
            let weight = weight.map_or(1, |tenant| tenant.weight.max(1));
            tenants.row([tenant.tenant.clone(), weight.to_string()].into_iter().chain(counts.map(grouped)));
        }
        text += &format!("\n\n{}", tenants.render());
    }
    text
}

/// What the limits would have done.
fn in_shadow(would: &v1::ShadowState) -> String {
    let since = would.since.as_ref().map(moment).unwrap_or_default();
    let [granted, waited, refused] =
        [would.granted_total, would.waited_total, would.refused_total].map(grouped);
    let mean = mean_wait(would).map_or_else(String::new, |mean| {
        let longest = would.wait_longest.as_ref().map(span).unwrap_or_default();
        format!(" ({} on average, {} at most)", about(mean), about(longest))
    });
    let reasons: Vec<String> =
        would.refused.iter().map(|(reason, times)| format!("{reason} {}", grouped(*times))).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    format!(
        "shadow    granted at once; since {since} the limits would have\n          granted {granted}, {waited} of them after a \
         wait{mean}; refused {refused}{reasons};\n          and {} would wait now",
        grouped(would.waiting)
    )
}

/// Of those who would have waited.
fn mean_wait(would: &v1::ShadowState) -> Option<Duration> {
    let total = would.wait_total.as_ref().map(span)?;
    let nanos = total.as_nanos().checked_div(would.waited_total.into())?;
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// What is declared about a budget, as `permitd budgets set` would take it.
pub(super) fn declared(budget: &v1::Budget) -> String {
    let etag = if budget.etag.is_empty() { String::new() } else { format!("\netag      {}", budget.etag) };
    format!("declared  {}{etag}", command(budget))
}

#[cfg(test)]
mod tests {
    use super::{super::set::told_by, *};

    fn budget() -> v1::Budget {
        let limits = ["--limit", "requests=60/1m", "--limit", "requests=60/1m,models=claude-*"];
        let others = ["--tenant", "a b=3:7", "--overflow", "reject", "--etag", "e1"];
        told_by(&[&["anthropic/prod"][..], &limits, &others].concat())
    }

    /// Goal: what is declared is shown as the command that declares it, ready for a shell.
    #[test]
    fn shows_the_command() {
        let expected = "declared  permitd budgets set anthropic/prod --limit requests=60/1m --limit \
                        'requests=60/1m,models=claude-*' --tenant 'a b=3:7' --overflow reject\netag      e1";
        assert_eq!(declared(&budget()), expected);
    }

    /// Goal: a row for each limit, the budget's own figures in the first.
    #[test]
    fn a_row_for_each_limit() {
        let limits = budget().limits.into_iter().map(|configured| v1::LimitState {
            configured: Some(configured),
            effective_amount: 60,
            level: -5,
            ..v1::LimitState::default()
        });
        let state = v1::BudgetState {
            budget: Some(budget()),
            limits: limits.collect(),
            waiting: 1_200,
            paused: true,
            ..v1::BudgetState::default()
        };
        let text = table(&[state]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].starts_with("anthropic/prod  requests/1m"), "{text}");
        assert!(lines[1].contains("1,200") && lines[1].ends_with("paused"), "{text}");
        assert!(lines[2].trim_start().starts_with("requests/1m model=claude-*"), "{text}");
    }

    /// Goal: an idle limit with a burst does not look nearly used up, and one that nobody declared is said to be that.
    #[test]
    fn tells_what_a_limit_holds_at_once() {
        let limit = v1::LimitState {
            configured: budget().limits.into_iter().next(),
            effective_amount: 60,
            level: 10,
            capacity: 10,
            source: "learned".to_owned(),
            ..v1::LimitState::default()
        };
        assert_eq!(limit_cells(&limit), ["requests/1m", "10", "60, 10 at once"]);
        assert_eq!(remark(&limit).as_deref(), Some("nobody declared it"));
        let usual = v1::LimitState { capacity: 60, source: "config".to_owned(), ..limit };
        assert_eq!((limit_cells(&usual)[2].as_str(), remark(&usual)), ("60", None));
    }

    /// Goal: what holds everybody back is told in a word, a quota that is used up with its reset if that is known.
    #[test]
    fn tells_what_halts() {
        let until = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
        let exhausted = v1::BudgetState { exhausted: true, ..v1::BudgetState::default() };
        for (state, word) in [
            (v1::BudgetState::default(), ""),
            (exhausted.clone(), "exhausted"),
            (v1::BudgetState { paused: true, ..exhausted.clone() }, "paused, exhausted"),
            (v1::BudgetState { exhausted_until: until, ..exhausted }, "exhausted until 1970-01-01T00:00:01Z"),
        ] {
            assert_eq!(condition(&state, None), word);
        }
    }
}
