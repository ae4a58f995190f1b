//! How calls went, told to heart and model.

use std::collections::BTreeMap;

use permitd_budget::{Amounts, Outcome, PermitKey, Report, Reported, Usage};

use super::Harness;
use crate::{
    demands,
    meter::instant,
    model::{Model, ensure, grained},
    plan::Used,
};

impl Harness {
    pub(crate) fn report(&mut self, key: PermitKey, report: &Report) -> Result<(), String> {
        let now = self.model.now;
        let (mut events, mut twins) = (Vec::new(), Vec::new());
        let due = self.heart.next_poll().is_some_and(|next| next <= now);
        let (answer, waiter) = self.heart.report(now, key, report, &mut events);
        let same = (answer, waiter) == self.twin.report(now, key, report, &mut twins) && events == twins;
        self.tell(&format!("report {key:?} {report:?} -> {answer:?} {waiter:?}"), &events);
        ensure!(same, "a second heart did otherwise: {twins:?}");
        // What was due may have been done before the report was taken, and nothing says where that ended.
        let snapshot = self.heart.snapshot(now);
        let mut wrong = String::new();
        for before in 0..=if due { events.len() } else { 0 } {
            let mut model = self.model.clone();
            let told = model.follow(&events[..before]).and_then(|()| {
                reported(&mut model, &mut self.answers, key, report, answer, waiter)?;
                model.follow(&events[before..])?;
                demands::agrees(&model, &snapshot, model.exact)
            });
            match told {
                Ok(()) => {
                    self.model = model;
                    wrong.clear();
                    break;
                }
                Err(error) => wrong += &format!("{error}; "),
            }
        }
        ensure!(wrong.is_empty(), "{wrong}");
        ensure!(self.heart.grant(key).is_none(), "{key:?} is reported and live");
        self.settled_down()
    }
}

/// One report's answer against the model, which takes it in.
fn reported(
    model: &mut Model,
    answers: &mut BTreeMap<u64, Reported>,
    key: PermitKey,
    report: &Report,
    answer: Reported,
    waiter: Option<u64>,
) -> Result<(), String> {
    let raw = key.as_u64();
    let live = model.live.iter().find(|live| live.grant.permit == key).cloned();
    let Some(live) = live.filter(|_| answer.settled) else {
        let expected = answers.get(&raw).copied();
        let overdue = |live: &crate::model::Live| {
            live.grant.permit == key && instant(live.expires) > instant(model.now)
        };
        ensure!(!model.live.iter().any(overdue), "{key:?} is live and answered {answer:?}");
        ensure!(waiter.is_none(), "{key:?} gave back {waiter:?} again");
        ensure!(
            expected.is_none_or(|first| first == answer),
            "{key:?} answered {answer:?}, before {expected:?}"
        );
        ensure!(expected.is_some() || !answer.settled, "{key:?} answered {answer:?}");
        return Ok(());
    };
    let overdue = grained(instant(live.expires)) <= instant(model.now);
    ensure!(!overdue, "{key:?} settled at {}, due {}", model.now, live.expires);
    ensure!(waiter == Some(live.id), "{key:?} of {} gave back {waiter:?}", live.id);
    ensure!(answer.outcome == report.outcome && answer.retry == worth_retrying(report.outcome), "{answer:?}");
    model.settle(raw, &actual(report, &live.grant.charged));
    answers.insert(raw, answer);
    Ok(())
}

pub(crate) fn report(outcome: Outcome, used: Used, charged: &Amounts) -> Report {
    let part = |whole: u64, scale: u64| whole * scale / 64;
    let points = used.points.map(|scale| ("points".into(), part(charged.of("points").max(2), scale)));
    let actual = Usage {
        requests: used.requests,
        input_tokens: used.tokens.map(|(input, _)| part(charged.input_tokens, input)),
        output_tokens: used.tokens.map(|(_, output)| part(charged.output_tokens, output)),
        other: points.into_iter().collect(),
        ..Usage::default()
    };
    Report { actual, ..Report::new(outcome) }
}

/// What was used in the end.
fn actual(report: &Report, charged: &Amounts) -> Amounts {
    if report.outcome == Outcome::Cancelled {
        return Amounts::default();
    }
    let input_tokens = report.actual.input_tokens.unwrap_or(charged.input_tokens);
    let output_tokens = report.actual.output_tokens.unwrap_or(charged.output_tokens);
    let points = report.actual.other.first().map_or(charged.of("points"), |(_, points)| *points);
    Amounts {
        requests: report.actual.requests.unwrap_or(charged.requests),
        input_tokens,
        output_tokens,
        tokens: input_tokens + output_tokens,
        other: Some(Box::from([("points".into(), points)])),
        ..Amounts::default()
    }
}

fn worth_retrying(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Success | Outcome::Cancelled | Outcome::TooLarge | Outcome::QuotaExhausted => false,
        Outcome::Failed { retryable } => retryable,
        Outcome::RateLimited
        | Outcome::ConcurrencyLimited
        | Outcome::Overloaded
        | Outcome::AccelerationLimited => true,
    }
}
