//! How budgets look, as tables and as JSON.

use std::{collections::BTreeSet, time::Duration};

use permitd_proto::v1;
use permitd_server::words::about;
use serde_json::{Value, json};

use crate::{
    format::{grouped, moment, span, span_text},
    limits::{shown, tenant_text},
    table::{Align, Table},
};

/// A budget's name.
pub(super) fn name(budget: &v1::Budget) -> String {
    format!("{}/{}", budget.provider, budget.key)
}

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

/// What is special about a limit: frozen, or learned.
fn remark(limit: &v1::LimitState) -> Option<String> {
    frozen(limit).or_else(|| learned(limit))
}

fn learned(limit: &v1::LimitState) -> Option<String> {
    let at = limit.learned_at.as_ref().map_or_else(String::new, |at| format!(" at {}", moment(at)));
    (!limit.learned_from.is_empty()).then(|| format!("from {}{at}", limit.learned_from))
}

fn limit_cells(limit: &v1::LimitState) -> [String; 3] {
    let configured = limit.configured.clone().unwrap_or_default();
    let amount = if limit.effective_amount == configured.amount {
        grouped(configured.amount)
    } else {
        format!("{} ({})", grouped(limit.effective_amount), grouped(configured.amount))
    };
    [shown(&configured).name, grouped(limit.level), amount]
}

fn condition(state: &v1::BudgetState, first: Option<&v1::LimitState>) -> String {
    let paused = state.paused.then(|| "paused".to_owned());
    let shadow = state.shadow.is_some().then(|| "shadow".to_owned());
    let halted: Vec<String> = paused.into_iter().chain(exhausted(state)).chain(shadow).collect();
    if !halted.is_empty() {
        return halted.join(", ");
    }
    let unlimited = state.limits.is_empty().then(|| "no limits".to_owned());
    first.and_then(remark).or(unlimited).unwrap_or_default()
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

fn shadow_json(would: &v1::ShadowState) -> Value {
    let seconds = |of: &Option<prost_types::Duration>| of.as_ref().map(|of| span(of).as_secs_f64());
    json!({
        "since": would.since.as_ref().map(moment),
        "waiting": would.waiting,
        "in_flight": would.in_flight,
        "granted_total": would.granted_total,
        "waited_total": would.waited_total,
        "wait_total_seconds": seconds(&would.wait_total),
        "wait_longest_seconds": seconds(&would.wait_longest),
        "refused_total": would.refused_total,
        "refused": would.refused,
    })
}

/// What is declared about a budget, as `permitd budgets set` would take it.
pub(super) fn declared(budget: &v1::Budget) -> String {
    let mut flags: Vec<String> =
        facts(budget).iter().map(|fact| format!("--{} {}", fact.flag, quoted(&fact.value))).collect();
    if budget.limits.is_empty() {
        flags.insert(0, "--unlimited".to_owned());
    }
    let etag = if budget.etag.is_empty() { String::new() } else { format!("\netag      {}", budget.etag) };
    format!("declared  permitd budgets set {} {}{etag}", quoted(&name(budget)), flags.join(" "))
}

/// One thing that is declared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fact {
    /// The flag that declares it.
    flag: &'static str,
    /// Which of those that the flag declares: a limit's name, a tenant's name. Empty where there is but one.
    about: String,
    /// The flag's value.
    value: String,
}

impl Fact {
    /// For people: limits speak for themselves.
    pub(super) fn told(&self) -> String {
        match self.flag {
            "limit" => self.value.clone(),
            flag => format!("{flag}={}", self.value),
        }
    }
}

/// Everything that is declared.
pub(super) fn facts(budget: &v1::Budget) -> Vec<Fact> {
    let only = |flag, value| Fact { flag, about: String::new(), value };
    let mut facts = Vec::new();
    for limit in &budget.limits {
        let shown = shown(limit);
        facts.push(Fact { flag: "limit", about: shown.name, value: shown.text });
    }
    for (name, tenant) in &budget.tenants {
        let value = format!("{name}={}", tenant_text(tenant));
        facts.push(Fact { flag: "tenant", about: name.clone(), value });
    }
    if let Some(queue) = &budget.queue {
        if queue.max_waiting != 0 {
            facts.push(only("max-waiting", queue.max_waiting.to_string()));
        }
        facts.extend(queue.max_wait.as_ref().map(|wait| only("max-wait", span_text(wait))));
        if queue.overflow() == v1::Overflow::Reject {
            facts.push(only("overflow", "reject".to_owned()));
        }
    }
    facts.extend(budget.permit_ttl.as_ref().map(|ttl| only("permit-ttl", span_text(ttl))));
    facts.extend(budget.shadow.then(|| only("shadow", "on".to_owned())));
    facts
}

/// What was declared before and has nothing in its place after. What has another value is not removed.
pub(super) fn removed(before: &v1::Budget, after: &v1::Budget) -> Vec<String> {
    let after = facts(after);
    let kept: BTreeSet<_> = after.iter().map(|fact| (fact.flag, &fact.about)).collect();
    facts(before).iter().filter(|fact| !kept.contains(&(fact.flag, &fact.about))).map(Fact::told).collect()
}

/// What is declared after that was not before, and the other way round.
pub(super) fn difference(before: Option<&v1::Budget>, after: Option<&v1::Budget>) -> String {
    let of = |budget: Option<&v1::Budget>| budget.map(facts).unwrap_or_default();
    let (before, after) = (of(before), of(after));
    let gone = before.iter().filter(|fact| !after.contains(fact)).map(|fact| format!("-{}", fact.told()));
    let new = after.iter().filter(|fact| !before.contains(fact)).map(|fact| format!("+{}", fact.told()));
    gone.chain(new).collect::<Vec<_>>().join(" ")
}

/// For a shell.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./=,:@%+".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A budget's state as JSON.
pub(crate) fn state_json(state: &v1::BudgetState) -> Value {
    let limits = state.limits.iter().map(|limit| {
        let configured = limit.configured.clone().unwrap_or_default();
        let mut json = limit_json(&configured);
        json["effective_amount"] = limit.effective_amount.into();
        json["level"] = limit.level.into();
        json["frozen_until"] = limit.frozen_until.as_ref().map(moment).into();
        json["source"] = limit.source.as_str().into();
        json["learned_from"] = limit.learned_from.as_str().into();
        json["learned_at"] = limit.learned_at.as_ref().map(moment).into();
        json["header_amount"] = limit.header_amount.into();
        json["cushion"] = limit.cushion.into();
        json
    });
    let tenants = state.tenants.iter().map(|tenant| {
        json!({
            "tenant": tenant.tenant, "waiting": tenant.waiting, "in_flight": tenant.in_flight,
            "granted_total": tenant.granted_total,
        })
    });
    let budget = state.budget.clone().unwrap_or_default();
    json!({
        "budget": name(&budget),
        "provider": budget.provider,
        "key": budget.key,
        "etag": budget.etag,
        "owner": (!state.owner.is_empty()).then_some(&state.owner),
        "paused": state.paused,
        "exhausted": state.exhausted,
        "exhausted_until": state.exhausted_until.as_ref().map(moment),
        "waiting": state.waiting,
        "in_flight": state.in_flight,
        "granted_total": state.granted_total,
        "refused_total": state.refused_total,
        "rate_limited_total": state.rate_limited_total,
        "shadow": state.shadow.as_ref().map(shadow_json),
        "limits": limits.collect::<Vec<_>>(),
        "tenants": tenants.collect::<Vec<_>>(),
        "declared": budget_json(&budget),
    })
}

/// What is declared about a budget, as JSON.
pub(super) fn budget_json(budget: &v1::Budget) -> Value {
    let tenants = budget.tenants.iter().map(|(name, tenant)| {
        (name.clone(), json!({
            "weight": tenant.weight.max(1), "max_waiting": tenant.max_waiting, "max_percent": tenant.max_percent,
        }))
    });
    let queue = budget.queue.unwrap_or_default();
    json!({
        "budget": name(budget),
        "provider": budget.provider,
        "key": budget.key,
        "etag": budget.etag,
        "limits": budget.limits.iter().map(limit_json).collect::<Vec<_>>(),
        "queue": {
            "max_waiting": queue.max_waiting,
            "max_wait_seconds": queue.max_wait.as_ref().map(|wait| span(wait).as_secs_f64()),
            "overflow": if queue.overflow() == v1::Overflow::Reject { "reject" } else { "wait" },
        },
        "tenants": tenants.collect::<serde_json::Map<_, _>>(),
        "permit_ttl_seconds": budget.permit_ttl.as_ref().map(|ttl| span(ttl).as_secs_f64()),
        "shadow": budget.shadow,
    })
}

fn limit_json(limit: &v1::Limit) -> Value {
    let window = limit.window().as_str_name().trim_start_matches("WINDOW_").to_lowercase();
    json!({
        "limit": shown(limit).text,
        "unit": limit.unit,
        "amount": limit.amount,
        "per_seconds": limit.per.as_ref().map(|per| span(per).as_secs_f64()),
        "burst": limit.burst,
        "window": if window == "unspecified" { Value::Null } else { window.into() },
        "models": limit.models,
        "tenants": limit.tenants,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> v1::Budget {
        let per = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let limit = v1::Limit { unit: "requests".to_owned(), amount: 60, per, ..v1::Limit::default() };
        let glob = v1::Limit { models: "claude-*".to_owned(), ..limit.clone() };
        v1::Budget {
            provider: "anthropic".to_owned(),
            key: "prod".to_owned(),
            limits: vec![limit, glob],
            tenants: [("a b".to_owned(), v1::Tenant { weight: 3, max_waiting: 7, max_percent: 0 })].into(),
            queue: Some(v1::Queue { overflow: v1::Overflow::Reject.into(), ..v1::Queue::default() }),
            etag: "e1".to_owned(),
            ..v1::Budget::default()
        }
    }

    /// Goal: what is declared is shown as the command that declares it, ready for a shell.
    #[test]
    fn shows_the_command() {
        let expected = "declared  permitd budgets set anthropic/prod --limit requests=60/1m --limit \
                        'requests=60/1m,models=claude-*' --tenant 'a b=3:7' --overflow reject\netag      e1";
        assert_eq!(declared(&budget()), expected);
    }

    /// Goal: what is left out is removed; what is given another value, in any of its parts, is not.
    #[test]
    fn tells_what_is_removed() {
        let before = budget();
        assert!(removed(&before, &before).is_empty());
        let gone = removed(&before, &v1::Budget::default());
        assert_eq!(
            gone,
            ["requests=60/1m", "requests=60/1m,models=claude-*", "tenant=a b=3:7", "overflow=reject"]
        );
        let mut after = before.clone();
        let glob = after.limits.pop().expect("two limits");
        after.limits[0] = v1::Limit { amount: 90, burst: 5, ..after.limits[0].clone() };
        after.tenants.insert("a b".to_owned(), v1::Tenant::default());
        assert_eq!(removed(&before, &after), ["requests=60/1m,models=claude-*"]);
        after.limits.push(v1::Limit { models: "claude-opus-*".to_owned(), ..glob });
        assert_eq!(removed(&before, &after), ["requests=60/1m,models=claude-*"]);
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

    /// Goal: what holds everybody back is told in a word, a quota that is used up with its reset if that is known.
    #[test]
    fn tells_what_halts() {
        let until = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
        let exhausted = v1::BudgetState { exhausted: true, ..v1::BudgetState::default() };
        for (state, word) in [
            (v1::BudgetState::default(), "no limits"),
            (exhausted.clone(), "exhausted"),
            (v1::BudgetState { paused: true, ..exhausted.clone() }, "paused, exhausted"),
            (v1::BudgetState { exhausted_until: until, ..exhausted }, "exhausted until 1970-01-01T00:00:01Z"),
        ] {
            assert_eq!(condition(&state, None), word);
        }
    }

    /// Goal: JSON has every field even where nothing is declared.
    #[test]
    fn json_is_complete() {
        let json = state_json(&v1::BudgetState::default());
        for field in
            ["budget", "etag", "paused", "exhausted", "waiting", "shadow", "limits", "tenants", "declared"]
        {
            assert!(json.get(field).is_some(), "{field} is missing");
        }
        assert_eq!(budget_json(&budget())["limits"][1]["limit"], "requests=60/1m,models=claude-*");
        assert_eq!(budget_json(&budget())["limits"][0]["per_seconds"], 60.0);
    }
}
