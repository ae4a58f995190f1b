//! What is declared about a budget, as flags take it: one limit, one fact, and what sets two declarations apart.

use std::collections::BTreeSet;

use permitd_proto::v1;

use super::span_text;
use crate::{config::LimitText, wire::budget::read_limit};

/// A limit of the wire as flags take it, and its parts.
#[derive(Debug)]
pub struct Shown {
    /// As `--limit` takes it.
    pub text: String,
    /// What is counted, in what window, of which models and tenants.
    pub name: String,
}

/// A limit of the wire for people. One that this version does not understand is shown by its unit and amount.
#[must_use]
pub fn shown(limit: &v1::Limit) -> Shown {
    let Ok(limit) = read_limit(limit) else {
        return Shown { text: format!("{}={}", limit.unit, limit.amount), name: limit.unit.clone() };
    };
    Shown { text: LimitText(&limit).to_string(), name: limit.to_string() }
}

/// One thing that is declared.
#[derive(Debug, PartialEq, Eq)]
pub struct Fact {
    /// The flag that declares it.
    pub flag: &'static str,
    /// Which of those that the flag declares: a limit's name, a tenant's name. Empty where there is but one.
    pub about: String,
    /// The flag's value.
    pub value: String,
}

impl Fact {
    /// For people: limits speak for themselves.
    #[must_use]
    pub fn told(&self) -> String {
        match self.flag {
            "limit" => self.value.clone(),
            flag => format!("{flag}={}", self.value),
        }
    }
}

/// Everything that is declared.
#[must_use]
pub fn facts(budget: &v1::Budget) -> Vec<Fact> {
    let only = |flag, value| Fact { flag, about: String::new(), value };
    let mut facts = Vec::new();
    for limit in &budget.limits {
        let shown = shown(limit);
        facts.push(Fact { flag: "limit", about: shown.name, value: shown.text });
    }
    for text in budget.schedule.iter().map(scheduled_text) {
        facts.push(Fact { flag: "schedule", about: text.clone(), value: text });
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

/// An entry of a schedule as `--schedule` takes it.
pub(super) fn scheduled_text(entry: &v1::Scheduled) -> String {
    format!("{} {}", entry.hours, shown(&entry.limit.clone().unwrap_or_default()).text)
}

/// What was declared before and has nothing in its place after. What has another value is not removed.
#[must_use]
pub fn removed(before: &v1::Budget, after: &v1::Budget) -> Vec<String> {
    let after = facts(after);
    let kept: BTreeSet<_> = after.iter().map(|fact| (fact.flag, &fact.about)).collect();
    facts(before).iter().filter(|fact| !kept.contains(&(fact.flag, &fact.about))).map(Fact::told).collect()
}

/// What is declared after that was not before, behind a `+`, and the other way round, behind a `-`.
#[must_use]
pub fn difference(before: Option<&v1::Budget>, after: Option<&v1::Budget>) -> Vec<String> {
    let of = |budget: Option<&v1::Budget>| budget.map(facts).unwrap_or_default();
    let (before, after) = (of(before), of(after));
    let gone = before.iter().filter(|fact| !after.contains(fact)).map(|fact| format!("-{}", fact.told()));
    let new = after.iter().filter(|fact| !before.contains(fact)).map(|fact| format!("+{}", fact.told()));
    gone.chain(new).collect()
}

/// A tenant as `--tenant` takes it behind its name: `WEIGHT[:MAX_WAITING][:PERCENT%+][:PERCENT%]`.
#[must_use]
pub fn tenant_text(tenant: &v1::Tenant) -> String {
    let mut text = tenant.weight.max(1).to_string();
    if tenant.max_waiting != 0 {
        text += &format!(":{}", tenant.max_waiting);
    }
    if tenant.min_percent != 0 {
        text += &format!(":{}%+", tenant.min_percent);
    }
    if tenant.max_percent != 0 {
        text += &format!(":{}%", tenant.max_percent);
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A budget with some of everything.
    pub(in super::super) fn budget() -> v1::Budget {
        let per = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let limit = v1::Limit { unit: "requests".to_owned(), amount: 60, per, ..v1::Limit::default() };
        let glob = v1::Limit { models: "claude-*".to_owned(), ..limit.clone() };
        v1::Budget {
            provider: "anthropic".to_owned(),
            key: "prod".to_owned(),
            limits: vec![limit, glob],
            tenants: [("a b".to_owned(), v1::Tenant { weight: 3, max_waiting: 7, ..v1::Tenant::default() })]
                .into(),
            queue: Some(v1::Queue { overflow: v1::Overflow::Reject.into(), ..v1::Queue::default() }),
            etag: "e1".to_owned(),
            ..v1::Budget::default()
        }
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
}
