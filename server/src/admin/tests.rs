//! `AdminService` as its callers see it: a whole server on a real socket.

use std::{collections::BTreeSet, time::Duration};

use permitd_proto::v1::{
    self, acquire_response::Event, admin_service_client::AdminServiceClient,
    permit_service_client::PermitServiceClient,
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{Listeners, config::Config, run};

/// Longer than anything here takes, so that a test that waits for ever fails instead.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    admin: AdminServiceClient<Channel>,
    permits: PermitServiceClient<Channel>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), crate::Error>>,
}

impl Server {
    async fn start(config: &str) -> Self {
        let addresses = "[server]\ndata = \"none\"\nlisten = \"127.0.0.1:0\"\nhttp = \"off\"\nworkers = 1\ndrain = \"0s\"\n";
        let config = Config::read(&format!("{addresses}{config}"), "test", []).expect("makes sense");
        let listeners = Listeners::bind(&config.server).await.expect("a free port");
        let url = format!("http://{}", listeners.grpc_address());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(run(config, listeners, async { stopped.await.unwrap_or_default() }));
        let channel = Channel::from_shared(url).expect("a URL").connect().await.expect("the server runs");
        let (admin, permits) = (AdminServiceClient::new(channel.clone()), PermitServiceClient::new(channel));
        Self { admin, permits, stop: Some(stop), running }
    }

    async fn set(&mut self, budget: v1::Budget) -> Result<v1::Budget, Status> {
        let request = v1::SetBudgetRequest { budget: Some(budget), ..v1::SetBudgetRequest::default() };
        Ok(self.admin.set_budget(request).await?.into_inner().budget.expect("what was set"))
    }

    async fn state(&mut self, name: &str) -> Result<v1::BudgetState, Status> {
        let (provider, key) = split(name);
        let request = v1::GetBudgetRequest { provider, key };
        Ok(self.admin.get_budget(request).await?.into_inner().state.expect("a state"))
    }

    async fn delete(&mut self, name: &str, etag: &str) -> Result<(), Status> {
        let (provider, key) = split(name);
        let request = v1::DeleteBudgetRequest { provider, key, etag: etag.to_owned() };
        self.admin.delete_budget(request).await.map(drop)
    }

    async fn list(
        &mut self,
        page_size: u32,
        page_token: &str,
        filter: &str,
    ) -> Result<(Vec<String>, String), Status> {
        let (page_token, filter) = (page_token.to_owned(), filter.to_owned());
        let request = v1::ListBudgetsRequest { page_size, page_token, filter };
        let page = self.admin.list_budgets(request).await?.into_inner();
        Ok((page.states.iter().map(name_of).collect(), page.next_page_token))
    }

    async fn changes(&mut self, provider: &str, page_size: u32, page_token: &str) -> v1::ListChangesResponse {
        let (provider, page_token) = (provider.to_owned(), page_token.to_owned());
        let request =
            v1::ListChangesRequest { provider, page_size, page_token, ..v1::ListChangesRequest::default() };
        self.admin.list_changes(request).await.expect("changes").into_inner()
    }

    async fn watch(&mut self, filter: &str) -> Result<tonic::Streaming<v1::WatchBudgetsResponse>, Status> {
        let interval = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
        let request = v1::WatchBudgetsRequest { filter: filter.to_owned(), interval };
        Ok(self.admin.watch_budgets(request).await?.into_inner())
    }
}

fn split(name: &str) -> (String, String) {
    let (provider, key) = name.split_once('/').expect("provider/key");
    (provider.to_owned(), key.to_owned())
}

fn name_of(state: &v1::BudgetState) -> String {
    let budget = state.budget.as_ref().expect("a state has its budget");
    format!("{}/{}", budget.provider, budget.key)
}

fn requests(amount: u64, seconds: i64) -> v1::Limit {
    let per = Some(prost_types::Duration { seconds, nanos: 0 });
    v1::Limit { unit: "requests".to_owned(), amount, per, ..v1::Limit::default() }
}

fn budget(name: &str, limit: v1::Limit) -> v1::Budget {
    let (provider, key) = split(name);
    v1::Budget { provider, key, limits: vec![limit], ..v1::Budget::default() }
}

fn acquire(name: &str, max_wait_seconds: i64) -> v1::AcquireRequest {
    let (provider, key) = split(name);
    let max_wait = Some(prost_types::Duration { seconds: max_wait_seconds, nanos: 0 });
    v1::AcquireRequest { provider, key, max_wait, ..v1::AcquireRequest::default() }
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn field(status: &Status) -> String {
    let details = status.get_error_details();
    details.bad_request().map(|bad| bad.field_violations[0].field.clone()).unwrap_or_default()
}

async fn next_names(watch: &mut tonic::Streaming<v1::WatchBudgetsResponse>) -> Vec<String> {
    let message = timeout(PATIENCE, watch.message()).await.expect("in time").expect("no failure");
    message.expect("not the end").states.iter().map(name_of).collect()
}

/// Goal: of two who change the same budget, the second learns of the first.
#[tokio::test]
async fn etags_compare_and_set() {
    let mut server = Server::start("").await;
    let early = server.set(v1::Budget { etag: "x".to_owned(), ..budget("a/x", requests(1, 60)) }).await;
    let status = early.expect_err("there is nothing to match");
    assert_eq!((status.code(), reason(&status)), (Code::Aborted, "ETAG_MISMATCH".to_owned()));

    let first = server.set(budget("a/x", requests(1, 60))).await.expect("unconditional");
    let second = server.set(v1::Budget { etag: first.etag.clone(), ..budget("a/x", requests(2, 60)) }).await;
    let second = second.expect("matches");
    assert_ne!(first.etag, second.etag);
    let stale = server.set(v1::Budget { etag: first.etag.clone(), ..budget("a/x", requests(3, 60)) }).await;
    assert_eq!(stale.expect_err("stale").code(), Code::Aborted);
    assert_eq!(server.delete("a/x", &first.etag).await.expect_err("stale").code(), Code::Aborted);
    let state = server.state("a/x").await.expect("there");
    let shown = state.budget.expect("declared");
    assert_eq!((shown.limits[0].amount, &shown.etag), (2, &second.etag));
    assert_eq!(state.limits[0].source, "admin");

    server.delete("a/x", &second.etag).await.expect("matches");
    let status = server.state("a/x").await.expect_err("gone");
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "BUDGET_UNKNOWN".to_owned()));
    assert_eq!(server.delete("a/x", "").await.expect_err("gone").code(), Code::NotFound);
}

/// Goal: a dry run says what the real one would, and leaves no trace.
#[tokio::test]
async fn validate_only_changes_nothing() {
    let mut server = Server::start("").await;
    let dry = |budget| v1::SetBudgetRequest {
        budget: Some(budget),
        validate_only: true,
        ..v1::SetBudgetRequest::default()
    };
    let shown =
        server.admin.set_budget(dry(budget("a/x", requests(5, 60)))).await.expect("right").into_inner();
    let shown = shown.budget.expect("what would be set");
    assert_eq!((shown.limits[0].amount, shown.etag.as_str()), (5, ""));
    assert_eq!(server.state("a/x").await.expect_err("not made").code(), Code::NotFound);

    let set = server.set(budget("a/x", requests(1, 60))).await.expect("right");
    let stale = v1::Budget { etag: "x".to_owned(), ..budget("a/x", requests(5, 60)) };
    assert_eq!(server.admin.set_budget(dry(stale)).await.expect_err("stale").code(), Code::Aborted);
    let shown =
        server.admin.set_budget(dry(budget("a/x", requests(5, 60)))).await.expect("right").into_inner();
    assert_eq!(shown.budget.expect("what would be set").etag, set.etag);
    assert_eq!(server.state("a/x").await.expect("there").budget.expect("declared").limits[0].amount, 1);
    assert_eq!(server.changes("", 0, "").await.changes.len(), 1);
}

/// Goal: pages show what stays exactly once, whatever comes and goes in between.
#[tokio::test]
async fn pages_hold_while_budgets_come_and_go() {
    let mut server = Server::start("").await;
    let names: Vec<String> = (0..25).map(|at| format!("p/{at:03}")).collect();
    for name in &names {
        server.set(budget(name, requests(1, 60))).await.expect("right");
    }
    let (mut seen, token) = server.list(10, "", "p/*").await.expect("a page");
    assert_eq!(seen, names[..10]);
    server.delete("p/009", "").await.expect("the one that the token names");
    server.delete("p/002", "").await.expect("there");
    server.set(budget("p/001a", requests(1, 60))).await.expect("before the page");
    let (page, token) = server.list(10, &token, "p/*").await.expect("a page");
    seen.extend(page);
    let (page, end) = server.list(10, &token, "p/*").await.expect("a page");
    seen.extend(page);
    assert_eq!((seen, end.as_str()), (names, ""));

    for (page_size, page_token, filter, named) in
        [(10, &*token, "q/*", "page_token"), (10, "rubbish", "", "page_token"), (1_001, "", "", "page_size")]
    {
        let status = server.list(page_size, page_token, filter).await.expect_err("refused");
        assert_eq!((status.code(), &*field(&status)), (Code::InvalidArgument, named));
    }
    let status = server.list(0, "", &"x".repeat(1_000)).await.expect_err("too long");
    assert_eq!(field(&status), "filter");
}

/// Goal: filters are globs over `provider/key`, and configured budgets are listed as well.
#[tokio::test]
async fn filters_are_globs() {
    let mut server = Server::start("[budgets.\"a/one\"]\nlimits = [\"requests=1/1m\"]\n").await;
    for name in ["a/two", "ab/one", "b/one"] {
        server.set(budget(name, requests(1, 60))).await.expect("right");
    }
    for (filter, expected) in [
        ("", &["a/one", "a/two", "ab/one", "b/one"][..]),
        ("a/*", &["a/one", "a/two"]),
        ("*/one", &["a/one", "ab/one", "b/one"]),
        ("a?/*", &["ab/one"]),
        ("nothing", &[]),
    ] {
        assert_eq!(server.list(0, "", filter).await.expect("a page").0, expected, "{filter}");
    }
    assert_eq!(server.state("a/one").await.expect("there").limits[0].source, "config");
}

/// Goal: a pause refuses who can't wait, keeps who can, and ends for both.
#[tokio::test]
async fn pause_and_resume() {
    let mut server = Server::start("").await;
    server.set(budget("a/x", requests(100, 60))).await.expect("right");
    let (provider, key) = split("a/x");
    let pause = v1::PauseBudgetRequest { provider, key, reason: "rotating".to_owned() };
    server.admin.pause_budget(pause).await.expect("paused");
    assert!(server.state("a/x").await.expect("there").paused);
    let refused = match server.permits.acquire(acquire("a/x", 0)).await {
        Err(status) => status,
        Ok(answers) => answers.into_inner().message().await.expect_err("nobody gets a permit now"),
    };
    assert_eq!((refused.code(), reason(&refused)), (Code::Unavailable, "BUDGET_PAUSED".to_owned()));

    let mut waiting = server.permits.acquire(acquire("a/x", 60)).await.expect("waits").into_inner();
    let queued = timeout(PATIENCE, waiting.message()).await.expect("in time").expect("waits");
    let Some(Event::Queued(queued)) = queued.and_then(|answer| answer.event) else { panic!("not queued") };
    assert_eq!(queued.held_by, "paused");
    let (provider, key) = split("a/x");
    server.admin.resume_budget(v1::ResumeBudgetRequest { provider, key }).await.expect("resumed");
    loop {
        let answer = timeout(PATIENCE, waiting.message()).await.expect("in time").expect("granted");
        if let Some(Event::Granted(_)) = answer.expect("not the end").event {
            break;
        }
    }
    let (provider, key) = split("no/where");
    let unknown = server.admin.resume_budget(v1::ResumeBudgetRequest { provider, key }).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
}

/// Goal: a raise reaches whoever waits, at once.
#[tokio::test]
async fn a_raise_wakes_who_waits() {
    let mut server = Server::start("").await;
    server.set(budget("a/x", requests(1, 86_400))).await.expect("right");
    let first =
        server.permits.acquire(acquire("a/x", 0)).await.expect("granted").into_inner().message().await;
    assert!(first.is_ok());
    let patient = v1::AcquireRequest { max_wait: None, ..acquire("a/x", 0) };
    let mut waiting = server.permits.acquire(patient).await.expect("waits").into_inner();
    server.set(budget("a/x", requests(1_000_000, 1))).await.expect("right");
    loop {
        let answer = timeout(PATIENCE, waiting.message()).await.expect("in time").expect("granted");
        if let Some(Event::Granted(_)) = answer.expect("not the end").event {
            break;
        }
    }
}

/// Goal: the trail tells everything, newest first, page by page, and outlives the budget.
#[tokio::test]
async fn the_trail_survives_deletion() {
    let mut server = Server::start("").await;
    server.set(budget("a/x", requests(1, 60))).await.expect("right");
    server.set(budget("b/y", requests(1, 60))).await.expect("right");
    let why = v1::SetBudgetRequest {
        budget: Some(budget("a/x", requests(2, 60))),
        reason: "tier 2".to_owned(),
        ..v1::SetBudgetRequest::default()
    };
    server.admin.set_budget(why).await.expect("right");
    let (provider, key) = split("a/x");
    server
        .admin
        .pause_budget(v1::PauseBudgetRequest { provider, key, ..Default::default() })
        .await
        .expect("paused");
    let (provider, key) = split("a/x");
    server.admin.resume_budget(v1::ResumeBudgetRequest { provider, key }).await.expect("resumed");
    server.delete("a/x", "").await.expect("there");
    let failed = server.delete("a/x", "").await;
    assert_eq!(failed.expect_err("gone").code(), Code::NotFound, "what failed is no change");

    let first = server.changes("a", 3, "").await;
    let rest = server.changes("a", 3, &first.next_page_token).await;
    assert_eq!(rest.next_page_token, "");
    let changes: Vec<v1::Change> = first.changes.into_iter().chain(rest.changes).collect();
    let what: Vec<&str> = changes.iter().map(|change| change.what.as_str()).collect();
    assert_eq!(what, ["delete", "resume", "pause", "set", "set"]);
    assert!(changes.iter().all(|change| change.who == "loopback" && change.at.is_some()));
    let amount = |budget: &Option<v1::Budget>| budget.as_ref().map(|budget| budget.limits[0].amount);
    assert_eq!((amount(&changes[0].before), amount(&changes[0].after)), (Some(2), None));
    assert_eq!((amount(&changes[3].before), amount(&changes[3].after)), (Some(1), Some(2)));
    assert_eq!(changes[3].reason, "tier 2");
    assert_eq!(amount(&changes[4].before), None);
    assert_eq!(server.changes("", 0, "").await.changes.len(), 6);
}

/// Goal: a watch tells all there is, then only what changed, what is gone included, and ends when the server drains.
#[tokio::test]
async fn watches_tell_what_changed() {
    let mut server = Server::start("").await;
    let mut nothing = server.watch("nothing/*").await.expect("watches");
    assert_eq!(next_names(&mut nothing).await, Vec::<String>::new(), "so that one knows it is there");
    for name in ["a/x", "a/y", "b/z"] {
        server.set(budget(name, requests(1, 86_400))).await.expect("right");
    }
    let mut watch = server.watch("a/*").await.expect("watches");
    assert_eq!(next_names(&mut watch).await, ["a/x", "a/y"]);
    let permit =
        server.permits.acquire(acquire("a/y", 0)).await.expect("granted").into_inner().message().await;
    assert!(permit.is_ok());
    assert_eq!(next_names(&mut watch).await, ["a/y"]);
    server.delete("a/x", "").await.expect("there");
    let mut told = BTreeSet::new();
    let gone = loop {
        let message = timeout(PATIENCE, watch.message()).await.expect("in time").expect("no failure");
        let states = message.expect("not the end").states;
        told.extend(states.iter().map(name_of));
        if let Some(gone) = states.into_iter().find(|state| name_of(state) == "a/x") {
            break gone;
        }
    };
    assert_eq!(gone.budget.expect("its name").etag, "", "no living budget lacks one");
    assert!(!told.contains("b/z"));

    drop(server.stop.take());
    let ended = loop {
        match timeout(PATIENCE, watch.message()).await.expect("in time") {
            Ok(message) => assert!(message.is_some(), "a drain is told"),
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), reason(&ended)), (Code::Unavailable, "DRAINING".to_owned()));
    timeout(PATIENCE, server.running).await.expect("in time").expect("no panic").expect("ends well");
}

/// Goal: a quota that is used up can be seen, until when if that is known, and no longer once the budget is resumed.
#[tokio::test]
async fn shows_an_exhausted_quota() {
    let mut server = Server::start("").await;
    server.set(budget("a/x", requests(10, 86_400))).await.expect("right");
    for reset in [None, Some(prost_types::Duration { seconds: 3_600, nanos: 0 })] {
        let state = server.state("a/x").await.expect("there");
        assert_eq!((state.exhausted, state.exhausted_until), (false, None));
        let mut answers = server.permits.acquire(acquire("a/x", 0)).await.expect("granted").into_inner();
        let answer = answers.message().await.expect("no failure").expect("an answer");
        let Some(Event::Granted(permit)) = answer.event else { panic!("granted at once, not {answer:?}") };
        let report = v1::ReportRequest {
            permit_id: permit.permit_id,
            outcome: v1::Outcome::QuotaExhausted.into(),
            retry_after: reset,
            ..v1::ReportRequest::default()
        };
        assert!(server.permits.report(report).await.expect("taken").into_inner().settled);
        let state = server.state("a/x").await.expect("there");
        assert_eq!((state.exhausted, state.exhausted_until.is_some()), (true, reset.is_some()));
        let resume = v1::ResumeBudgetRequest { provider: "a".to_owned(), key: "x".to_owned() };
        server.admin.resume_budget(resume).await.expect("there");
    }
    assert!(!server.state("a/x").await.expect("there").exhausted);
}

/// Goal: watches are bounded, in number and in pace, and one that ends makes room.
#[tokio::test]
async fn watches_are_bounded() {
    let mut server = Server::start("[server.bounds]\nwatches = 1\n").await;
    let first = server.watch("").await.expect("watches");
    let status = server.watch("").await.expect_err("one too many");
    assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, "TOO_MANY_WATCHES".to_owned()));
    drop(first);
    let again = async {
        while server.watch("").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("room again");
    let interval = Some(prost_types::Duration { seconds: 0, nanos: 99_999_999 });
    let request = v1::WatchBudgetsRequest { filter: String::new(), interval };
    let status = server.admin.watch_budgets(request).await.expect_err("too fast");
    assert_eq!((status.code(), field(&status)), (Code::InvalidArgument, "interval".to_owned()));
}

/// Goal: what makes no sense is refused with its field, and changes nothing.
#[tokio::test]
async fn names_the_field() {
    let mut server = Server::start("").await;
    let long = "x".repeat(257);
    let negative = v1::Limit { per: Some(prost_types::Duration { seconds: -1, nanos: 0 }), ..requests(1, 1) };
    for (wrong, named) in [
        (v1::Budget { provider: String::new(), ..budget("a/x", requests(1, 60)) }, "budget.provider"),
        (v1::Budget { key: long.clone(), ..budget("a/x", requests(1, 60)) }, "budget.key"),
        (budget("a/x", negative), "budget.limits[0].per"),
        (budget("a/x", requests(0, 60)), "budget.limits[0].amount"),
        (
            v1::Budget { limits: vec![requests(1, 60); 10_000], ..budget("a/x", requests(1, 60)) },
            "budget.limits",
        ),
    ] {
        let status = server.set(wrong).await.expect_err(named);
        assert_eq!((status.code(), &*field(&status)), (Code::InvalidArgument, named));
        assert_eq!(reason(&status), "INVALID_ARGUMENT");
    }
    let status = server.admin.set_budget(v1::SetBudgetRequest::default()).await.expect_err("no budget");
    assert_eq!(field(&status), "budget");
    let provider = long;
    let status = server.admin.get_budget(v1::GetBudgetRequest { provider, key: String::new() }).await;
    assert_eq!(field(&status.expect_err("too long")), "provider");
    let reason_too_long =
        v1::PauseBudgetRequest { reason: "x".repeat(2_000), provider: "a".into(), key: "x".into() };
    assert_eq!(field(&server.admin.pause_budget(reason_too_long).await.expect_err("too long")), "reason");
    assert_eq!(server.list(0, "", "").await.expect("a page").0, Vec::<String>::new());
}

/// Goal: the most extreme budget that makes sense is taken and shown as it was given.
#[tokio::test]
async fn takes_extremes() {
    let mut server = Server::start("").await;
    let extreme = v1::Limit { burst: u64::MAX, models: "*".repeat(256), ..requests(u64::MAX, 366 * 86_400) };
    server.set(budget("a/x", extreme.clone())).await.expect("makes sense");
    let state = server.state("a/x").await.expect("there");
    let shown = state.limits[0].configured.clone().expect("configured");
    assert_eq!((shown.amount, shown.burst, shown.per), (extreme.amount, extreme.burst, extreme.per));
    assert!(state.limits[0].level > 0);
}
