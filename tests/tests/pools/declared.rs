//! Pools in the configuration, and beside budgets.

use permitd_proto::v1::{
    AcquireRequest, DeleteBudgetRequest, GetBudgetRequest, ListBudgetsRequest, ListPoolsRequest,
};
use permitd_server::{config::Config, store::Memory};
use permitd_tests::{Folder, Peer, Permitd, Server, ask, facts, in_flight, soon, until};
use tonic::Code;

use crate::{IN_ORDER, pool, standing, start, waiting};

/// Goal: a pool is no budget: what only a budget can do is refused with a word on what to do, and no budget can take its name.
#[tokio::test]
async fn a_pool_is_no_budget() {
    let server = start(&pool(["in_flight=1"; 3], IN_ORDER)).await;
    let get = GetBudgetRequest { provider: "p".to_owned(), key: "any".to_owned() };
    let status = soon("an answer", server.admin().await.get_budget(get)).await.expect_err("no budget");
    assert_eq!((status.code(), facts(&status).reason.as_str()), (Code::FailedPrecondition, "BUDGET_IS_POOL"));
    assert!(status.message().contains("permitd pools get p/any"), "{}", status.message());
    let set = server.try_declare(permitd_tests::budget("any", vec![in_flight(1)])).await.expect_err("taken");
    assert_eq!(facts(&set).reason, "BUDGET_IS_POOL");
    let delete = DeleteBudgetRequest { provider: "p".to_owned(), key: "any".to_owned(), etag: String::new() };
    let status = soon("an answer", server.admin().await.delete_budget(delete)).await.expect_err("no budget");
    assert_eq!(facts(&status).reason, "BUDGET_IS_POOL");
    let many = server.refused(AcquireRequest { count: 2, ..ask("any") }).await;
    assert_eq!(many.code, Code::InvalidArgument);
    assert!(many.message.starts_with("count: "), "{}", many.message);
    let listed =
        soon("pools", server.admin().await.list_pools(ListPoolsRequest::default())).await.expect("listed");
    assert_eq!(listed.into_inner().pools, [standing(&server).await]);
    server.stop().await;
}

/// Goal: a member that was deleted live is passed over, and told of.
#[tokio::test]
async fn deleted_members_are_passed_over() {
    let server = start(&pool(["in_flight=1"; 3], IN_ORDER)).await;
    let delete = DeleteBudgetRequest { provider: "p".to_owned(), key: "a".to_owned(), etag: String::new() };
    soon("an answer", server.admin().await.delete_budget(delete)).await.expect("deleted");
    assert_eq!(server.granted_now(ask("any")).await.key, "b");
    let pool = standing(&server).await;
    assert!(pool.members[0].passed_over[0].contains("nobody declared the budget p/a"), "{pool:?}");
    server.stop().await;
}

/// Goal: pools are listed page by page, in order, each once; a token of another list is none.
#[tokio::test]
async fn lists_have_pages() {
    let pools: String =
        ["c", "a", "b"].map(|key| format!("[pools.\"q/{key}\"]\nmembers = [\"p/a\"]\n")).concat();
    let server = start(&format!("{}{pools}", pool(["in_flight=1"; 3], IN_ORDER))).await;
    let mut admin = server.admin().await;
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListPoolsRequest { page_size: 3, page_token, ..ListPoolsRequest::default() };
        let page = soon("pools", admin.list_pools(request)).await.expect("listed").into_inner();
        seen.push(
            page.pools.iter().map(|pool| format!("{}/{}", pool.provider, pool.key)).collect::<Vec<_>>(),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [vec!["p/any", "q/a", "q/b"], vec!["q/c"]]);
    let budgets = ListBudgetsRequest { page_size: 1, ..ListBudgetsRequest::default() };
    let other =
        soon("budgets", admin.list_budgets(budgets)).await.expect("listed").into_inner().next_page_token;
    let request = ListPoolsRequest { page_size: 3, page_token: other, ..ListPoolsRequest::default() };
    let status = soon("an answer", admin.list_pools(request)).await.expect_err("another list's");
    assert_eq!(status.code(), Code::InvalidArgument);
    server.stop().await;
}

/// The member that has room; it has as much afterwards.
async fn chosen(server: &Peer) -> String {
    let permit = server.granted_now(ask("any")).await;
    server.settle(&permit).await;
    permit.key
}

/// Goal: pools follow the file while the server runs; a name that a live budget has is refused, and everything stays as it was.
#[tokio::test]
async fn the_file_is_followed() {
    let head = "[server]\ndata = \"none\"\n";
    let config = |members: &str| format!("{head}{}", pool(["in_flight=9"; 3], members));
    let server = Permitd::start(&config(IN_ORDER)).await;
    assert_eq!(chosen(&server).await, "a");
    server.rewrite(&config("\"p/c\""));
    until("the new members", async || chosen(&server).await == "c").await;
    server.rewrite(&config("\"p/b\", \"p/none\", \"p/any\", \"p/b\""));
    until("the log to say what is wrong", async || server.log().contains("pools.\"p/any\".members[1]")).await;
    for what in [
        "members[1]: nobody declares the budget p/none",
        "members[2]: p/any is a pool",
        "members[3]: p/b is a member already",
    ] {
        assert!(server.log().contains(what), "{what}: {}", server.log());
    }
    assert_eq!(chosen(&server).await, "c", "nothing changed");
    server.set("live", vec![in_flight(1)]).await;
    server.rewrite(&config(IN_ORDER).replace("p/any", "p/live"));
    until("the log to say so", async || server.log().contains("there is a budget p/live")).await;
    assert_eq!(chosen(&server).await, "c", "nothing changed");
    server.stop().await;
}

/// Goal: a permit of a pool outlasts the server like any other: it is reported to the next one, and settles with its member.
#[tokio::test]
async fn permits_outlast_the_server() {
    let read = Config::read(&pool(["in_flight=1"; 3], IN_ORDER), "permitd.toml", []).expect("sound");
    let store = Memory::default();
    let begin = async || {
        let origin = permitd_server::Origin {
            store: Some(Box::new(store.clone())),
            reading: permitd_server::clock::Reading::now(),
            reload: None,
        };
        let read = read.clone();
        Server::start_from(Some(origin), |config| (config.budgets, config.pools) = (read.budgets, read.pools))
            .await
    };
    let server = begin().await;
    let permit = server.granted_now(ask("any")).await;
    server.stop().await;
    let server = begin().await;
    assert_eq!(server.state("a").await.in_flight, 1);
    assert_eq!(server.granted_now(ask("any")).await.key, "b");
    server.settle(&permit).await;
    assert_eq!(server.granted_now(ask("any")).await.key, "a");
    server.stop().await;
}

/// Goal: a crash mints nothing at any member, not even while a request stands in the queues of all of them.
#[tokio::test]
async fn a_killed_server_mints_nothing() {
    let folder = Folder::new();
    let data = folder.path("data");
    let config = format!("[server]\ndata = \"{}\"\n{}", data.display(), pool(["requests=1/1d"; 3], IN_ORDER));
    let server = Permitd::start(&config).await;
    for key in ["a", "b", "c"] {
        assert_eq!(server.granted_now(ask("any")).await.key, key);
    }
    let (_waits, _) = server.waiting(ask("any")).await;
    assert_eq!(waiting(&server).await, [1; 3]);
    server.kill().await;
    let server = Permitd::start(&config).await;
    assert_eq!(waiting(&server).await, [0; 3]);
    for key in ["any", "a", "b", "c"] {
        assert_eq!(server.refused_now(ask(key)).await.reason, "NOT_IN_TIME", "{key}");
    }
    server.stop().await;
}
