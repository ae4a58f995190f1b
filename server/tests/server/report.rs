//! Reports: settled once, whoever reports, and only for permits that this server issued.

use permitd_budget::LimitSpec;
use permitd_proto::v1::{
    DeleteBudgetRequest, Outcome, ReportRequest, SessionRequest, admin_service_client::AdminServiceClient,
};

use crate::support::{DAY, Server, success};

/// Goal: forged and foreign ids answer settled = false and change nothing; the real one still settles.
#[tokio::test]
async fn forged_ids_have_no_effect() {
    let budgets = [("k", vec![LimitSpec::in_flight(1)])];
    let (server, elsewhere) = (Server::start(&budgets).await, Server::start(&budgets).await);
    let (mut session, mut foreign) = (server.session("").await, elsewhere.session("").await);
    session.ask(1, "k").await;
    foreign.ask(1, "k").await;
    let (real, foreign) = (session.permit(1).await.permit_id, foreign.permit(1).await.permit_id);
    session.ask(2, "k").await;
    let mut client = server.permits().await;
    let flipped = format!("{}{}", &real[..27], if real.ends_with('A') { 'B' } else { 'A' });
    for forged in
        [foreign.as_str(), flipped.as_str(), "", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA", &"x".repeat(100_000)]
    {
        let answer = client.report(success(forged)).await.expect("an answer").into_inner();
        assert!(!answer.settled);
        assert_eq!(answer.outcome(), Outcome::Success);
        assert!(answer.permit_id.len() <= 256 && forged.starts_with(&answer.permit_id));
    }
    session.nothing_granted().await;
    assert!(session.report(&real).await.settled);
    session.permit(2).await;
    server.stop().await;
    elsewhere.stop().await;
}

/// Goal: a repeat answers as the first did, a contradicting one changes nothing, in whatever way they come.
#[tokio::test]
async fn repeats_answer_as_the_first() {
    let server =
        Server::start(&[("k", vec![LimitSpec::in_flight(1), LimitSpec::rate("tokens", 10, DAY)])]).await;
    let mut session = server.session("").await;
    session.ask(1, "k").await;
    let id = session.permit(1).await.permit_id;
    let first = session.report(&id).await;
    assert!(first.settled && !first.retry);
    let mut client = server.permits().await;
    let contradicting = ReportRequest { outcome: Outcome::RateLimited.into(), ..success(&id) };
    assert_eq!(client.report(contradicting).await.expect("an answer").into_inner(), first);
    assert_eq!(session.report(&id).await, first);
    server.stop().await;
}

/// Goal: without an outcome, the status and headers say how the call went, and what to do.
#[tokio::test]
async fn statuses_are_read() {
    let server = Server::start(&[("k", vec![LimitSpec::in_flight(1)])]).await;
    let mut session = server.session("").await;
    session.ask(1, "k").await;
    let permit_id = session.permit(1).await.permit_id;
    let headers = [("Retry-After".to_owned(), "7".to_owned())].into();
    let report = ReportRequest { permit_id, http_status: 429, headers, ..ReportRequest::default() };
    session.send(SessionRequest { report: vec![report], ..SessionRequest::default() }).await;
    let answer = session.reported().await;
    assert_eq!(answer.outcome(), Outcome::RateLimited);
    assert!(answer.settled && answer.retry);
    server.stop().await;
}

/// Goal: permits of a deleted budget can still be reported; those waiting are told; the name is free again.
#[tokio::test]
async fn deleted_budgets_still_take_reports() {
    let server = Server::start(&[("k", vec![LimitSpec::in_flight(1)])]).await;
    let mut session = server.session("").await;
    session.ask(1, "k").await;
    let held = session.permit(1).await;
    session.ask(2, "k").await;
    session.nothing_granted().await;
    let mut admin = AdminServiceClient::new(server.channel().await);
    let delete = DeleteBudgetRequest { provider: "p".to_owned(), key: "k".to_owned(), ..Default::default() };
    admin.delete_budget(delete).await.expect("deleted");
    let refused = session.refused().await;
    assert_eq!((refused.request_id, refused.reason.as_str()), (2, "BUDGET_DELETED"));
    session.ask(3, "k").await;
    assert_eq!(session.refused().await.reason, "BUDGET_UNKNOWN");
    assert!(session.report(&held.permit_id).await.settled);
    assert!(session.report(&held.permit_id).await.settled, "and a repeat answers the same");
    server.stop().await;
}

/// Goal: an extension of a live permit says nothing, one of an ended permit is refused with its id.
#[tokio::test]
async fn extensions() {
    let server = Server::start(&[("k", vec![LimitSpec::in_flight(2)])]).await;
    let mut session = server.session("").await;
    session.ask(1, "k").await;
    let id = session.permit(1).await.permit_id;
    let extend = |ids: &[&str]| SessionRequest {
        extend: ids.iter().map(|&id| id.to_owned()).collect(),
        ..SessionRequest::default()
    };
    session.send(extend(&[&id, "nonsense"])).await;
    let refused = session.refused().await;
    assert_eq!((refused.permit_id.as_str(), refused.reason.as_str()), ("nonsense", "PERMIT_UNKNOWN"));
    session.report(&id).await;
    session.send(extend(&[&id])).await;
    assert_eq!(session.refused().await.permit_id, id);
    server.stop().await;
}
