//! Budgets, what explains them and what was changed, as JSON. Amounts are numbers, spans are in seconds, moments in RFC 3339.

use permitd_proto::v1::{self, Topic};
use serde_json::{Value, json};

use super::{
    budget_of, difference, facts::scheduled_text, member_name, member_now, moment, name, pool_name, shown,
    span, taken,
};

/// What each topic of a finding is called, in the order in which they are told: for people, and in JSON.
pub const TOPICS: [(Topic, &str, &str); 5] = [
    (Topic::Held, "Now", "held"),
    (Topic::Waiting, "Waiting", "waiting"),
    (Topic::Refused, "Refused of late", "refused"),
    (Topic::Learned, "Learned", "learned"),
    (Topic::Advice, "What would help", "advice"),
];

/// A pool as JSON.
#[must_use]
pub fn pool_json(pool: &v1::Pool) -> Value {
    let members = pool.members.iter().map(|member| {
        json!({
            "budget": member_name(member), "prefer": member.prefer, "weight": member.weight,
            "granted": member.granted, "waiting": member.waiting, "in_flight": member.in_flight,
            "now": member_now(member), "passed_over": member.passed_over, "next": member.next,
            "tightest": member.tightest.as_ref().map(limit_state_json),
        })
    });
    json!({ "pool": pool_name(pool), "members": members.collect::<Vec<_>>() })
}

/// A budget's state as JSON.
#[must_use]
pub fn state_json(state: &v1::BudgetState) -> Value {
    let limits = state.limits.iter().map(limit_state_json);
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

fn limit_state_json(limit: &v1::LimitState) -> Value {
    let configured = limit.configured.clone().unwrap_or_default();
    let mut json = limit_json(&configured);
    json["effective_amount"] = limit.effective_amount.into();
    json["level"] = limit.level.into();
    json["taken_permille"] = taken(limit).into();
    json["frozen_until"] = limit.frozen_until.as_ref().map(moment).into();
    json["source"] = limit.source.as_str().into();
    json["learned_from"] = limit.learned_from.as_str().into();
    json["learned_at"] = limit.learned_at.as_ref().map(moment).into();
    json["header_amount"] = limit.header_amount.into();
    json["cushion"] = limit.cushion.into();
    json["capacity"] = limit.capacity.into();
    json
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

/// What is declared about a budget, as JSON.
#[must_use]
pub fn budget_json(budget: &v1::Budget) -> Value {
    let tenants = budget.tenants.iter().map(|(name, tenant)| {
        (name.clone(), json!({
            "weight": tenant.weight.max(1), "max_waiting": tenant.max_waiting, "max_percent": tenant.max_percent,
            "min_percent": tenant.min_percent,
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
        "schedule": budget.schedule.iter().map(scheduled_text).collect::<Vec<_>>(),
        "shadow": budget.shadow,
    })
}

fn limit_json(limit: &v1::Limit) -> Value {
    let window = word(limit.window().as_str_name());
    let shown = shown(limit);
    json!({
        "limit": shown.text,
        "name": shown.name,
        "unit": limit.unit,
        "amount": limit.amount,
        "per_seconds": limit.per.as_ref().map(|per| span(per).as_secs_f64()),
        "burst": limit.burst,
        "window": if window == "unspecified" { Value::Null } else { window.into() },
        "models": limit.models,
        "tenants": limit.tenants,
    })
}

/// Why a budget does what it does, as JSON.
#[must_use]
pub fn explained_json(explained: &v1::ExplainBudgetResponse) -> Value {
    let topic = |of: Topic| TOPICS.iter().find(|(topic, ..)| *topic == of).map(|(.., name)| *name);
    let findings = explained.findings.iter().map(|finding| {
        json!({
            "topic": topic(finding.topic()),
            "limit": finding.limit,
            "text": finding.text,
            "command": finding.command,
        })
    });
    let lines = explained.lines.iter().map(|line| {
        let first = line.first.clone().unwrap_or_default();
        json!({
            "tenant": line.tenant,
            "priority": word(line.priority().as_str_name()),
            "model": line.model,
            "waiting": line.waiting,
            "oldest_seconds": line.oldest.as_ref().map(|oldest| span(oldest).as_secs_f64()),
            "position": first.position,
            "estimated_wait_seconds": first.estimated_wait.as_ref().map(|wait| span(wait).as_secs_f64()),
            "held_by": first.held_by,
            "limit": first.limit,
        })
    });
    let refusals = explained.refusals.iter().map(|refusal| {
        json!({
            "tenant": refusal.tenant,
            "reason": refusal.reason,
            "limit": refusal.limit,
            "message": refusal.message,
            "times": refusal.times,
            "first_at": refusal.first_at.as_ref().map(moment),
            "last_at": refusal.last_at.as_ref().map(moment),
        })
    });
    let answers = explained.answers.iter().map(|answer| {
        json!({
            "outcome": word(answer.outcome().as_str_name()),
            "model": answer.model,
            "retry_after_seconds": answer.retry_after.as_ref().map(|wait| span(wait).as_secs_f64()),
            "froze": answer.froze,
            "frozen_until": answer.frozen_until.as_ref().map(moment),
            "times": answer.times,
            "first_at": answer.first_at.as_ref().map(moment),
            "last_at": answer.last_at.as_ref().map(moment),
        })
    });
    json!({
        "state": explained.state.as_ref().map(state_json),
        "findings": findings.collect::<Vec<_>>(),
        "lines": lines.collect::<Vec<_>>(),
        "others_waiting": explained.others_waiting,
        "refusals": refusals.collect::<Vec<_>>(),
        "answers": answers.collect::<Vec<_>>(),
        "pools": explained.pools.iter().map(pool_name).collect::<Vec<_>>(),
    })
}

/// An entry of the audit trail, as JSON.
#[must_use]
pub fn change_json(change: &v1::Change) -> Value {
    json!({
        "at": change.at.as_ref().map(moment),
        "who": change.who,
        "what": change.what,
        "budget": budget_of(change),
        "before": change.before.as_ref().map(budget_json),
        "after": change.after.as_ref().map(budget_json),
        "difference": difference(change.before.as_ref(), change.after.as_ref()),
        "reason": change.reason,
        "server": change.server,
    })
}

/// A word of the wire without the name of what it is one of: `OUTCOME_TOO_LARGE` is `too_large`.
fn word(name: &str) -> String {
    name.split_once('_').map_or(name, |(_, word)| word).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::{super::facts::tests::budget, *};

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
