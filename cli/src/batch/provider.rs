//! The provider's side: one HTTP call, with everything about it bounded.

use std::time::{Duration, Instant};

use reqwest::{Client, Url, header::HeaderMap, redirect::Policy};

use super::{answer::Answer, auth::Secret, request::Request};
use crate::failure::{Failure, UNAVAILABLE, root_cause};

/// Bytes in an answer's body.
pub(super) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where calls go.
#[derive(Debug)]
pub(super) struct Provider {
    http: Client,
    base: String,
    headers: HeaderMap,
    secret: Secret,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// There was no connection, so the call was certainly not sent.
    NotSent(String),
    /// It may have been sent.
    Lost(String),
    /// There was one that can't be kept; another would be no better.
    Unusable(&'static str, String),
}

impl Provider {
    /// `base` is what stands before every request's url.
    pub(super) fn new(
        base: &Url,
        (headers, secret): (HeaderMap, Secret),
        timeout: Duration,
    ) -> Result<Self, Failure> {
        // Redirected elsewhere, a call would carry the secret there.
        let http =
            Client::builder().timeout(timeout).connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none());
        // A proxy from the environment is not meant for this machine.
        let http = if is_local(base) { http.no_proxy() } else { http };
        let http = http.tcp_nodelay(true).user_agent(concat!("permitd/", env!("CARGO_PKG_VERSION"))).build();
        let http =
            http.map_err(|error| Failure::new("can't make an HTTP client").because(root_cause(&error)))?;
        Ok(Self { http, base: base.as_str().trim_end_matches('/').to_owned(), headers, secret })
    }

    /// Makes a call.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let began = Instant::now();
        let url = format!("{}{}", self.base, request.url);
        let call = self.http.request(request.method.clone(), url).headers(self.headers.clone());
        let call = match &request.body {
            Some(body) => call.body(body.clone()),
            None => call,
        };
        let mut response = call.send().await.map_err(no_answer)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(no_answer)? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                let message = format!("the answer is longer than {ANSWER_BYTES_MAX} bytes");
                return Err(NoAnswer::Unusable("answer_too_large", message));
            }
            body.extend_from_slice(&piece);
        }
        let body = String::from_utf8(body).map_err(|error| {
            NoAnswer::Unusable("answer_not_text", format!("the answer is not UTF-8: {}", error.utf8_error()))
        })?;
        Ok(Answer { status, headers, body: self.secret.hide_in(body), latency: began.elapsed() })
    }

    /// Nothing answers there at all.
    pub(super) fn unreachable(&self, why: &str) -> Failure {
        let failure = Failure::new(format!("can't reach {}", self.base)).because(why);
        failure.hint("check --base-url and the network").exit_code(UNAVAILABLE)
    }
}

/// Reads `--base-url`.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let example = "write it like https://api.openai.com";
    let url = Url::parse(text).map_err(|error| format!("{error}; {example}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("is neither http nor https; {example}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "has a secret in it; put that into the environment, and name the variable by --auth-env".into()
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("ends with more than a path; {example}"));
    }
    Ok(url)
}

/// Whether calls stay on this machine.
pub(super) fn is_local(base: &Url) -> bool {
    let host = base.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn no_answer(error: reqwest::Error) -> NoAnswer {
    let (is_connect, is_timeout) = (error.is_connect(), error.is_timeout());
    let why = if is_timeout {
        "it took longer than --timeout".to_owned()
    } else {
        root_cause(&error.without_url())
    };
    if is_connect { NoAnswer::NotSent(why) } else { NoAnswer::Lost(why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a base that would send the secret astray, or nowhere, is refused with what to do.
    #[test]
    fn refuses_bad_bases() {
        for (text, problem) in [
            ("api.openai.com", "https://"),
            ("ftp://a", "neither http nor https"),
            ("https://user:pass@a", "--auth-env"),
            ("https://a/?key=1", "more than a path"),
        ] {
            let said = base_url(text).expect_err(text);
            assert!(said.contains(problem) && !said.contains("pass@"), "{text}: {said}");
        }
        for (text, local) in [
            ("https://api.openai.com", false),
            ("http://127.0.0.1:80/x", true),
            ("http://[::1]:80", true),
            ("http://localhost", true),
        ] {
            assert_eq!(is_local(&base_url(text).expect("a base")), local, "{text}");
        }
    }
}
