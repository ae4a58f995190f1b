//! Permits and sessions belong to who asked for them: nobody else can end, keep or take them, or learn that they exist.

use permitd_proto::v1::{Outcome, SessionRequest};
use permitd_server::auth::Role;
use permitd_tests::{acquires, ask, in_flight, report, success};
use tonic::Code;

use crate::support::{ADMIN, ONE, OTHER, identity, known};

/// Goal: somebody else's permit is to everybody else what a forged one is: a report changes nothing, an extension finds nothing.
#[tokio::test]
async fn permits_are_their_holders() {
    let server = known(|_| {}).await;
    let (root, one, other) = (server.with_token(ADMIN), server.with_token(ONE), server.with_token(OTHER));
    root.set("k", vec![in_flight(2)]).await;
    let permit = one.granted(ask("k")).await;
    let mut forged = permit.permit_id.clone();
    forged.replace_range(..1, if forged.starts_with('A') { "B" } else { "A" });

    let mut strange = other.session("s").await;
    let mut answers = Vec::new();
    for id in [&permit.permit_id, &forged] {
        let mut unary = other.report(report(id, Outcome::Cancelled)).await;
        let mut item = strange.report(report(id, Outcome::RateLimited)).await;
        assert!(!unary.settled && !item.settled);
        strange.extend(id).await;
        let refused = strange.next_refused().await;
        assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound as u32, "PERMIT_UNKNOWN"));
        (unary.permit_id, item.permit_id) = (String::new(), String::new());
        answers.push((unary, item, refused.message));
    }
    assert_eq!(answers[0], answers[1], "nothing tells them apart");
    let state = root.state("k").await;
    assert_eq!((state.in_flight, state.rate_limited_total), (1, 0), "nothing happened");

    let mut own = one.session("s").await;
    own.extend(&permit.permit_id).await;
    own.settle(&permit).await;
    assert_eq!(own.refused.len(), 0, "the extension was taken");
    server.stop().await;
}

/// Goal: a session is resumed by who began it; under the same id others begin one of their own, and take nothing away.
#[tokio::test]
async fn sessions_are_their_holders() {
    let server = known(|_| {}).await;
    server.with_token(ADMIN).set("k", vec![in_flight(1)]).await;
    let mut own = server.with_token(ONE).session("the same").await;
    own.ask(1, ask("k")).await;
    let permit = own.permit(1).await;
    own.ask(2, ask("k")).await;
    own.barrier().await;

    let mut strange = server.with_token(OTHER).session("the same").await;
    assert!(!strange.welcome.resumed);
    strange.barrier().await;
    assert_eq!(strange.granted.len(), 0, "nothing of the other's is told");
    strange.cancel(2).await;
    strange.barrier().await;

    own.settle(&permit).await;
    own.permit(2).await;
    own.reset().await;
    let resumed = server.with_token(ONE).session("the same").await;
    assert!(resumed.welcome.resumed, "by who began it");
    server.stop().await;
}

/// Goal: within a session, each item wants its role.
#[tokio::test]
async fn items_want_their_roles() {
    let server = known(|config| {
        identity(config, "one").roles = [Role::Report].into();
        identity(config, "other").roles = [Role::Acquire].into();
    })
    .await;
    server.with_token(ADMIN).set("k", vec![in_flight(5)]).await;
    let mut reporter = server.with_token(ONE).session("").await;
    let mut first = acquires(vec![ask("k")]);
    first.report = vec![success("nobody issued this")];
    reporter.send(first).await;
    assert_eq!(reporter.next_refused().await.reason, "ROLE_MISSING");
    assert!(!reporter.next_reported().await.settled, "which it may ask");

    let mut acquirer = server.with_token(OTHER).session("").await;
    acquirer.ask(1, ask("k")).await;
    let permit = acquirer.permit(1).await;
    let settle = SessionRequest { report: vec![success(&permit.permit_id)], ..SessionRequest::default() };
    acquirer.send(settle).await;
    let refused = acquirer.next_refused().await;
    assert_eq!((refused.reason.as_str(), refused.permit_id), ("ROLE_MISSING", permit.permit_id));
    assert_eq!(server.with_token(ADMIN).state("k").await.in_flight, 1);
    server.stop().await;
}
