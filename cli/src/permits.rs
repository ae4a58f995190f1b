//! What `permitd acquire` and `permitd run` have in common: asking, waiting, reporting.

use std::time::Duration;

use clap::{Args, ValueEnum};
use permitd_proto::v1::{self, acquire_response::Event, permit_service_client::PermitServiceClient};
use permitd_server::config::BudgetName;
use tonic::Streaming;

use crate::{
    failure::Failure,
    format::{rough, span, wire_span},
    limits::{budget, duration},
    remote::{Connection, Remote},
    usage::Estimate,
};

/// What is asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct Ask {
    /// The budget: PROVIDER/KEY, or PROVIDER alone for its key `default`.
    #[arg(value_parser = budget)]
    pub(crate) budget: BudgetName,
    /// The model that is called; limits may be for some models only.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    model: String,
    /// Who shares the budget: a service, a team, a job. Default: `default`.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    tenant: String,
    /// How urgent it is. Classes share 16 : 4 : 1, so none starves.
    #[arg(long, value_enum, default_value_t = Priority::Standard)]
    priority: Priority,
    /// How long to wait at most; 0 for now or never. Default: the budget's.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_wait: Option<Duration>,
    #[command(flatten)]
    estimate: Estimate,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Priority {
    /// Somebody is looking at a screen.
    Interactive,
    Standard,
    /// Whenever there is room.
    Batch,
}

impl From<Priority> for permitd_client::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Interactive => Self::Interactive,
            Priority::Standard => Self::Standard,
            Priority::Batch => Self::Batch,
        }
    }
}

impl Ask {
    /// For the wire, where `waited` of the time to wait is gone already.
    pub(crate) fn request(&self, count: u32, waited: Duration) -> v1::AcquireRequest {
        let priority = match self.priority {
            Priority::Interactive => v1::Priority::Interactive,
            Priority::Standard => v1::Priority::Standard,
            Priority::Batch => v1::Priority::Batch,
        };
        v1::AcquireRequest {
            provider: self.budget.provider().to_owned(),
            key: self.budget.key().to_owned(),
            estimate: Some(self.estimate.clone().into_wire()),
            model: self.model.clone(),
            tenant: self.tenant.clone(),
            priority: priority.into(),
            max_wait: self.max_wait.map(|wait| wire_span(wait.saturating_sub(waited))),
            count,
            ..v1::AcquireRequest::default()
        }
    }
}

/// Permits as they are granted.
#[derive(Debug)]
pub(crate) struct Permits<'a> {
    remote: &'a Remote,
    answers: Streaming<v1::AcquireResponse>,
    verbose: bool,
}

impl<'a> Permits<'a> {
    /// Joins the queue.
    pub(crate) async fn ask(
        remote: &'a Remote,
        client: &mut PermitServiceClient<Connection>,
        request: v1::AcquireRequest,
        verbose: bool,
    ) -> Result<Self, Failure> {
        let answers = client.acquire(request).await.map_err(|status| remote.failure(&status))?;
        Ok(Self { remote, answers: answers.into_inner(), verbose })
    }

    /// The next permit; `None` once all are granted.
    pub(crate) async fn next(&mut self) -> Result<Option<v1::Permit>, Failure> {
        loop {
            let answer = self.answers.message().await.map_err(|status| self.remote.failure(&status))?;
            match answer.map(|answer| answer.event) {
                Some(Some(Event::Granted(permit))) => return Ok(Some(permit)),
                Some(Some(Event::Queued(queued))) if self.verbose => eprintln!("{}", place(&queued)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}

fn place(queued: &v1::Queued) -> String {
    let ahead = match queued.position {
        0 => "waiting: next".to_owned(),
        ahead => format!("waiting: {ahead} ahead"),
    };
    let wait = queued.estimated_wait.as_ref().map(|wait| format!(", about {}", rough(span(wait))));
    let held_by =
        if queued.held_by.is_empty() { String::new() } else { format!(", held by {}", queued.held_by) };
    format!("{ahead}{}{held_by}", wait.unwrap_or_default())
}

/// A permit as JSON.
pub(crate) fn permit_json(permit: &v1::Permit) -> serde_json::Value {
    let seconds = |of: &Option<prost_types::Duration>| of.as_ref().map(|of| span(of).as_secs_f64());
    serde_json::json!({
        "permit_id": permit.permit_id,
        "provider": permit.provider,
        "key": permit.key,
        "expires_at": permit.expires_at.as_ref().map(crate::format::moment),
        "ttl_seconds": seconds(&permit.ttl),
        "waited_seconds": seconds(&permit.waited),
        "charged": permit.charged.as_ref().map(charged_json),
    })
}

fn charged_json(usage: &v1::Usage) -> serde_json::Value {
    let mut units = serde_json::Map::new();
    let named = [
        ("requests", usage.requests),
        ("tokens", usage.tokens),
        ("input_tokens", usage.input_tokens),
        ("output_tokens", usage.output_tokens),
    ];
    let named = named.into_iter().filter_map(|(unit, amount)| Some((unit.to_owned(), amount?)));
    let other = usage.other.iter().map(|(unit, amount)| (unit.clone(), *amount));
    units.extend(named.chain(other).map(|(unit, amount)| (unit, amount.into())));
    units.into()
}
