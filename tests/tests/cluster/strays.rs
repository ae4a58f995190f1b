//! Claims and releases of which a server never hears what became: nobody else can have such a budget while the server's lease lasts, so the
//! server itself has to see to it.

use permitd_proto::v1::MoveBudgetRequest;
use permitd_tests::{Etcd, Permitd, Proxy, Way, budget, in_flight, soon, steady_port, until};

/// A lease that outlasts what is done here.
fn config(etcd: &str) -> String {
    format!("[cluster]\netcd = \"etcd://{etcd}\"\nlease = \"30s\"\n")
}

async fn says(server: &Permitd, what: &str) {
    until(what, async || server.log().contains(what)).await;
}

/// Goal: a claim that etcd made, and whose answer was lost, is no budget without an owner for as long as the server lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_was_not_heard_of_is_taken_back() {
    let etcd = Etcd::start(1).await;
    let way = Proxy::start(etcd.addresses()[0]).await;
    let server = Permitd::start_at(steady_port(), &config(&way.address.to_string())).await;
    server.set("before", vec![in_flight(1)]).await;

    way.stall_one(Way::Back);
    let heard_again = async {
        says(&server, "could not be claimed yet").await;
        way.cut();
        way.flow();
    };
    let declared = until("a declared budget", async || {
        server.try_declare(budget("k", vec![in_flight(1)])).await.is_ok()
    });
    tokio::join!(heard_again, declared);
    server.stop().await;
}

/// Goal: a budget that was given up, and whose claim could not be ended, gets to the server that it was moved to all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_was_not_heard_is_made_again() {
    let etcd = Etcd::start(1).await;
    let member = etcd.addresses()[0];
    let way = Proxy::start(member).await;
    let gives = Permitd::start_at(steady_port(), &config(&way.address.to_string())).await;
    gives.set("k", vec![in_flight(1)]).await;
    let moved = async |to: &Permitd| {
        let (provider, key, server) = ("p".to_owned(), "k".to_owned(), to.address.to_string());
        let asked = MoveBudgetRequest { provider, key, server };
        soon("a moved budget", to.cluster().await.move_budget(asked)).await
    };
    moved(&gives).await.expect("it is there");
    let takes = Permitd::start_at(steady_port(), &config(&member.to_string())).await;
    until("the budget known", async || takes.try_state("k").await.is_ok()).await;

    // It hears of the move, and what it says about it does not come to etcd.
    way.stall_one(Way::There);
    let heard_again = async {
        says(&gives, "can't be handed over").await;
        way.cut();
        way.flow();
    };
    let (_, ()) = tokio::join!(moved(&takes), heard_again);
    let name = takes.address.to_string();
    until("the budget where it was moved to", async || {
        takes.try_state("k").await.is_ok_and(|state| state.owner == name)
    })
    .await;
    gives.stop().await;
    takes.stop().await;
}
