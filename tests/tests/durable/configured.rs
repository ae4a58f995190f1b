//! The configuration and changes made live, together: the file declares, what was done live stays in force, and can be seen and
//! taken back.

use std::time::Duration;

use permitd_proto::v1::{
    BudgetDifference, DeleteBudgetRequest, DiffBudgetsRequest, ListChangesRequest, ResetBudgetRequest,
};
use permitd_tests::{Folder, Permitd, ask, in_flight, rate, soon, until};
use tonic::{Code, Status};

const MINUTE: Duration = Duration::from_secs(60);

/// The configuration of a server that keeps its state in the folder, with these limits by key.
fn config(folder: &Folder, budgets: &[(&str, &str)]) -> String {
    let head = format!("[server]\ndata = \"{}\"\ndrain = \"0s\"\n", folder.path("data").display());
    let budget = |(key, limit): &(&str, &str)| format!("[budgets.\"p/{key}\"]\nlimits = [\"{limit}\"]\n");
    budgets.iter().map(budget).fold(head, |config, budget| config + &budget)
}

async fn amount(server: &Permitd, key: &str) -> Option<u64> {
    let state = server.try_state(key).await.ok()?;
    Some(state.limits.first()?.effective_amount)
}

async fn differences(server: &Permitd) -> Vec<BudgetDifference> {
    let answer = soon("differences", server.admin().await.diff_budgets(DiffBudgetsRequest::default())).await;
    answer.expect("told").into_inner().differences
}

async fn reset(server: &Permitd, key: &str) -> Result<(), Status> {
    let request =
        ResetBudgetRequest { provider: "p".to_owned(), key: key.to_owned(), ..ResetBudgetRequest::default() };
    soon("a reset", server.admin().await.reset_budget(request)).await.map(drop)
}

async fn delete(server: &Permitd, key: &str) {
    let request = DeleteBudgetRequest {
        provider: "p".to_owned(),
        key: key.to_owned(),
        ..DeleteBudgetRequest::default()
    };
    soon("a deletion", server.admin().await.delete_budget(request)).await.expect("deleted");
}

/// Goal: a restart takes the file's budgets as they are there now, and leaves alone what was set or deleted live; diff tells the two
/// apart, and reset goes back.
#[tokio::test]
async fn live_changes_stay_until_they_are_taken_back() {
    let folder = Folder::new();
    let before = [("steady", "requests=50/1d"), ("changed", "requests=50/1d"), ("deleted", "requests=50/1d")];
    let server = Permitd::start(&config(&folder, &before)).await;
    for _ in 0..3 {
        server.granted(ask("steady")).await;
    }
    server.set("changed", vec![rate("requests", 70, MINUTE)]).await;
    server.set("added", vec![in_flight(3)]).await;
    delete(&server, "deleted").await;
    server.stop().await;

    let after = [("steady", "requests=100/1d"), ("changed", "requests=99/1d"), ("deleted", "requests=99/1d")];
    let server = Permitd::start(&config(&folder, &after)).await;
    assert_eq!(server.level("steady", "requests").await, 94, "3 of 50 are 6 of 100");
    assert_eq!((amount(&server, "changed").await, amount(&server, "added").await), (Some(70), Some(3)));
    assert_eq!(amount(&server, "deleted").await, None);
    let found: Vec<_> = differences(&server).await;
    let told: Vec<_> = found
        .iter()
        .map(|found| (found.key.as_str(), found.configured.is_some(), found.in_force.is_some()))
        .collect();
    assert_eq!(told, [("added", false, true), ("changed", true, true), ("deleted", true, false)]);
    reset(&server, "changed").await.expect("declared");
    reset(&server, "deleted").await.expect("declared");
    assert_eq!(reset(&server, "added").await.expect_err("not declared").code(), Code::NotFound);
    assert_eq!((amount(&server, "changed").await, amount(&server, "deleted").await), (Some(99), Some(99)));
    assert_eq!(differences(&server).await.len(), 1);
    let changes = soon("the trail", server.admin().await.list_changes(ListChangesRequest::default())).await;
    assert_eq!(changes.expect("a trail").into_inner().changes[0].what, "reset");
    server.kill().await;

    let server = Permitd::start(&config(&folder, &after[..1])).await;
    assert_eq!(amount(&server, "changed").await, None, "it followed the file again, which has it no more");
    assert_eq!(amount(&server, "added").await, Some(3));
    server.stop().await;
}

/// Goal: a file that changes is put in force, all of it or nothing; SIGHUP asks for it; and what is wrong is told in the log.
#[tokio::test]
async fn the_file_is_read_again() {
    let folder = Folder::new();
    let server = Permitd::start(&config(&folder, &[("k", "requests=50/1d"), ("gone", "in_flight=1")])).await;
    for _ in 0..3 {
        server.granted(ask("k")).await;
    }
    server.rewrite(&config(&folder, &[("k", "requests=100/1d"), ("new", "in_flight=7")]));
    until("the new file in force", async || amount(&server, "new").await == Some(7)).await;
    assert_eq!(server.level("k", "requests").await, 94);
    assert_eq!(amount(&server, "gone").await, None);
    server.rewrite(&config(&folder, &[("k", "requests=200/1d"), ("wrong", "requests=1")]));
    until("the log to say what is wrong", async || server.log().contains("budgets.\"p/wrong\"")).await;
    assert_eq!(
        (amount(&server, "k").await, amount(&server, "new").await),
        (Some(100), Some(7)),
        "nothing changed"
    );
    server.rewrite(&config(&folder, &[("k", "requests=300/1d")]));
    until("the mended file in force", async || amount(&server, "k").await == Some(300)).await;
    let told = server.log().matches("is in force").count();
    server.hang_up();
    until("SIGHUP to be followed", async || server.log().matches("is in force").count() > told).await;
    server.stop().await;
}

/// Goal: the first call of a budget that is made for it gets its permit, however slow the limit: what it needs is set aside by the write
/// after the one that makes the budget.
#[tokio::test]
async fn the_first_call_makes_the_budget() {
    let folder = Folder::new();
    let providers = "[providers.p]\nlimits = [\"requests=5/1d\"]\n";
    let server = Permitd::start(&format!("{}{providers}", config(&folder, &[]))).await;
    server.granted(ask("new")).await;
    server.stop().await;
}
