//! SEMANTICS, "Admin" (30 to 34): budgets seen and steered live.

use std::time::{Duration, SystemTime};

use permitd_proto::v1::{
    AcquireRequest, Budget, BudgetState, Change, DeleteBudgetRequest, GetBudgetRequest, Limit,
    ListBudgetsRequest, ListChangesRequest, Outcome, PauseBudgetRequest, Queue, ResumeBudgetRequest,
    SetBudgetRequest, Tenant, WatchBudgetsRequest, WatchBudgetsResponse,
};
use permitd_tests::{
    DAY, Facts, HOUR, Peer, Server, ask, budget, facts, in_flight, rate, report, soon, span, success, tokens,
};
use tonic::{Code, Status, Streaming};

const ABORTED: (Code, &str) = (Code::Aborted, "ETAG_MISMATCH");

fn of_key(key: &str) -> DeleteBudgetRequest {
    DeleteBudgetRequest { provider: "p".to_owned(), key: key.to_owned(), etag: String::new() }
}

async fn delete(peer: &Peer, request: DeleteBudgetRequest) -> Result<(), Facts> {
    let answer = soon("a deleted budget", peer.admin().await.delete_budget(request)).await;
    answer.map(drop).map_err(|status| facts(&status))
}

async fn refused_set(peer: &Peer, budget: Budget) -> Facts {
    facts(&peer.try_declare(budget).await.expect_err("a refusal"))
}

async fn page(peer: &Peer, request: ListBudgetsRequest) -> Result<(Vec<String>, String), Status> {
    let page = soon("a page", peer.admin().await.list_budgets(request)).await?.into_inner();
    Ok((page.states.into_iter().map(name).collect(), page.next_page_token))
}

fn name(state: BudgetState) -> String {
    let budget = state.budget.expect("a budget");
    format!("{}/{}", budget.provider, budget.key)
}

async fn changes(peer: &Peer, request: ListChangesRequest) -> (Vec<Change>, String) {
    let answer = soon("the audit trail", peer.admin().await.list_changes(request)).await.expect("a page");
    let page = answer.into_inner();
    (page.changes, page.next_page_token)
}

/// Goal (30): SetBudget replaces the whole, answers with what is in force, and every change has an etag of its own.
#[tokio::test]
async fn s30_replaces_the_whole() {
    let server = Server::start().await;
    let first = Budget {
        queue: Some(Queue { max_waiting: 5, ..Queue::default() }),
        tenants: [("web".to_owned(), Tenant { weight: 3, max_waiting: 2, max_percent: 40, min_percent: 20 })]
            .into(),
        permit_ttl: span(HOUR),
        ..budget("k", vec![rate("requests", 10, DAY), in_flight(2)])
    };
    let set = server.declare(first.clone()).await;
    assert_eq!((set.limits.len(), &set.tenants, set.permit_ttl), (2, &first.tenants, first.permit_ttl));
    assert_eq!(set.queue.expect("a queue").max_waiting, 5);
    assert!(!set.etag.is_empty());
    assert_eq!(server.state("k").await.budget, Some(set.clone()));
    let second = server.set("k", vec![in_flight(9)]).await;
    assert_eq!(second.limits.len(), 1);
    assert!(second.tenants.is_empty() && second.permit_ttl.is_none());
    assert_eq!(second.queue.unwrap_or_default().max_waiting, 0);
    assert_ne!(second.etag, set.etag);
    let state = server.state("k").await;
    assert_eq!(state.limits.len(), 1);
    assert_eq!(state.limits[0].source, "admin");
    server.stop().await;
}

/// Goal (30): an empty etag is unconditional; one that is stale, another budget's, or for no budget at all changes nothing.
#[tokio::test]
async fn s30_etags() {
    let server = Server::start().await;
    let with = |etag: &str, amount| Budget { etag: etag.to_owned(), ..budget("k", vec![in_flight(amount)]) };
    assert_eq!(refused_set(&server, with("anything", 1)).await.says(), ABORTED, "there is none yet");
    let one = server.declare(with("", 1)).await;
    let two = server.declare(with(&one.etag, 2)).await;
    assert_eq!(refused_set(&server, with(&one.etag, 3)).await.says(), ABORTED, "stale");
    let other = server.set("other", vec![]).await;
    if other.etag != two.etag {
        assert_eq!(refused_set(&server, with(&other.etag, 3)).await.says(), ABORTED, "another's");
    }
    assert_eq!(server.state("k").await.budget, Some(two.clone()), "nothing changed");
    let stale = DeleteBudgetRequest { etag: one.etag.clone(), ..of_key("k") };
    assert_eq!(delete(&server, stale).await.expect_err("stale").says(), ABORTED);
    let three = server.declare(with("", 3)).await;
    delete(&server, DeleteBudgetRequest { etag: three.etag.clone(), ..of_key("k") })
        .await
        .expect("it matches");
    assert_eq!(refused_set(&server, with(&three.etag, 3)).await.says(), ABORTED, "deleted meanwhile");
    let gone = delete(&server, of_key("k")).await.expect_err("gone");
    assert_eq!(gone.code, Code::NotFound);
    server.stop().await;
}

/// Goal (30): of several who change what they read at the same time, exactly one comes through.
#[tokio::test]
async fn s30_compare_and_set_races() {
    let server = Server::start().await;
    let mut etag = server.set("k", vec![in_flight(1)]).await.etag;
    for round in 0..10 {
        let attempts = (1..=8).map(|amount| {
            let budget = Budget { etag: etag.clone(), ..budget("k", vec![in_flight(amount)]) };
            server.try_declare(budget)
        });
        let outcomes = futures_util::future::join_all(attempts).await;
        let mut winners = outcomes.into_iter().filter_map(|outcome| match outcome {
            Ok(budget) => Some(budget.etag),
            Err(status) => {
                assert_eq!(facts(&status).says(), ABORTED);
                None
            }
        });
        etag = winners.next().expect("one comes through");
        assert_eq!(winners.next(), None, "only one, in round {round}");
    }
    server.stop().await;
}

/// Goal (30): validate_only says what would be wrong and changes nothing, not even the trail.
#[tokio::test]
async fn s30_validate_only() {
    let server = Server::with(vec![in_flight(1)]).await;
    let before = server.state("k").await;
    let try_out = async |budget| {
        let request = SetBudgetRequest { budget: Some(budget), validate_only: true, reason: String::new() };
        server.admin().await.set_budget(request).await
    };
    try_out(budget("k", vec![in_flight(7)])).await.expect("would do");
    try_out(budget("new", vec![])).await.expect("would do");
    let wrong = try_out(budget("k", vec![in_flight(0)])).await.expect_err("never grants");
    assert!(facts(&wrong).names("budget.limits[0].amount"), "{wrong:?}");
    let stale = try_out(Budget { etag: "stale".to_owned(), ..budget("k", vec![]) }).await.expect_err("stale");
    assert_eq!(facts(&stale).says(), ABORTED, "it checks everything");
    assert_eq!(server.state("k").await, before);
    let gone = GetBudgetRequest { provider: "p".to_owned(), key: "new".to_owned() };
    let status = server.admin().await.get_budget(gone).await.expect_err("not made");
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(changes(&server, ListChangesRequest::default()).await.0.len(), 1);
    server.stop().await;
}

/// Goal (31): the level is the raw bucket; of an `each` limit it is the least tenant's.
#[tokio::test]
async fn s31_levels() {
    let each = Limit { tenants: "each".to_owned(), ..rate("tokens", 100, DAY) };
    let server = Server::with(vec![each, rate("requests", 50, DAY)]).await;
    assert_eq!(server.level("k", "tokens").await, 100, "nobody took anything");
    for (tenant, amount) in [("a", 10), ("b", 40), ("c", 25)] {
        let request = AcquireRequest { tenant: tenant.to_owned(), ..tokens("k", amount) };
        server.granted_now(request).await;
    }
    assert_eq!(server.level("k", "tokens").await, 60);
    assert_eq!(server.level("k", "requests").await, 47);
    server.stop().await;
}

/// Goal (31): a freeze and a cushion are no part of the level: what was not taken is there.
#[tokio::test]
async fn s31_levels_know_no_freeze() {
    let server = Server::with(vec![rate("requests", 50, DAY)]).await;
    let permit = server.granted_now(ask("k")).await;
    let mut refused = report(&permit.permit_id, Outcome::RateLimited);
    refused.retry_after = span(HOUR);
    server.report(refused).await;
    let limit = server.limit("k", "requests", "").await;
    assert!(limit.frozen_until.is_some());
    assert_eq!((limit.level, limit.effective_amount), (49, 50));
    server.stop().await;
}

/// Goal (32): while paused those waiting stay and their deadlines run; who can't wait is told why; resuming grants.
#[tokio::test]
async fn s32_paused() {
    let server = Server::with(vec![in_flight(1)]).await;
    server.pause("k").await;
    assert!(server.state("k").await.paused);
    let refused = server.refused_now(ask("k")).await;
    assert_eq!(refused.says(), (Code::Unavailable, "BUDGET_PAUSED"));
    let (mut stays, place) = server.waiting(ask("k")).await;
    assert_eq!(place.held_by, "paused");
    let short = AcquireRequest { max_wait: span(Duration::from_millis(100)), ..ask("k") };
    let (mut runs_out, _) = server.waiting(short).await;
    let ended = runs_out.refusal().await;
    assert!(matches!(ended.code, Code::ResourceExhausted | Code::Unavailable), "{ended:?}");
    server.set("k", vec![in_flight(2)]).await;
    assert!(server.state("k").await.paused, "a change is no resumption");
    server.resume("k").await;
    stays.permit().await;
    server.granted_now(ask("k")).await;
    assert!(!server.state("k").await.paused);
    server.pause("k").await;
    server.pause("k").await;
    server.resume("k").await;
    server.resume("k").await;
    for unknown in [
        server
            .admin()
            .await
            .pause_budget(PauseBudgetRequest {
                provider: "p".to_owned(),
                key: "x".to_owned(),
                reason: String::new(),
            })
            .await
            .map(drop),
        server
            .admin()
            .await
            .resume_budget(ResumeBudgetRequest { provider: "p".to_owned(), key: "x".to_owned() })
            .await
            .map(drop),
    ] {
        assert_eq!(facts(&unknown.expect_err("unknown")).code, Code::NotFound);
    }
    server.stop().await;
}

/// Goal (32): deleting tells those waiting; reports for permits in flight are still answered; the name is free again.
#[tokio::test]
async fn s32_deleted() {
    let server = Server::with(vec![in_flight(1), rate("tokens", 100, DAY)]).await;
    let held = server.granted_now(tokens("k", 10)).await;
    let (mut waiting, _) = server.waiting(ask("k")).await;
    let mut session = server.session("").await;
    session.ask(1, ask("k")).await;
    session.place(1).await;
    delete(&server, of_key("k")).await.expect("deleted");
    let deleted = (Code::NotFound, "BUDGET_DELETED");
    assert_eq!(waiting.refusal().await.says(), deleted);
    assert_eq!(session.refusal(1).await.says(), deleted);
    let unknown = server.refused(ask("k")).await;
    assert_eq!(unknown.code, Code::NotFound);
    assert!(unknown.message.contains("p/k"), "{unknown:?}");
    session.ask(2, ask("k")).await;
    assert_eq!(session.refusal(2).await.code, Code::NotFound, "a session remembers nothing of it");
    // A new budget of that name has nothing to do with the old permits.
    server.set("k", vec![in_flight(1), rate("tokens", 100, DAY)]).await;
    assert_eq!(server.level("k", "in_flight").await, 1);
    let answer = server.report(success(&held.permit_id)).await;
    assert!(answer.settled, "{answer:?}");
    assert_eq!(server.report(success(&held.permit_id)).await, answer, "and again");
    assert_eq!(server.level("k", "tokens").await, 100);
    assert_eq!(server.state("k").await.in_flight, 0);
    server.granted_now(ask("k")).await;
    server.stop().await;
}

/// Goal (33): every change is recorded, newest first, with who, what, before, after and why; the trail survives deletion.
#[tokio::test]
async fn s33_the_trail() {
    let server = Server::start().await;
    let set = async |amount, reason: &str| {
        let budget = Some(budget("k", vec![in_flight(amount)]));
        let request = SetBudgetRequest { budget, validate_only: false, reason: reason.to_owned() };
        server.admin().await.set_budget(request).await.expect("set");
    };
    set(1, "to begin with").await;
    set(2, "more").await;
    server.pause("k").await;
    server.resume("k").await;
    delete(&server, of_key("k")).await.expect("deleted");
    server.set("other", vec![]).await;
    let of = |key: &str| ListChangesRequest { key: key.to_owned(), ..ListChangesRequest::default() };
    let (trail, more) = changes(&server, of("k")).await;
    assert_eq!(more, "");
    let what: Vec<&str> = trail.iter().map(|change| change.what.as_str()).collect();
    assert_eq!(what, ["delete", "resume", "pause", "set", "set"]);
    assert!(trail.iter().all(|change| change.who == "loopback"));
    let amount = |budget: &Option<Budget>| budget.as_ref().map(|budget| budget.limits[0].amount);
    let pairs: Vec<_> = trail.iter().map(|change| (amount(&change.before), amount(&change.after))).collect();
    assert_eq!((pairs[0], pairs[3], pairs[4]), ((Some(2), None), (Some(1), Some(2)), (None, Some(1))));
    assert_eq!((trail[3].reason.as_str(), trail[2].reason.as_str()), ("more", "a test"));
    let times: Vec<SystemTime> =
        trail.iter().map(|change| change.at.expect("a time").try_into().expect("in range")).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older));
    assert!(times[0] <= SystemTime::now());
    assert_eq!(changes(&server, ListChangesRequest::default()).await.0.len(), 6);
    assert_eq!(changes(&server, ListChangesRequest { provider: "q".to_owned(), ..of("") }).await.0, []);

    // Page by page: each change once, while new ones come in.
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListChangesRequest { page_size: 2, page_token: token, ..of("k") };
        let (page, next) = changes(&server, request).await;
        assert!(page.len() <= 2);
        seen.extend(page);
        if next.is_empty() {
            break;
        }
        token = next;
        set(9, "meanwhile").await;
    }
    assert_eq!(seen, trail);
    server.stop().await;
}

/// Goal: lists are complete and in order, page by page, whatever comes and goes; filters are globs on provider/key; tokens are checked.
#[tokio::test]
async fn lists() {
    let server = Server::start().await;
    let mut all: Vec<String> = (0..25).map(|n| format!("p/k{n:02}")).collect();
    for name in all.iter().rev() {
        server.set(&name[2..], vec![]).await;
    }
    server.declare(Budget { provider: "q".to_owned(), key: String::new(), ..Budget::default() }).await;
    all.push("q/default".to_owned());
    let by = |filter: &str, page_size| ListBudgetsRequest {
        filter: filter.to_owned(),
        page_size,
        ..ListBudgetsRequest::default()
    };
    assert_eq!(page(&server, by("", 0)).await.expect("a page"), (all.clone(), String::new()));
    assert_eq!(page(&server, by("q/*", 0)).await.expect("a page").0, ["q/default"]);
    assert_eq!(page(&server, by("*/k0*", 0)).await.expect("a page").0, all[..10]);
    assert_eq!(page(&server, by("nothing", 0)).await.expect("a page").0, [""; 0]);
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListBudgetsRequest { page_token: token.clone(), ..by("p/*", 4) };
        let (names, next) = page(&server, request).await.expect("a page");
        assert!(names.len() <= 4);
        seen.extend(names);
        if next.is_empty() {
            break;
        }
        token = next;
        // The one shown last, so that the token points at nothing.
        delete(&server, of_key(&seen.last().expect("not empty")[2..])).await.expect("deleted");
    }
    assert_eq!(seen, all[..25]);
    let bad = [
        ("page_size", ListBudgetsRequest { page_size: 1_001, ..by("", 0) }),
        ("page_size", by("", u32::MAX)),
        ("page_token", ListBudgetsRequest { page_token: "rubbish".to_owned(), ..by("", 0) }),
        ("page_token", ListBudgetsRequest { page_token: token, ..by("q/*", 4) }),
        ("filter", by(&"x".repeat(100_000), 0)),
    ];
    for (field, request) in bad {
        let refused = facts(&page(&server, request).await.expect_err(field));
        assert!(refused.names(field), "{refused:?}");
    }
    server.stop().await;
}

async fn next(watch: &mut Streaming<WatchBudgetsResponse>) -> Vec<BudgetState> {
    soon("news", watch.message()).await.expect("no error").expect("no end").states
}

/// Reads until the budget is seen like that.
async fn see(watch: &mut Streaming<WatchBudgetsResponse>, key: &str, like: impl Fn(&BudgetState) -> bool) {
    loop {
        let states = next(watch).await;
        let of_key = |state: &BudgetState| state.budget.as_ref().is_some_and(|budget| budget.key == key);
        if states.iter().any(|state| of_key(state) && like(state)) {
            return;
        }
    }
}

/// Goal (34): a watch shows a snapshot, then what changed, of the budgets asked for.
#[tokio::test]
async fn s34_watching() {
    let server = Server::start().await;
    for key in ["a1", "a2", "b"] {
        server.set(key, vec![in_flight(3)]).await;
    }
    let request =
        WatchBudgetsRequest { filter: "p/a*".to_owned(), interval: span(Duration::from_millis(100)) };
    let mut watch = server.admin().await.watch_budgets(request).await.expect("a watch").into_inner();
    let mut snapshot: Vec<String> = next(&mut watch).await.into_iter().map(name).collect();
    snapshot.sort();
    assert_eq!(snapshot, ["p/a1", "p/a2"]);
    server.granted_now(ask("b")).await;
    let permit = server.granted_now(ask("a1")).await;
    let news = next(&mut watch).await;
    assert_eq!(news.len(), 1, "only what changed");
    assert_eq!((news[0].in_flight, name(news[0].clone()).as_str()), (1, "p/a1"));
    server.settle(&permit).await;
    see(&mut watch, "a1", |state| state.in_flight == 0).await;
    server.pause("a2").await;
    see(&mut watch, "a2", |state| state.paused).await;
    server.set("a3", vec![]).await;
    see(&mut watch, "a3", |_| true).await;
    server.stop().await;
}

/// Goal (34): an interval is at least 100 ms and no nonsense; a watch's filter is bounded.
#[tokio::test]
async fn s34_intervals() {
    let server = Server::start().await;
    let wrong = [(0, 99_999_999), (0, 0), (-1, 0), (0, -1), (1, 1_000_000_000), (i64::MAX, 0)];
    for (seconds, nanos) in wrong {
        let interval = Some(prost_types::Duration { seconds, nanos });
        let request = WatchBudgetsRequest { interval, ..WatchBudgetsRequest::default() };
        let status = match server.admin().await.watch_budgets(request).await {
            Err(status) => status,
            Ok(watch) => soon("a refusal", watch.into_inner().message()).await.expect_err("a refusal"),
        };
        assert!(facts(&status).names("interval"), "{seconds} s {nanos} ns: {status:?}");
    }
    for right in [None, span(Duration::from_millis(100))] {
        let request = WatchBudgetsRequest { interval: right, ..WatchBudgetsRequest::default() };
        server.admin().await.watch_budgets(request).await.expect("a watch");
    }
    server.stop().await;
}
