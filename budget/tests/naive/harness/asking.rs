//! Whoever asks: waits, or is refused at once, as the model allows.

use permitd_budget::{Amounts, Event, Reason, Refusal};

use super::Harness;
use crate::{
    demands,
    meter::{Side, instant},
    model::{Asked, ensure, grained},
    plan::Ask,
};

impl Harness {
    pub(super) fn asked(&self, id: u64, tenant: &str, model: &str, ask: &Ask) -> Asked {
        let now = self.model.now;
        let deadline = self.model.deadline(ask.max_wait, ask.gives_up.map(|after| now + after));
        let tokens = ask.input + ask.output;
        let other = ask.points.map(|points| Box::from([("points".into(), points)]));
        Asked {
            id,
            tenant: tenant.to_owned(),
            model: model.to_owned(),
            priority: ask.priority,
            cost: Amounts {
                requests: ask.requests.unwrap_or(1),
                input_tokens: ask.input,
                output_tokens: ask.output,
                tokens,
                other,
                ..Amounts::default()
            },
            remaining: ask.count,
            arrived: now,
            deadline,
            now_or_never: self.model.deadline(ask.max_wait, None) == Some(instant(now)),
            epoch: self.model.epoch,
            ticket: None,
        }
    }

    pub(super) fn waits(&mut self, asked: Asked, events: &[Event<u64>]) -> Result<(), String> {
        let (id, before) = (asked.id, self.model.waiting.len());
        let tenants = self.model.tenant_waiting(&asked.tenant);
        ensure!(self.model.impossible(&asked).is_none(), "{id} waits for what is impossible");
        let possible = self.model.alone(Side::Most, &asked);
        let hopeless =
            asked.deadline.is_some_and(|deadline| possible.is_none_or(|at| at > grained(deadline)));
        self.model.waiting.push(asked.clone());
        self.model.follow(events)?;
        let still = self.model.waiting.iter().any(|other| other.id == id);
        ensure!(
            !(hopeless && still && self.model.exact && !self.model.paused),
            "{id} waits, but could not be in time even alone: {possible:?}"
        );
        let most = self.model.max_waiting() as usize;
        ensure!(
            !still || before < most || self.model.waiting.len() <= most,
            "{id} waits behind {before}, a full queue"
        );
        let own = self.model.tenant_max_waiting(&asked.tenant);
        let full = own.is_some_and(|own| tenants >= own && self.model.tenant_waiting(&asked.tenant) > own);
        ensure!(!(still && full), "{id} waits behind {tenants} of its tenant, a full queue");
        Ok(())
    }

    pub(super) fn refused_at_once(
        &mut self,
        asked: &Asked,
        refusal: &Refusal,
        events: &[Event<u64>],
    ) -> Result<(), String> {
        let id = asked.id;
        let impossible = self.model.impossible(asked).is_some();
        let larger = matches!(refusal.reason, Reason::LargerThanLimit { .. });
        ensure!(impossible == larger, "{id} refused {refusal:?}; impossible is {impossible}");
        let before = self.model.may_refuse(asked, refusal);
        self.model.follow(events)?;
        before.or_else(|_| self.model.may_refuse(asked, refusal))?;
        if refusal.reason == Reason::NotInTime && self.model.exact {
            ensure!(
                !demands::admissible(&self.model, asked),
                "{id} refused though it fits beside all who wait"
            );
            let possible = self.model.alone(Side::Most, asked);
            let hint = refusal.retry_after.map(|after| instant(self.model.now + after));
            // A hint saturates at 584 years.
            let honest =
                possible.is_none_or(|at| hint.is_some_and(|hint| hint >= at.min(i128::from(u64::MAX))));
            ensure!(
                honest,
                "{id} is told to try again in {:?}; alone it fits at {possible:?}",
                refusal.retry_after
            );
        }
        self.model.refused_total += 1;
        Ok(())
    }
}
