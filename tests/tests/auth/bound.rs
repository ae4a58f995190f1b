//! What an identity is bound to: budgets, tenants, priorities. What it may not use it does not learn of either.

use permitd_proto::v1::{
    AcquireRequest, Budget, DeleteBudgetRequest, GetBudgetRequest, Limit, ListBudgetsRequest,
    ListChangesRequest, PauseBudgetRequest, Priority, ResumeBudgetRequest, SessionRequest, Tenant,
    WatchBudgetsRequest,
};
use permitd_server::{auth::Role, config::Config};
use permitd_tests::{DAY, Session, ask, budget, facts, hello, in_flight, rate, soon};
use tonic::Code;

use crate::support::{ADMIN, ONE, OTHER, denial, denied, holder, identity, known};

/// Goal: a budget that an identity may not use is refused alike whether it exists or not, in unary calls and in sessions, and none
/// is made on its behalf.
#[tokio::test]
async fn budgets_are_bound() {
    let server = known(|config: &mut Config| {
        let example: Config =
            Config::read("[providers.q]\nlimits = [\"in_flight=1\"]\n", "test", []).expect("right");
        config.providers = example.providers;
        identity(config, "one").budgets = vec!["p/mine*".to_owned()];
    })
    .await;
    let (root, one) = (server.with_token(ADMIN), server.with_token(ONE));
    root.set("mine", vec![in_flight(5)]).await;
    root.set("theirs", vec![in_flight(5)]).await;
    one.settle(&one.granted(ask("mine")).await).await;
    let elsewhere = |provider: &str, key: &str| AcquireRequest {
        provider: provider.to_owned(),
        key: key.to_owned(),
        ..AcquireRequest::default()
    };
    let mut session = one.session("s").await;
    let mut messages = Vec::new();
    for (at, request) in
        [elsewhere("p", "theirs"), elsewhere("p", "nowhere"), elsewhere("q", "made")].into_iter().enumerate()
    {
        let key = request.key.clone();
        let refused = one.refused(request.clone()).await;
        assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "BUDGET_DENIED"));
        messages.push(refused.message.replace(&format!("{}/{key}", request.provider), "it"));
        session.ask(at as u64 + 1, request).await;
        let refused = session.refusal(at as u64 + 1).await;
        assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "BUDGET_DENIED"));
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "nothing tells them apart: {messages:?}");
    session.ask(9, ask("mine")).await;
    let permit = session.permit(9).await;
    session.settle(&permit).await;
    let budgets = root.admin().await.list_budgets(ListBudgetsRequest::default()).await.expect("listed");
    assert_eq!(budgets.into_inner().states.len(), 2, "no budget of q was made");
    server.stop().await;
}

/// Goal: administration is bound as well: it sees and touches only what it may, and its lists leave the rest out.
#[tokio::test]
async fn administration_is_bound() {
    let server = known(|config| {
        let mut local = holder("local", &[Role::Admin]);
        local.budgets = vec!["p/mine*".to_owned()];
        config.auth.identities.insert("local".to_owned(), local);
    })
    .await;
    let (root, local) = (server.with_token(ADMIN), server.with_token("local"));
    root.set("theirs", vec![in_flight(5)]).await;
    local.set("mine", vec![in_flight(5)]).await;
    let mut admin = local.admin().await;
    for key in ["theirs", "nowhere"] {
        let (provider, key) = ("p".to_owned(), key.to_owned());
        let expected = denied("BUDGET_DENIED");
        let request = GetBudgetRequest { provider: provider.clone(), key: key.clone() };
        assert_eq!(denial(admin.get_budget(request).await), expected);
        let request =
            DeleteBudgetRequest { provider: provider.clone(), key: key.clone(), ..Default::default() };
        assert_eq!(denial(admin.delete_budget(request).await), expected);
        let request =
            PauseBudgetRequest { provider: provider.clone(), key: key.clone(), ..Default::default() };
        assert_eq!(denial(admin.pause_budget(request).await), expected);
        let request = ResumeBudgetRequest { provider, key: key.clone() };
        assert_eq!(denial(admin.resume_budget(request).await), expected);
        assert_eq!(denial(local.try_declare(budget(&key, vec![in_flight(1)])).await), expected);
    }
    let listed = admin.list_budgets(ListBudgetsRequest::default()).await.expect("listed").into_inner();
    assert_eq!(listed.states.len(), 1);
    let mut watch = admin.watch_budgets(WatchBudgetsRequest::default()).await.expect("watched").into_inner();
    let seen = soon("a snapshot", watch.message()).await.expect("a message").expect("a snapshot");
    assert_eq!(seen.states.len(), 1);
    let changes =
        admin.list_changes(ListChangesRequest::default()).await.expect("listed").into_inner().changes;
    let who: Vec<&str> = changes.iter().map(|change| change.who.as_str()).collect();
    assert_eq!(who, ["local"], "its own change and nobody else's");
    let changes = root.admin().await.list_changes(ListChangesRequest::default()).await.expect("listed");
    let changes = changes.into_inner().changes;
    assert_eq!(changes.iter().map(|change| change.who.as_str()).collect::<Vec<_>>(), ["local", "root"]);
    server.stop().await;
}

/// Goal: a tenant is who calls, and no more than the rules say can be claimed instead: by a request, or by a Hello.
#[tokio::test]
async fn tenants_are_bound() {
    let server = known(|config| {
        identity(config, "other").tenants = vec!["team-*".to_owned(), "desk".to_owned()];
        let mut vague = holder("vague", &[Role::Acquire]);
        vague.tenants = vec!["team-*".to_owned()];
        config.auth.identities.insert("vague".to_owned(), vague);
    })
    .await;
    let root = server.with_token(ADMIN);
    root.set("k", vec![in_flight(100)]).await;
    let named = |tenant: &str| AcquireRequest { tenant: tenant.to_owned(), ..ask("k") };
    // Token, tenant asked for, tenant got.
    for (token, asked, got) in [
        (ONE, "", Some("one")),
        (ONE, "one", Some("one")),
        (ONE, "other", None),
        (ONE, "default", None),
        (OTHER, "", Some("desk")),
        (OTHER, "team-a", Some("team-a")),
        (OTHER, "other", None),
        ("vague", "", None),
        ("vague", "team-b", Some("team-b")),
    ] {
        let peer = server.with_token(token);
        let Some(got) = got else {
            let refused = peer.refused(named(asked)).await;
            assert_eq!(
                (refused.code, refused.reason.as_str()),
                (Code::PermissionDenied, "TENANT_DENIED"),
                "{token}: {asked}"
            );
            continue;
        };
        let held = |state: permitd_proto::v1::BudgetState| {
            state.tenants.iter().find(|tenant| tenant.tenant == got).map_or(0, |tenant| tenant.in_flight)
        };
        let before = held(root.state("k").await);
        peer.granted(named(asked)).await;
        assert_eq!(held(root.state("k").await), before + 1, "{token}: {asked:?} is {got}");
    }

    let mut first = hello("s");
    first.tenant = "other".to_owned();
    let first = SessionRequest { hello: Some(first), ..SessionRequest::default() };
    let status = Session::try_open(server.with_token(ONE).channel().await, first).await.expect_err("denied");
    assert_eq!(facts(&status).reason, "TENANT_DENIED");
    let mut session = server.with_token(ONE).session("s").await;
    session.ask(1, named("other")).await;
    assert_eq!(session.refusal(1).await.reason, "TENANT_DENIED");
    session.ask(2, named("")).await;
    session.permit(2).await;
    server.stop().await;
}

/// Goal: a local share tells of the limits of tenants that the caller may be, and of no others'.
#[tokio::test]
async fn shares_tell_of_own_tenants() {
    let server = known(|config| {
        identity(config, "other").tenants = vec!["team-*".to_owned(), "desk".to_owned()];
    })
    .await;
    let of = |tenants: &str| Limit { tenants: tenants.to_owned(), ..rate("tokens", 1_000, DAY) };
    let mut limits = ["each", "one", "o*", "team-a", "t*", "desk", "secret"].map(of).to_vec();
    limits.push(rate("requests", 1_000, DAY));
    let capped = |percent| Tenant { max_percent: percent, ..Tenant::default() };
    let tenants =
        [("one", 50), ("nobody", 40)].map(|(name, percent)| (name.to_owned(), capped(percent))).into();
    server.with_token(ADMIN).declare(Budget { tenants, ..budget("k", limits) }).await;
    for (token, told) in
        [(ONE, &["", "each", "o*", "one", "one"][..]), (OTHER, &["", "desk", "each", "t*", "team-a"])]
    {
        let mut session = server.with_token(token).session("").await;
        session.ask(1, AcquireRequest { tokens: 1, ..ask("k") }).await;
        session.permit(1).await;
        while session.shares.is_empty() {
            session.read().await.expect("a share");
        }
        let share = session.shares.pop_front().expect("just seen");
        let mut of: Vec<&str> = share.limits.iter().map(|limit| limit.tenants.as_str()).collect();
        of.sort_unstable();
        assert_eq!(of, told);
        session.close();
        session.end().await.expect("a polite end");
    }
    server.stop().await;
}

/// Goal: priorities are for those who have them; none asked for is the standard one.
#[tokio::test]
async fn priorities_are_bound() {
    let server = known(|config| {
        identity(config, "one").priorities = vec![permitd_budget::Priority::Batch];
    })
    .await;
    server.with_token(ADMIN).set("k", vec![in_flight(100)]).await;
    let one = server.with_token(ONE);
    let with = |priority: Priority| AcquireRequest { priority: priority.into(), ..ask("k") };
    one.granted(with(Priority::Batch)).await;
    for priority in [Priority::Interactive, Priority::Standard, Priority::Unspecified] {
        let refused = one.refused(with(priority)).await;
        assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "PRIORITY_DENIED"));
        assert!(refused.message.contains("batch"), "{}", refused.message);
    }
    server.stop().await;
}
