//! What the provider's answers have taught, and from what.

use permitd_budget::{LimitSnapshot, Source, Teacher, Time};
use permitd_proto::v1::Topic;

use super::{Facts, Finding};
use crate::words::{about, grouped};

pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    facts.snapshot.limits.iter().flat_map(|limit| of(limit, facts.now)).collect()
}

fn of(limit: &LimitSnapshot, now: Time) -> Vec<Finding> {
    let name = limit.configured.to_string();
    let texts =
        [found(limit, &name), effective(limit, &name, now), told(limit, &name), kept_back(limit, &name)];
    texts.into_iter().flatten().map(|text| Finding::new(Topic::Learned, text).about(&name)).collect()
}

/// A limit that nobody declared.
fn found(limit: &LimitSnapshot, name: &str) -> Option<String> {
    match limit.source {
        Source::Declared => None,
        Source::Header => Some(format!("Nobody declared {name}: the provider's headers tell of it.")),
        Source::Learned if limit.lesson.is_none() => {
            let amount = grouped(limit.effective_amount);
            Some(format!(
                "Nobody declared {name}: it begins with {amount} and doubles while it is used up and nothing is refused."
            ))
        }
        Source::Learned => {
            Some(format!("Nobody declared {name}: it is found out from what the provider lets through."))
        }
    }
}

fn effective(limit: &LimitSnapshot, name: &str, now: Time) -> Option<String> {
    let lesson = limit.lesson?;
    let (amount, ago) = (grouped(limit.effective_amount), about(now.since(lesson.at)));
    let of = match limit.source {
        Source::Declared if limit.configured.amount != limit.effective_amount => {
            format!(" of the declared {}", grouped(limit.configured.amount))
        }
        _ => String::new(),
    };
    Some(match lesson.from {
        Teacher::Headers => format!("{name} grants {amount}{of}, as the provider's headers said {ago} ago."),
        Teacher::Refusals => format!("{name} grants {amount}{of}, as refusals taught {ago} ago."),
        Teacher::Growth => {
            format!(
                "{name} grants {amount}{of}, grown {ago} ago since nothing was refused although it was used."
            )
        }
        Teacher::Latency => match limit.usual_latency.map(about) {
            Some(usual) => format!(
                "{name} grants {amount}{of}, as the time that calls take taught {ago} ago: about {usual} when none waits at the provider."
            ),
            None => format!("{name} grants {amount}{of} until it is known how long calls take."),
        },
    })
}

fn told(limit: &LimitSnapshot, name: &str) -> Option<String> {
    let told =
        limit.told.filter(|told| *told > limit.configured.amount && limit.source == Source::Declared)?;
    let (told, declared) = (grouped(told), grouped(limit.configured.amount));
    Some(format!("The provider's headers say {told} for {name}, and only {declared} are declared."))
}

fn kept_back(limit: &LimitSnapshot, name: &str) -> Option<String> {
    (limit.cushion > 0).then(|| {
        let cushion = grouped(limit.cushion);
        format!(
            "{cushion} of {name} are kept back of a burst against refusals; the sustained rate stays whole."
        )
    })
}
