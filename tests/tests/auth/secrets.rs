//! Secrets stay secret: in logs, metrics, errors and answers.

use permitd_proto::v1::ListBudgetsRequest;
use permitd_server::auth::TokenHash;
use permitd_tests::{Permitd, ask, http_get};

/// Goal: however much is logged, and whatever fails, no token is told, nor its hash.
#[tokio::test]
async fn tokens_are_told_nowhere() {
    const GOOD: &str = "permitd_GOOD-SECRET";
    const WRONG: &str = "permitd_WRONG-SECRET";
    let hash = TokenHash::of(GOOD).to_string();
    let config = format!("[auth.identities.root]\ntokens = [\"{hash}\"]\nroles = [\"admin\", \"acquire\"]\n");
    let server = Permitd::start_logging("trace", &config).await;
    let good = server.with_token(GOOD);
    let listed = good.admin().await.list_budgets(ListBudgetsRequest::default()).await.expect("let in");
    let wrong = server.with_token(WRONG).admin().await.list_budgets(ListBudgetsRequest::default()).await;
    let refused = good.refused(ask("nowhere")).await;
    let mut told = format!("{listed:?} {:?} {refused:?}", wrong.expect_err("not let in"));
    for token in [Some(GOOD), Some(WRONG), None] {
        told += &http_get(server.http, "/metrics", token).await;
    }
    let said = server.said();
    assert!(said.contains("TRACE"), "everything is logged: {said}");
    told += &said;
    for secret in ["-SECRET", &hash["sha256:".len()..]] {
        let line = told.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is told");
    }
    server.stop().await;
}
