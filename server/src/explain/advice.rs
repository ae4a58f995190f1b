//! What would help most: each rule looks for one cause, and says what removes it.

use permitd_budget::{LimitSnapshot, Reason, Source};
use permitd_proto::v1::Topic;

use super::{Facts, Finding};
use crate::words::{counted, grouped};

/// A part of a hundred that is worth a word.
const PERCENT_TOLD: u128 = 20;
/// Permits that ended unreported, in a thousand.
const EXPIRED_PER_MILLE: u64 = 10;
/// Calls that the provider refused, in a thousand; fewer than this many may be chance.
const REFUSED_PER_MILLE: u64 = 5;
const REFUSED_MIN: u64 = 3;

pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let rules = [undeclared, binding, headers_say_more, unreported, refused_all_the_same, too_large];
    let limits = facts.snapshot.limits.iter();
    rules.into_iter().filter_map(|rule| rule(facts)).chain(limits.filter_map(estimates)).collect()
}

fn advice(text: String) -> Finding {
    Finding::new(Topic::Advice, text)
}

/// How a budget is declared anew: `set` replaces the whole, so one starts from what stands.
fn declare(facts: &Facts<'_>) -> String {
    format!("permitd budgets get {}", facts.name)
}

fn undeclared(facts: &Facts<'_>) -> Option<Finding> {
    let none = facts.snapshot.limits.iter().all(|limit| limit.source != Source::Declared);
    none.then(|| {
        advice(
            "No limit is declared: say what the provider allows, so that nothing has to be found out by refusals.".to_owned(),
        )
        .with(format!("permitd budgets set {} --limit requests=60/1m", facts.name))
    })
}

/// The limit that holds most of those who wait. A freeze passes, and says nothing of how much there is.
fn binding(facts: &Facts<'_>) -> Option<Finding> {
    let held = facts.held_by_limit().into_iter().filter(|(name, _)| !facts.is_frozen(name));
    let (name, most) = held.max_by_key(|(_, held)| held.requests)?;
    let limit = facts.limit(name)?;
    let part = format!("{} of {} that wait", grouped(most.requests), grouped(facts.snapshot.waiting));
    let lowered = limit.source == Source::Declared && limit.effective_amount < limit.configured.amount;
    let text = if lowered {
        let (effective, declared) = (grouped(limit.effective_amount), grouped(limit.configured.amount));
        format!(
            "More of {name} would help most: it holds back {part}. The provider grants {effective} of the declared {declared}, \
             so ask it for more, or find out who else uses this key."
        )
    } else if limit.configured.per.is_none() {
        format!(
            "More calls at once would help most: {name} holds back {part}. Shorter calls would do as well."
        )
    } else {
        format!(
            "Raising {name} would help most: it holds back {part}. Smaller or fewer calls would do as well."
        )
    };
    let finding = advice(text).about(name);
    Some(if lowered { finding } else { finding.with(declare(facts)) })
}

fn headers_say_more(facts: &Facts<'_>) -> Option<Finding> {
    let more = |limit: &&LimitSnapshot| limit.told.is_some_and(|told| told > limit.configured.amount);
    let declared = |limit: &&LimitSnapshot| limit.source == Source::Declared;
    let limit = facts.snapshot.limits.iter().filter(declared).find(more)?;
    let (name, told) = (limit.configured.to_string(), grouped(limit.told?));
    let text = format!("Declare {told} for {name}: that is what the provider's headers say you have.");
    Some(advice(text).about(name).with(declare(facts)))
}

fn unreported(facts: &Facts<'_>) -> Option<Finding> {
    let (expired, granted) = (facts.snapshot.expired_total, facts.snapshot.granted_total);
    (expired > 0 && expired.saturating_mul(1_000) >= granted.saturating_mul(EXPIRED_PER_MILLE)).then(|| {
        let permits = counted(expired, "permit", "permits");
        advice(format!(
            "Report every call, also those that fail: {permits} of {} ended without a report, and held what they had until then.",
            grouped(granted)
        ))
    })
}

fn refused_all_the_same(facts: &Facts<'_>) -> Option<Finding> {
    let (refused, granted) = (facts.snapshot.rate_limited_total, facts.snapshot.granted_total);
    (refused >= REFUSED_MIN && refused.saturating_mul(1_000) >= granted.saturating_mul(REFUSED_PER_MILLE)).then(|| {
        let calls = counted(refused, "call", "calls");
        advice(format!(
            "The provider refused {calls} of {} that were granted: find out whether something else uses this key, and declare what \
             the plan really allows.",
            grouped(granted)
        ))
    })
}

fn too_large(facts: &Facts<'_>) -> Option<Finding> {
    let seen = facts.standing.refusals.iter();
    let mut large = seen.filter(|seen| matches!(seen.what.refusal.reason, Reason::LargerThanLimit { .. }));
    let seen = large.next()?;
    let limit = seen.what.refusal.limit.clone().unwrap_or_default();
    let text = format!(
        "Split the requests of {}, or raise {limit}: no wait helps a request that is larger than the limit.",
        seen.what.tenant
    );
    Some(advice(text).about(limit))
}

/// Estimates that are far off: too high keeps quota from others until the report, too low runs into debt.
fn estimates(limit: &LimitSnapshot) -> Option<Finding> {
    limit.configured.per?;
    let name = limit.configured.to_string();
    let tally = limit.tally;
    let percent = |part: u64| u128::from(part) * 100 / u128::from(tally.charged.max(1));
    let text = if percent(tally.refunded) >= PERCENT_TOLD {
        let (back, charged) = (grouped(tally.refunded), grouped(tally.charged));
        format!(
            "Estimate lower: of {charged} of {name} that permits took, {back} came back unused, and could have been granted \
             meanwhile. For outputs, leave them open or give max_output_tokens."
        )
    } else if percent(tally.debited) >= PERCENT_TOLD {
        let (more, charged) = (grouped(tally.debited), grouped(tally.charged));
        format!(
            "Estimate higher: calls used {more} of {name} beyond the {charged} that their permits took, which is debt."
        )
    } else {
        return None;
    };
    Some(advice(text).about(name))
}
