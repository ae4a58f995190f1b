//! What was refused of late: by the provider, and by the budget.

use permitd_budget::{Outcome, PastAnswer, PastRefusal, Seen, Time};
use permitd_proto::v1::Topic;

use super::{Facts, Finding};
use crate::words::{about, counted, listed};

/// Entries of each kind that have a sentence.
const ENTRIES_TOLD: usize = 5;

pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let answers = facts.standing.answers.iter().take(ENTRIES_TOLD);
    let refusals = facts.standing.refusals.iter().take(ENTRIES_TOLD);
    answers.map(|seen| answer(seen, facts.now)).chain(refusals.map(|seen| refusal(seen, facts.now))).collect()
}

fn answer(seen: &Seen<PastAnswer>, now: Time) -> Finding {
    let PastAnswer { outcome, model, retry_after, froze, .. } = &seen.what;
    let calls = counted(seen.times, "call", "calls");
    let model = if model.is_empty() { String::new() } else { format!(" to {model}") };
    let wait = match retry_after {
        Some(wait) => format!(", with a wait of {}", about(*wait)),
        None => String::new(),
    };
    let froze_what = match (froze.as_slice(), outcome) {
        ([], Outcome::Overloaded) => "; that froze the whole budget".to_owned(),
        ([], _) => String::new(),
        (limits, _) => format!("; that froze {}", listed(limits)),
    };
    let text = format!(
        "The provider refused {calls}{model} {}{wait}, {}{froze_what}.",
        cause(*outcome),
        when(seen, now)
    );
    let finding = Finding::new(Topic::Refused, text);
    match froze.as_slice() {
        [limit] => finding.about(limit),
        _ => finding,
    }
}

/// What a refusal by the provider was for.
fn cause(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::RateLimited => "for rate",
        Outcome::ConcurrencyLimited => "for too many at once",
        Outcome::Overloaded => "because it is overloaded",
        Outcome::AccelerationLimited => "for growing too steeply",
        Outcome::QuotaExhausted => "because its quota is used up",
        Outcome::Success | Outcome::TooLarge | Outcome::Failed { .. } | Outcome::Cancelled => {
            "for another reason"
        }
    }
}

fn refusal(seen: &Seen<PastRefusal>, now: Time) -> Finding {
    let PastRefusal { tenant, refusal } = &seen.what;
    let requests = counted(seen.times, "request", "requests");
    let text = format!("{requests} of {tenant} got no permit, {}: {refusal}.", when(seen, now));
    let finding = Finding::new(Topic::Refused, text);
    match &refusal.limit {
        Some(limit) => finding.about(limit),
        None => finding,
    }
}

fn when<T>(seen: &Seen<T>, now: Time) -> String {
    let ago = about(now.since(seen.last));
    if seen.times == 1 { format!("{ago} ago") } else { format!("the last one {ago} ago") }
}
