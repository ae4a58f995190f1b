//! A middleware for `reqwest`: each request waits for its permit, what was used is read as the response passes by, and what
//! the server advises to send again is sent again.

use std::{fmt, time::Instant};

use bytes::Bytes;
use http::Extensions;
use reqwest::{Body, Response, ResponseBuilderExt as _, header::CONTENT_TYPE};
use reqwest_middleware::{Error as HttpError, Middleware, Next};

use self::settling::{Excerpt, Settling};
use crate::{Client, Guard, Report, Request, Usage, body};

mod settling;

/// How often a request is sent at most, where nobody said a number.
const ATTEMPTS: u32 = 4;

/// Puts a permit in front of every request of a `reqwest` client.
///
/// The estimate, and the model, are read from a JSON body. The permit is settled when the body of the response has been read to its end or is
/// dropped, by what it says was used, in streams too. A refusal by the provider is reported at once, and the request sent again as long as
/// that is advised and attempts are left; a request whose body is a stream can't be sent again.
///
/// ```no_run
/// use permitd_client::{Client, reqwest::PermitMiddleware};
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let http = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
///     .with(PermitMiddleware::new(client, "openai/prod"))
///     .build();
/// let response = http.post("https://api.openai.com/v1/responses").body("{}").send().await?;
/// # Ok(()) }
/// ```
///
/// Without a permit, the error is [`reqwest_middleware::Error::Middleware`] with a [`crate::Error`] in it.
pub struct PermitMiddleware {
    client: Client,
    request: Box<dyn Fn(&reqwest::Request) -> Request + Send + Sync>,
    attempts: u32,
}

impl PermitMiddleware {
    /// All requests are of this budget, or ask for permits like this.
    pub fn new(client: Client, request: impl Into<Request>) -> Self {
        let request = request.into();
        Self::with(client, move |_| request.clone())
    }

    /// Each request says by itself what it asks for.
    pub fn with(
        client: Client,
        request: impl Fn(&reqwest::Request) -> Request + Send + Sync + 'static,
    ) -> Self {
        Self { client, request: Box::new(request), attempts: ATTEMPTS }
    }

    /// How often a request is sent at most; at least once. Default: 4.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }
}

impl fmt::Debug for PermitMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, attempts, .. } = self;
        f.debug_struct("PermitMiddleware")
            .field("client", client)
            .field("attempts", attempts)
            .finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl Middleware for PermitMiddleware {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let (estimate, model) = read_request(&request);
        let ask = (self.request)(&request).or_estimate(estimate).or_model(model);
        let mut request = Some(request);
        for attempt in 1..=self.attempts {
            let current = request.take().expect("kept for as long as there is another attempt");
            if attempt < self.attempts {
                request = current.try_clone();
            }
            let guard = self.client.acquire(ask.clone()).await.map_err(HttpError::middleware)?;
            let began = Instant::now();
            let response = match next.clone().run(current, extensions).await {
                Ok(response) => response,
                Err(error) => {
                    guard.report_detached(Report::failed().latency(began.elapsed()));
                    return Err(error);
                }
            };
            let report = head(&response).latency(began.elapsed());
            if response.status().as_u16() < 400 {
                return Ok(settle_at_end(response, guard, report));
            }
            let (response, retry) = settle_now(response, guard, report).await?;
            if !retry || request.is_none() {
                return Ok(response);
            }
        }
        unreachable!("the last attempt keeps no request for another one")
    }
}

/// What the body tells of the request: its estimate and its model.
fn read_request(request: &reqwest::Request) -> (Option<Usage>, String) {
    let json = request.body().and_then(Body::as_bytes);
    let Some(json) = json.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok()) else {
        return (None, String::new());
    };
    (Some(body::estimate(&json)), json["model"].as_str().unwrap_or_default().to_owned())
}

fn head(response: &Response) -> Report {
    let headers = response.headers().iter();
    let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    headers
        .fold(Report::status(response.status().as_u16()), |report, (name, value)| report.header(name, value))
}

/// Settles when the body has passed by.
fn settle_at_end(response: Response, guard: Guard, report: Report) -> Response {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let reader = body::UsageReader::new(kind.unwrap_or_default());
    with_body(response, |body| Body::wrap(Settling::new(body, guard, report, reader)))
}

/// Reports a refusal with the beginning of its body, and says whether to send it again.
async fn settle_now(
    mut response: Response,
    guard: Guard,
    report: Report,
) -> reqwest_middleware::Result<(Response, bool)> {
    let mut excerpt: Vec<u8> = Vec::new();
    while excerpt.len() < crate::BODY_BYTES_MAX {
        let Some(chunk) = response.chunk().await? else { break };
        excerpt.extend_from_slice(&chunk);
    }
    // Without an answer there is no advice.
    let retry = guard.report(report.body(&excerpt)).await.is_ok_and(|advice| advice.retry);
    let excerpt = Bytes::from(excerpt);
    Ok((with_body(response, |rest| Body::wrap(Excerpt::new(excerpt, rest))), retry))
}

/// The response with its body replaced.
fn with_body(response: Response, replace: impl FnOnce(Body) -> Body) -> Response {
    let url = response.url().clone();
    let response: http::Response<Body> = response.into();
    let (mut parts, body) = response.into_parts();
    let with_url =
        http::Response::builder().url(url).body(()).expect("a response with nothing but an address");
    parts.extensions.extend(with_url.into_parts().0.extensions);
    http::Response::from_parts(parts, replace(body)).into()
}
