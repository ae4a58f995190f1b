//! What is acknowledged is not lost with the budgets that a server gives up.

use std::{sync::Arc, time::Duration};

use permitd_proto::v1::{DeleteBudgetRequest, DrainServerRequest};
use permitd_tests::{Etcd, Permitd, budget, in_flight, soon, steady_port, until};
use tokio::task::JoinSet;
use tonic::Code;

use crate::fleet::{Fleet, config};

const BUDGETS: usize = 40;
/// How often budgets are deleted while they are handed over.
const ROUNDS: usize = 5;
/// Longer than a lease and its renewal.
const PAST_LEASE: Duration = Duration::from_secs(4);

/// Goal (invariant 9): a server that learns that its lease has ended has nothing left to write of its budgets. A change that was made just
/// before that and is not written down is not acknowledged then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_given_up_is_not_acknowledged() {
    let etcd = Etcd::start(1).await;
    let server = Arc::new(Permitd::start_at(steady_port(), &config(&etcd.url())).await);
    let keys: Vec<String> = (0..BUDGETS).map(|number| format!("k{number}")).collect();
    for key in &keys {
        server.set(key, vec![in_flight(1)]).await;
    }
    server.freeze();
    tokio::time::sleep(PAST_LEASE).await;
    let mut changes = JoinSet::new();
    for key in keys {
        let server = Arc::clone(&server);
        changes.spawn(async move {
            let changed = server.try_declare(budget(&key, vec![in_flight(2)])).await;
            (key, changed.is_ok())
        });
    }
    server.thaw();
    for (key, is_acknowledged) in changes.join_all().await {
        until("an answer about a budget", async || server.try_state(&key).await.is_ok()).await;
        let stands = server.try_state(&key).await.expect("just there").limits[0].effective_amount;
        assert!(stands == 2 || !is_acknowledged, "{key} was acknowledged, and {stands} stands");
    }
}

/// Goal (invariant 9): a budget that is deleted while its owner gives everything up does not come back with the next owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_while_it_is_handed_over_stays_deleted() {
    let fleet = Fleet::start(2, 1).await;
    let (drains, stays) = (fleet.server(0), fleet.server(1));
    let drained = async |undo| {
        let request = DrainServerRequest { server: drains.address.to_string(), undo };
        soon("a drained server", stays.cluster().await.drain_server(request)).await.expect("drained");
    };
    for round in 0..ROUNDS {
        let keys: Vec<String> = (0..BUDGETS).map(|number| format!("r{round}-{number}")).collect();
        for key in &keys {
            drains.set(key, vec![in_flight(1)]).await;
        }
        let mut deletions = JoinSet::new();
        for key in keys {
            let server = fleet.server(0);
            deletions.spawn(async move {
                let request =
                    DeleteBudgetRequest { provider: "p".to_owned(), key: key.clone(), etag: String::new() };
                let deleted = soon("a deletion", server.admin().await.delete_budget(request)).await;
                (key, deleted.is_ok())
            });
        }
        drained(false).await;
        for (key, is_acknowledged) in deletions.join_all().await {
            if is_acknowledged {
                let found = stays.try_state(&key).await.map(|state| state.owner);
                assert_eq!(found.map_err(|status| status.code()), Err(Code::NotFound), "{key}");
            }
        }
        drained(true).await;
    }
}
