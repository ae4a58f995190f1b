//! Who may use a pool: its own name decides, and no member's.

use permitd_proto::v1::{GetBudgetRequest, GetPoolRequest, ListBudgetsRequest, ListPoolsRequest, Outcome};
use permitd_server::{auth::Role, config::Config};
use permitd_tests::{Server, ask, report};
use tonic::Code;

use crate::support::{ADMIN, ONE, OTHER, denial, denied, holder, identity, known};

const POOL: &str = "
[budgets.\"p/a\"]
limits = [\"in_flight=1\"]
[budgets.\"p/b\"]
limits = [\"in_flight=1\"]
[pools.\"p/any\"]
members = [\"p/a\", { budget = \"p/b\", prefer = 2 }]
";

/// Of which `one` and `by-pool` may use the pool only, `other` and `by-member` the members only.
async fn with_pool() -> Server {
    known(|config| {
        let read = Config::read(POOL, "permitd.toml", []).expect("a sound configuration");
        (config.budgets, config.pools) = (read.budgets, read.pools);
        for watcher in ["by-pool", "by-member"] {
            config.auth.identities.insert(watcher.to_owned(), holder(watcher, &[Role::Observe]));
        }
        for (name, budgets) in [
            ("one", &["p/any"][..]),
            ("by-pool", &["p/any"]),
            ("other", &["p/a", "p/b"]),
            ("by-member", &["p/a", "p/b"]),
        ] {
            identity(config, name).budgets = budgets.iter().map(|&budget| budget.to_owned()).collect();
        }
    })
    .await
}

/// Goal: who may use a pool has permits of its members, waits for them, extends and reports them, and has nothing of a member by its own
/// name.
#[tokio::test]
async fn a_pools_name_is_enough() {
    let server = with_pool().await;
    let one = server.with_token(ONE);
    let mut session = one.session("s").await;
    session.ask(1, ask("any")).await;
    let first = session.permit(1).await;
    let second = one.granted_now(ask("any")).await;
    assert_eq!((first.key.as_str(), second.key.as_str()), ("a", "b"));
    session.ask(2, ask("any")).await;
    session.place(2).await;
    one.settle(&second).await;
    let third = session.permit(2).await;
    assert_eq!(third.key, "b");
    session.extend(&first.permit_id).await;
    session.settle(&first).await;
    session.settle(&third).await;
    assert!(session.refused.is_empty(), "all were live");
    for (id, key) in [(11, "a"), (12, "b")] {
        assert_eq!(one.refused(ask(key)).await.reason, "BUDGET_DENIED");
        session.ask(id, ask(key)).await;
        session.barrier().await;
        assert!(session.granted.is_empty(), "though the session has had permits of {key}");
        assert_eq!(session.refusal(id).await.reason, "BUDGET_DENIED");
    }
    assert!(session.shares.is_empty());
    let mut admin = server.with_token("by-pool").admin().await;
    let pools = admin.list_pools(ListPoolsRequest::default()).await.expect("listed").into_inner().pools;
    assert_eq!(pools.iter().map(|pool| pool.members.len()).collect::<Vec<_>>(), [2]);
    let budgets = admin.list_budgets(ListBudgetsRequest::default()).await.expect("listed").into_inner();
    assert!(budgets.states.is_empty());
    server.stop().await;
}

/// Goal: who may use all members may not use the pool for that, and is refused alike whether there is one or not.
#[tokio::test]
async fn members_names_are_not_enough() {
    let server = with_pool().await;
    let other = server.with_token(OTHER);
    let permit = other.granted_now(ask("a")).await;
    let mut session = other.session("s").await;
    let mut admin = server.with_token("by-member").admin().await;
    let mut messages = Vec::new();
    for (at, key) in ["any", "nowhere"].into_iter().enumerate() {
        let refused = other.refused(ask(key)).await;
        assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "BUDGET_DENIED"));
        messages.push(refused.message.replace(key, "it"));
        session.ask(at as u64 + 1, ask(key)).await;
        assert_eq!(session.refusal(at as u64 + 1).await.reason, "BUDGET_DENIED");
        let (provider, key) = ("p".to_owned(), key.to_owned());
        let get = GetPoolRequest { provider: provider.clone(), key: key.clone() };
        assert_eq!(denial(admin.get_pool(get).await), denied("BUDGET_DENIED"));
        assert_eq!(
            denial(admin.get_budget(GetBudgetRequest { provider, key }).await),
            denied("BUDGET_DENIED")
        );
    }
    assert_eq!(messages[0], messages[1], "nothing tells them apart");
    let listed = admin.list_pools(ListPoolsRequest::default()).await.expect("listed").into_inner();
    assert!(listed.pools.is_empty() && listed.next_page_token.is_empty());
    other.settle(&permit).await;
    server.stop().await;
}

/// Goal: a permit of a pool is its holder's: a forged one, or somebody else's, is nothing to any member, whoever may use that.
#[tokio::test]
async fn permits_are_their_holders() {
    let server = with_pool().await;
    let (root, one, other) = (server.with_token(ADMIN), server.with_token(ONE), server.with_token(OTHER));
    let permit = one.granted_now(ask("any")).await;
    let mut forged = permit.permit_id.clone();
    forged.replace_range(..1, if forged.starts_with('A') { "B" } else { "A" });
    for (who, id) in [(&other, &permit.permit_id), (&other, &forged), (&one, &forged)] {
        assert!(!who.report(report(id, Outcome::RateLimited)).await.settled);
    }
    for key in ["a", "b"] {
        let state = root.state(key).await;
        let held = u32::from(key == "a");
        assert_eq!((state.in_flight, state.rate_limited_total), (held, 0), "nothing happened to {key}");
    }
    one.settle(&permit).await;
    server.stop().await;
}
