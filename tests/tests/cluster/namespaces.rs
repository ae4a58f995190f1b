//! Partitions by the kernel, under load, judged as [`faults`](crate::faults) are: each server has a host of its own, with a member of
//! etcd, in a network namespace, and packets between hosts are lost.

use std::sync::Arc;

use permitd_tests::{Draws, Etcd, Network, steady_port};
use tokio::time::sleep;

use crate::{
    crowd::Crowd,
    faults::{PAST_LEASE, seed, suffer_under_load},
    fleet::{Fleet, config},
};

const HOSTS: usize = 3;

/// Whose host it is that suffers.
#[derive(Clone, Copy, Debug)]
enum Who {
    /// The server that owns the budget.
    Owner,
    /// The member that leads etcd.
    Leader,
}

/// What is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Nobody reaches the host, callers included, and it reaches nobody.
    Unplugged,
    /// The host and the others can't reach each other; callers reach all of them.
    Alone,
    /// What the host sends to the others is lost, and it hears them.
    Mute,
    /// What the others send to the host is lost, and they hear it.
    Deaf,
    /// The host and one other can't reach each other.
    Pair,
    /// What the host sends to one other is lost.
    MuteToOne,
    /// What one other sends to the host is lost.
    DeafToOne,
    /// No host reaches another.
    Everybody,
}

const CUTS: [(Cut, Who); 14] = [
    (Cut::Unplugged, Who::Owner),
    (Cut::Unplugged, Who::Leader),
    (Cut::Alone, Who::Owner),
    (Cut::Alone, Who::Leader),
    (Cut::Mute, Who::Owner),
    (Cut::Mute, Who::Leader),
    (Cut::Deaf, Who::Owner),
    (Cut::Deaf, Who::Leader),
    (Cut::Pair, Who::Owner),
    (Cut::Pair, Who::Leader),
    (Cut::MuteToOne, Who::Owner),
    (Cut::MuteToOne, Who::Leader),
    (Cut::DeafToOne, Who::Owner),
    (Cut::Everybody, Who::Owner),
];

/// Hosts with a server and a member of etcd each.
struct Field {
    fleet: Arc<Fleet>,
    network: Network,
}

impl Field {
    async fn new() -> Self {
        let network = Network::start(HOSTS);
        let etcd = Etcd::start_on(network.hosts()).await;
        let (mut configs, mut places) = (Vec::new(), Vec::new());
        for (number, host) in network.hosts().iter().enumerate() {
            let told = config(&etcd.url());
            configs.push(format!("[server]\ninsecure = true\n{told}name = \"s{number}\"\n"));
            places.push((host.clone(), steady_port()));
        }
        let fleet = Arc::new(Fleet::start_across(etcd, configs, places).await);
        Self { fleet, network }
    }

    /// Cuts for longer than a lease, and until callers are served if anybody can serve them, and mends.
    async fn suffer(&self, cut: Cut, who: Who, draw: &mut Draws, crowd: &Crowd) {
        let host = match who {
            Who::Owner => self.fleet.owned("k").await,
            Who::Leader => self.fleet.etcd.leader().await.unwrap_or(0),
        };
        let one = (host + 1 + draw.below(HOSTS as u64 - 1) as usize) % HOSTS;
        let network = &self.network;
        let others = (0..HOSTS).filter(|other| *other != host);
        match cut {
            Cut::Unplugged => network.unplug(host),
            Cut::Alone => others.for_each(|other| {
                network.cut(host, other);
                network.cut(other, host);
            }),
            Cut::Mute => others.for_each(|other| network.cut(host, other)),
            Cut::Deaf => others.for_each(|other| network.cut(other, host)),
            Cut::Pair => {
                network.cut(host, one);
                network.cut(one, host);
            }
            Cut::MuteToOne => network.cut(host, one),
            Cut::DeafToOne => network.cut(one, host),
            Cut::Everybody => {
                for from in 0..HOSTS {
                    (0..HOSTS).filter(|to| *to != from).for_each(|to| network.cut(from, to));
                }
            }
        }
        sleep(PAST_LEASE).await;
        if !matches!(cut, Cut::Everybody) {
            crowd.goes_on(&format!("{cut:?} of host {host}, before it was mended")).await;
        }
        network.mend();
    }
}

/// Goal (invariants 1, 6, 9): hosts are cut off from each other by the kernel, all or in pairs, in both directions or one.
#[ignore = "needs root, and takes minutes: make soak runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_by_the_kernel() {
    let field = Field::new().await;
    suffer_under_load(&field.fleet, CUTS, seed(), async |(cut, who), draw, crowd| {
        field.suffer(cut, who, draw, crowd).await;
    })
    .await;
}
