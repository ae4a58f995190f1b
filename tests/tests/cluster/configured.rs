//! What the configuration declares, in a cluster.

use permitd_tests::{Etcd, Permitd, ask, budget, rate, steady_port, until};

use crate::fleet::config;

/// Goal: a budget that a configuration declared follows the configuration of whoever has it next; one that an administrator changed stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_owner_has_its_own_configuration() {
    let etcd = Etcd::start(1).await;
    let declares = |amount| {
        let one = |key| format!("[budgets.\"p/{key}\"]\nlimits = [\"requests={amount}/1d\"]\n");
        format!("{}{}{}", one("followed"), one("changed"), config(&etcd.url()))
    };
    let start = async |amount| {
        let server = Permitd::start_at(steady_port(), &declares(amount)).await;
        for key in ["followed", "changed"] {
            until("the budget", async || server.try_state(key).await.is_ok()).await;
        }
        server
    };
    let before = start(10).await;
    before.granted(ask("followed")).await;
    before
        .try_declare(budget("changed", vec![rate("requests", 5, permitd_tests::DAY)]))
        .await
        .expect("changed");
    before.stop().await;

    let after = start(20).await;
    let amount = async |key| after.state(key).await.limits[0].effective_amount;
    assert_eq!((amount("followed").await, amount("changed").await), (20, 5));
    assert!(after.level("followed", "requests").await < 20, "what was used stays used");
}
