//! The tower layer: one permit for each HTTP request, settled by the response's head.

use std::convert::Infallible;

use http::{Response, StatusCode};
use permitd_client::{Client, Request, tower::PermitLayer};
use permitd_proto::v1::{Outcome as WireOutcome, Refused};
use tower::{Layer, ServiceExt, service_fn};

use crate::fake::{FakeServer, soon};

type HttpRequest = http::Request<&'static str>;

fn request_for(http: &HttpRequest) -> Request {
    Request::new("github").model(http.uri().path())
}

/// What the response says of limits is what the server hears; the caller gets the response as it is.
#[tokio::test]
async fn a_response_is_reported_by_its_head() {
    let mut server = FakeServer::start();
    let client = Client::builder().endpoint(server.endpoint()).connect_lazy().expect("good settings");
    let mut session = server.welcomed(false).await;
    let http = service_fn(async |request: HttpRequest| {
        let answer = Response::builder().status(StatusCode::TOO_MANY_REQUESTS).header("retry-after", "3");
        let answer =
            answer.header("set-cookie", "secret").body(request.into_body()).expect("a good response");
        Ok::<_, Infallible>(answer)
    });
    let limited = PermitLayer::new(client, request_for).layer(http);
    let calling =
        tokio::spawn(limited.oneshot(http::Request::get("/repos").body("body").expect("a good request")));
    let asked = session.acquire().await;
    assert_eq!((asked.provider.as_str(), asked.model.as_str()), ("github", "/repos"));
    session.grant(asked.request_id, "p1").await;
    let response = soon(calling).await.expect("no panic").expect("a response");
    assert_eq!((response.status().as_u16(), *response.body()), (429, "body"));
    let report = session.report().await;
    assert_eq!((report.http_status, report.outcome()), (429, WireOutcome::Unspecified));
    assert_eq!(report.headers.into_iter().collect::<Vec<_>>(), [("retry-after".to_owned(), "3".to_owned())]);
    assert!(report.latency.is_some());
}

/// Without a permit nothing is sent, and the error can be looked at.
#[tokio::test]
async fn without_a_permit_nothing_is_sent() {
    let mut server = FakeServer::start();
    let client = Client::builder().endpoint(server.endpoint()).connect_lazy().expect("good settings");
    let mut session = server.welcomed(false).await;
    let http =
        service_fn(async |_: HttpRequest| -> Result<Response<()>, Infallible> { panic!("it was sent") });
    let limited = PermitLayer::new(client, request_for).layer(http);
    let calling = tokio::spawn(limited.oneshot(http::Request::get("/").body("").expect("a good request")));
    let asked = session.acquire().await;
    let reason = "BUDGET_UNKNOWN".to_owned();
    session.refuse(Refused { request_id: asked.request_id, code: 5, reason, ..Refused::default() }).await;
    let error = soon(calling).await.expect("no panic").expect_err("no permit");
    let error = error.downcast_ref::<permitd_client::Error>().expect("the client's error");
    assert!(error.is_refused());
    assert_eq!(error.reason(), "BUDGET_UNKNOWN");
}
