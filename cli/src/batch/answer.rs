//! What the provider said to one request, and what of it permitd and the results want to know.

use std::time::Duration;

use permitd_client::{Report, Usage, body};
use reqwest::{StatusCode, header::HeaderMap};

/// Headers by which providers name a request, for their support; the first that is there counts.
const REQUEST_IDS: [&str; 4] = ["x-request-id", "request-id", "apim-request-id", "x-amzn-requestid"];

/// An answer of the provider, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    pub(super) latency: Duration,
}

impl Answer {
    /// How the provider names the request.
    pub(super) fn request_id(&self) -> Option<&str> {
        REQUEST_IDS.iter().find_map(|name| self.headers.get(*name)?.to_str().ok())
    }

    /// What the provider says was used; what it does not say is absent.
    pub(super) fn usage(&self) -> Usage {
        body::usage(&self.body)
    }

    /// For permitd, whose server reads it by the provider's profile.
    pub(super) fn report(&self) -> Report {
        let headers = self.headers.iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let report = headers
            .fold(Report::status(self.status.as_u16()), |report, (name, value)| report.header(name, value));
        let report = report.latency(self.latency);
        if self.status.is_success() { report.actual(self.usage()) } else { report.body(&self.body) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        let headers = HeaderMap::from_iter([
            ("x-request-id".parse().expect("a name"), "req_1".parse().expect("a value")),
            ("retry-after".parse().expect("a name"), "7".parse().expect("a value")),
        ]);
        Answer { status: StatusCode::OK, headers, body: body.to_owned(), latency: Duration::ZERO }
    }

    #[test]
    fn names_the_request() {
        assert_eq!(answer("").request_id(), Some("req_1"));
    }
}
