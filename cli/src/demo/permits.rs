//! The same call through permitd: ask for a permit, call, report how it went.

use permitd_client::{Client, Priority, Report, Usage};

use super::{
    provider_call::{Answer, ProviderClient},
    scenario::{Call, ClientSpec, Work},
    worker::{Attempt, WorkerError},
};

/// A client's way through permitd.
#[derive(Clone, Debug)]
pub(crate) struct Permits {
    client: Client,
    budget: String,
    priority: Priority,
}

impl Permits {
    pub(crate) async fn connect(server: &str, budget: &str, spec: &ClientSpec) -> Result<Self, WorkerError> {
        let client =
            Client::builder().endpoint(server).tenant(&spec.name).name("permitd demo").connect().await?;
        let priority = match spec.work {
            Work::Batch { .. } => Priority::Batch,
            Work::Interactive => Priority::Interactive,
        };
        Ok(Self { client, budget: budget.to_owned(), priority })
    }

    /// Makes one call; when it is refused all the same, permitd says whether to ask again.
    pub(crate) async fn make(
        &self,
        provider: &ProviderClient,
        call: &Call,
        attempt: &mut Attempt<'_>,
    ) -> Result<(), WorkerError> {
        loop {
            let estimate =
                Usage::new().input_tokens(call.input_tokens_estimate()).max_output_tokens(call.max_tokens);
            let guard = self.client.acquire(&*self.budget).priority(self.priority).estimate(estimate).await?;
            attempt.sets_out();
            let answer = provider.send(call).await?;
            attempt.is_answered(answer.status);
            let advice = guard.report(report(&answer)).await?;
            if answer.is_success() {
                return Ok(());
            }
            if !advice.retry {
                return Err(WorkerError::unexpected(&answer));
            }
        }
    }
}

/// What the provider said; reading it is permitd's business.
fn report(answer: &Answer) -> Report {
    let headers =
        answer.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let report =
        headers.fold(Report::status(answer.status), |report, (name, value)| report.header(name, value));
    match answer.usage() {
        Some((input, output)) => report.input_tokens(input).output_tokens(output),
        None => report.body(&answer.body),
    }
}
