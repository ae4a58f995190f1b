//! One job: a permit, the call, the report, and again while the server advises it.

use std::sync::Mutex;

use permitd_client::{Client, Priority, Report, Usage};
use reqwest::Response;
use serde_json::{Value, json};

use crate::jobs::{Assignment, Job, Record, Role, locked};

/// Why a client can't go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("the provider can't be reached: {0}")]
    Provider(#[from] reqwest::Error),
    #[error("permitd: {0}")]
    Permitd(#[from] permitd_client::Error),
    #[error("a line is not what it should be: {0}")]
    Line(#[from] serde_json::Error),
    #[error("stdin ended before the order to stop; this program is for lab/compare only")]
    NoOrder,
}

/// A client's way to the provider.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    permits: Client,
    http: reqwest::Client,
    url: String,
    name: String,
    budget: String,
    priority: Priority,
}

impl Caller {
    pub(crate) async fn connect(assignment: &Assignment) -> Result<Self, ClientError> {
        let priority = match assignment.role {
            Role::Batch => Priority::Batch,
            Role::Interactive => Priority::Interactive,
        };
        Ok(Self {
            permits: Client::builder()
                .endpoint(&*assignment.permitd)
                .tenant(&*assignment.name)
                .connect()
                .await?,
            http: reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?,
            url: format!("{}/v1/messages", assignment.provider),
            name: assignment.name.clone(),
            budget: assignment.budget.clone(),
            priority,
        })
    }

    pub(crate) async fn make(
        &self,
        number: usize,
        job: &Job,
        record: &Mutex<Record>,
    ) -> Result<(), ClientError> {
        let input_tokens = u64::try_from(job.prompt_chars / 4).unwrap_or(u64::MAX);
        let place = locked(record).wanted(input_tokens);
        loop {
            let estimate = Usage::new().input_tokens(input_tokens).max_output_tokens(job.max_tokens);
            let guard =
                self.permits.acquire(&*self.budget).priority(self.priority).estimate(estimate).await?;
            locked(record).sets_out(place);
            let response = self.send(number, job).await?;
            let status = response.status();
            if !status.is_success() {
                locked(record).refused(place);
            }
            let (report, body) = report(response).await?;
            let advice = guard.report(report).await?;
            if status.is_success() {
                locked(record).ended(place, None);
                return Ok(());
            }
            if !advice.retry {
                locked(record).ended(place, Some(format!("{status}: {body}")));
                return Ok(());
            }
        }
    }

    async fn send(&self, number: usize, job: &Job) -> Result<Response, reqwest::Error> {
        let content = "word ".chars().cycle().take(job.prompt_chars).collect::<String>();
        let messages = json!([{"role": "user", "content": content}]);
        let body = json!({"model": "claude-compare", "max_tokens": job.max_tokens, "messages": messages});
        let request = self.http.post(&self.url).header("x-api-key", "compare");
        let request = request.header("x-sim-client", &self.name).header("x-sim-call", number);
        request.header("content-type", "application/json").body(body.to_string()).send().await
    }
}

/// What the provider said, and its words.
async fn report(response: Response) -> Result<(Report, String), reqwest::Error> {
    let mut report = Report::status(response.status().as_u16());
    for (name, value) in response.headers() {
        if let Ok(value) = value.to_str() {
            report = report.header(name.as_str(), value);
        }
    }
    let body = response.text().await?;
    let usage =
        serde_json::from_str::<Value>(&body).map(|answer| answer["usage"].clone()).unwrap_or_default();
    let report = match usage["input_tokens"].as_u64().zip(usage["output_tokens"].as_u64()) {
        Some((input, output)) => report.input_tokens(input).output_tokens(output),
        None => report.body(&body),
    };
    Ok((report, body))
}
