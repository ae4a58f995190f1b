//! What is behind the pages, asked by those who should not: pages of other sites, names that lead here, callers without the role.

use std::net::SocketAddr;

use permitd_server::{
    auth::{Role, TokenHash},
    config::IdentityConfig,
};
use permitd_tests::{Server, http_send, in_flight};

/// Sends a request with these lines in its head; the first line of the answer, and all of it.
async fn send(to: SocketAddr, request: &str, head: &[&str], body: &str) -> (String, String) {
    let head: String = head.iter().flat_map(|line| [line, "\r\n"]).collect();
    let length = body.len();
    let text =
        format!("{request} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{head}\r\n{body}");
    let answer = http_send(to, &text).await;
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, answer)
}

const JSON: &str = "content-type: application/json";
const PAUSE: &str = r#"{"budget":"p/k"}"#;

/// Goal: where nobody has to show a token, no page of another site sees or changes anything, by whatever name it leads here.
#[tokio::test]
async fn other_sites_can_do_nothing() {
    let server = Server::with(vec![in_flight(1)]).await;
    let own = format!("host: {}", server.http);
    for (head, reason) in [
        (&["host: rebound.example", JSON][..], "HOST_UNKNOWN"),
        (&[&own, JSON, "origin: http://evil.example"], "CROSS_SITE"),
        (&[&own, JSON, "origin: null"], "CROSS_SITE"),
        (&[&own, JSON, "sec-fetch-site: cross-site"], "CROSS_SITE"),
        (&[&own, "content-type: text/plain"], "INVALID_ARGUMENT"),
        (&[&own, "content-type: application/x-www-form-urlencoded"], "INVALID_ARGUMENT"),
        (&[&own], "INVALID_ARGUMENT"),
    ] {
        let (status, answer) = send(server.http, "POST /api/pause", head, PAUSE).await;
        assert!(matches!(&*status, "403" | "400"), "{head:?}: {answer}");
        assert!(answer.contains(&format!("\"reason\":\"{reason}\"")), "{head:?}: {answer}");
        if reason != "INVALID_ARGUMENT" {
            let (status, answer) = send(server.http, "GET /api/overview", head, "").await;
            assert_eq!(status, "403", "{answer}");
            assert!(!answer.contains("p/k"), "{answer}");
        }
    }
    let (_, answer) =
        send(server.http, "OPTIONS /api/pause", &[&own, "origin: http://evil.example"], "").await;
    assert!(!answer.to_lowercase().contains("access-control"), "nobody is given leave: {answer}");
    assert!(!server.state("k").await.paused);

    let origin = format!("origin: http://{}", server.http);
    let (status, _) = send(server.http, "POST /api/pause", &[&own, &origin, JSON], PAUSE).await;
    assert_eq!(status, "200");
    assert!(server.state("k").await.paused);
    server.stop().await;
}

/// Goal: each answer wants the role of the method that it comes from, and holds no budget that its caller may not see.
#[tokio::test]
async fn roles_are_kept() {
    let server = Server::start_with(|config| {
        let holder = |token: &str, role, budgets: &[&str]| IdentityConfig {
            tokens: vec![TokenHash::of(token)],
            roles: [role].into(),
            budgets: budgets.iter().map(|&budget| budget.to_owned()).collect(),
            ..IdentityConfig::default()
        };
        let identities = &mut config.auth.identities;
        identities.insert("keeper".to_owned(), holder("keeper", Role::Admin, &[]));
        identities.insert("watcher".to_owned(), holder("watcher", Role::Observe, &["p/k"]));
        identities.insert("worker".to_owned(), holder("worker", Role::Acquire, &[]));
    })
    .await;
    let keeper = server.with_token("keeper");
    keeper.set("k", vec![in_flight(1)]).await;
    keeper.set("hidden", vec![in_flight(1)]).await;
    let change = r#"{"budget":"p/k","etag":"x","limits":[]}"#;
    let looks =
        ["GET /api/overview", "GET /api/budget?budget=p/k", "GET /api/changes"].map(|look| (look, ""));
    let deeds = [("POST /api/pause", PAUSE), ("POST /api/resume", PAUSE), ("POST /api/change", change)];
    for (token, looking, doing) in
        [("nobody", "401", "401"), ("worker", "403", "403"), ("watcher", "200", "403")]
    {
        // A name that leads here is no danger: no token goes with it.
        let bearer = format!("authorization: Bearer {token}");
        let head = ["host: permitd.example", &bearer, JSON];
        for (request, body, expected) in looks
            .iter()
            .map(|(request, body)| (request, body, looking))
            .chain(deeds.iter().map(|(request, body)| (request, body, doing)))
        {
            let (status, answer) = send(server.http, request, &head, body).await;
            assert_eq!(status, expected, "{token}: {request}: {answer}");
            assert!(!answer.contains("hidden"), "{token}: {request}: {answer}");
        }
    }
    let head = ["host: permitd.example", "authorization: Bearer watcher"];
    let (status, answer) = send(server.http, "GET /api/budget?budget=p/hidden", &head, "").await;
    assert_eq!(status, "403", "{answer}");
    let (status, answer) = send(server.http, "GET /api/overview", &head[..1], "").await;
    assert_eq!(status, "401", "{answer}");
    assert!(answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
    server.stop().await;
}

/// Goal: what makes no sense is refused with its field, large or small, and changes nothing.
#[tokio::test]
async fn names_the_field() {
    let server = Server::with(vec![in_flight(1)]).await;
    let etag = server.state("k").await.budget.expect("declared").etag;
    let own = format!("host: {}", server.http);
    let change =
        |etag: &str, limit: &str| format!(r#"{{"budget":"p/k","etag":"{etag}","limits":["{limit}"]}}"#);
    for (request, body, status, field) in [
        ("GET /api/overview?order=luck", String::new(), "400", "query"),
        ("GET /api/overview?unknown=1", String::new(), "400", "query"),
        (&*format!("GET /api/overview?filter={}", "x".repeat(600)), String::new(), "400", "filter"),
        ("GET /api/budget?budget=", String::new(), "400", "provider"),
        ("GET /api/changes?page_token=x", String::new(), "400", "page_token"),
        ("POST /api/change", change("", "in_flight=2"), "400", "etag"),
        ("POST /api/change", change(&etag, "in_flight=many"), "400", "limits[0]"),
        ("POST /api/change", change(&etag, "in_flight=0"), "400", "budget.limits[0].amount"),
        ("POST /api/change", change("elsewhere", "in_flight=2"), "409", ""),
        ("POST /api/change", "x".repeat(1024 * 1024), "400", "body"),
        ("POST /api/pause", r#"{"budget":"p/nobody"}"#.to_owned(), "404", ""),
    ] {
        let (found, answer) = send(server.http, request, &[&own, JSON], &body).await;
        let short: String = request.chars().take(60).collect();
        assert_eq!(found, status, "{short}: {answer}");
        assert!(field.is_empty() || answer.contains(&format!("\"field\":\"{field}\"")), "{short}: {answer}");
    }
    assert_eq!(server.limit("k", "in_flight", "").await.effective_amount, 1);
    server.stop().await;
}

/// Goal: pages let nobody else in, and are never older than their server.
#[tokio::test]
async fn pages_are_closed_to_others() {
    let server = Server::start().await;
    let (status, page) = send(server.http, "GET /", &["host: anywhere.example"], "").await;
    assert_eq!(status, "200", "it holds nothing");
    for line in ["default-src 'none'", "frame-ancestors 'none'", "nosniff", "no-cache"] {
        assert!(page.contains(line), "{line} in {page}");
    }
    server.stop().await;
}
