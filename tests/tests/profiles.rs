//! Profiles at work in a server (SEMANTICS 7, 23, 26 and 29): what a report with status, headers and body makes of a budget, and how
//! tokens are counted.

use std::time::Duration;

use permitd_proto::v1::{
    AcquireRequest, Budget, BudgetState, GetBudgetRequest, Limit, Outcome, Permit, ReportRequest,
    ReportResponse, Usage,
};
use permitd_tests::{DAY, Server, budget, estimate, in_flight, rate, tokens};
use tonic::Code;

async fn with(provider: &str, limits: Vec<Limit>) -> Server {
    let server = Server::start().await;
    server.declare(Budget { provider: provider.to_owned(), ..budget("k", limits) }).await;
    server
}

async fn state(server: &Server, provider: &str) -> BudgetState {
    let request = GetBudgetRequest { provider: provider.to_owned(), key: "k".to_owned() };
    let answer = server.admin().await.get_budget(request).await.expect("there");
    answer.into_inner().state.expect("a state")
}

async fn level(server: &Server, provider: &str, unit: &str) -> i64 {
    let state = state(server, provider).await;
    let is = |limit: &Limit| limit.unit == unit;
    state.limits.iter().find(|limit| limit.configured.as_ref().is_some_and(is)).expect(unit).level
}

fn of(provider: &str, request: AcquireRequest) -> AcquireRequest {
    AcquireRequest { provider: provider.to_owned(), ..request }
}

async fn report(
    server: &Server,
    permit: &Permit,
    http_status: u32,
    headers: &[(&str, &str)],
    body: &str,
) -> ReportResponse {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let permit_id = permit.permit_id.clone();
    let body = body.as_bytes().to_vec();
    server.report(ReportRequest { permit_id, http_status, headers, body, ..ReportRequest::default() }).await
}

/// Goal (29): one and the same response means to each provider what its profile says.
#[tokio::test]
async fn s29_each_provider_is_read_by_its_own_profile() {
    let cases = [
        ("anthropic", 529, "", Outcome::Overloaded, true),
        (
            "anthropic",
            429,
            r#"{"error":{"details":{"error_code":"enforced_spend_limit_reached"}}}"#,
            Outcome::QuotaExhausted,
            false,
        ),
        ("openai", 429, r#"{"error":{"code":"slow_down"}}"#, Outcome::AccelerationLimited, true),
        ("openai", 429, r#"{"error":{"code":"insufficient_quota"}}"#, Outcome::QuotaExhausted, false),
        (
            "github",
            403,
            r#"{"message":"You have exceeded a secondary rate limit."}"#,
            Outcome::ConcurrencyLimited,
            true,
        ),
        (
            "anybody",
            403,
            r#"{"message":"You have exceeded a secondary rate limit."}"#,
            Outcome::Failed,
            false,
        ),
        ("groq", 413, "", Outcome::TooLarge, false),
        ("stripe", 429, r#"{"error":{"code":"lock_timeout"}}"#, Outcome::Failed, true),
        ("zhipu", 429, "High concurrency usage of this API", Outcome::ConcurrencyLimited, true),
        ("shopify", 200, r#"{"errors":[{"extensions":{"code":"THROTTLED"}}]}"#, Outcome::RateLimited, true),
    ];
    for (provider, status, body, outcome, retry) in cases {
        let server = with(provider, vec![in_flight(5)]).await;
        let permit = server.granted_now(of(provider, tokens("k", 10))).await;
        let answer = report(&server, &permit, status, &[], body).await;
        assert_eq!((answer.outcome(), answer.retry), (outcome, retry), "{provider} {status} {body}");
        server.stop().await;
    }
}

/// Goal (26): a spend cap refuses everybody at once, told from a rate limit by the body alone.
#[tokio::test]
async fn s26_a_spend_cap_ends_it() {
    let server = with("anthropic", vec![rate("requests", 100, DAY)]).await;
    let permit = server.granted_now(of("anthropic", tokens("k", 10))).await;
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
    report(&server, &permit, 429, &[], body).await;
    let refused = server.refused_now(of("anthropic", tokens("k", 10))).await;
    assert_eq!(refused.says(), (Code::ResourceExhausted, "QUOTA_EXHAUSTED"));
    assert_eq!(refused.retry_after, None);
    server.stop().await;
}

/// Goal (23): the wait comes from the most exact of what the response says, and where it says nothing, from the profile.
#[tokio::test]
async fn s23_waits_are_read() {
    let minute = Duration::from_secs(60);
    for (provider, status, headers, body, least) in [
        ("openai", 429, vec![("retry-after-ms", "60000"), ("retry-after", "9000")], "", minute),
        ("gemini", 429, vec![], r#"{"error":{"details":[{"retryDelay":"60s"}]}}"#, minute),
        (
            "openai",
            429,
            vec![("X-RateLimit-Remaining-Requests", "0"), ("x-ratelimit-reset-requests", "1m0s")],
            "",
            minute,
        ),
        ("github", 403, vec![], "You have exceeded a secondary rate limit", minute),
    ] {
        let server = with(provider, vec![rate("requests", 100, DAY)]).await;
        let permit = server.granted_now(of(provider, tokens("k", 10))).await;
        let answer = report(&server, &permit, status, &headers, body).await;
        let wait = Duration::try_from(answer.retry_after.expect("for information")).expect("not negative");
        assert!(wait >= least && wait <= least * 6 / 5, "{provider} {headers:?} {body}: {wait:?}");
        server.stop().await;
    }
}

/// Goal (7): tokens count as the provider counts them, before the call and after it.
#[tokio::test]
async fn s7_tokens_count_as_the_provider_counts() {
    let said = |input, output, cached| Usage {
        input_tokens: input,
        output_tokens: output,
        cached_input_tokens: cached,
        ..Usage::default()
    };
    let bounded = Usage { max_output_tokens: Some(400), ..said(Some(100), None, None) };
    for (provider, held, used) in
        [("anthropic", 500, 50), ("openai", 400, 400), ("azure-openai", 500, 500), ("gemini", 100, 100)]
    {
        let server = with(provider, vec![rate("tokens", 10_000, DAY)]).await;
        let permit = server.granted_now(of(provider, estimate("k", bounded.clone()))).await;
        assert_eq!(level(&server, provider, "tokens").await, 10_000 - held, "{provider}");
        let actual = Some(said(Some(100), Some(40), Some(90)));
        let permit_id = permit.permit_id;
        server
            .report(ReportRequest { permit_id, http_status: 200, actual, ..ReportRequest::default() })
            .await;
        assert_eq!(level(&server, provider, "tokens").await, 10_000 - used, "{provider}");
        server.stop().await;
    }
}

/// Goal: what a budget leaves open is the profile's, and limits that come from it say so.
#[tokio::test]
async fn what_is_left_open_is_the_profiles() {
    let server = with("github", vec![rate("requests", 5_000, DAY)]).await;
    let limits = state(&server, "github").await.limits;
    let told: Vec<(String, &str)> = limits
        .iter()
        .map(|limit| (limit.configured.clone().expect("told").unit, limit.source.as_str()))
        .collect();
    let expected = [("requests", "admin"), ("in_flight", "profile"), ("points", "profile")];
    assert_eq!(told, expected.map(|(unit, source)| (unit.to_owned(), source)));
    let permit = server.granted_now(of("github", tokens("k", 0))).await;
    assert_eq!(permit.ttl.expect("told").seconds, 120);
    server.stop().await;
}
