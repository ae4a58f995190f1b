//! What servers get done, and what they write while they do: sessions that keep their windows full, or one client at a steady pace.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Cluster, etcd::Written, field::Field};
use crate::bench::{self, Error, Place, Plan, median};

/// Acquires and reports a second of the steady client.
const STEADY_ITEMS: f64 = 4_000.0;

/// Who is asked for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// One server, which owns everything.
    One,
    /// Several, each for the budgets that it owns.
    Owners,
    /// The same, by clients that know only what servers tell them of owners.
    Followed,
    /// Several, each for all budgets: most requests take a hop.
    Any,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::One, Self::Owners, Self::Followed, Self::Any];

    /// How it is called in a table.
    pub(super) fn name(self, servers: usize) -> String {
        match self {
            Self::One => "one server".to_owned(),
            Self::Owners => format!("{servers} servers, asked at owners"),
            Self::Followed => format!("{servers} servers, owners followed"),
            Self::Any => format!("{servers} servers, asked anywhere"),
        }
    }
}

/// What went through in one turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Items (acquires and reports) a second.
    rate: f64,
    /// CPU seconds of the servers, and of etcd, for an item.
    servers: f64,
    etcd: f64,
}

/// What goes through one way; medians of the turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Through {
    pub(super) way: Way,
    /// Items (acquires and reports) a second.
    pub(super) rate: f64,
    /// CPU microseconds of the servers, and of etcd, for an item.
    pub(super) servers_us: f64,
    pub(super) etcd_us: f64,
}

/// What is written at some load.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) name: &'static str,
    /// Items (acquires and reports) a second.
    pub(super) rate: f64,
    pub(super) taken: Duration,
    pub(super) written: Written,
}

/// The budgets that each server owns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owned<'a> {
    /// As an administrator is told.
    pub(super) known: &'a [Vec<usize>],
    /// As a client is told.
    pub(super) learned: &'a [Vec<usize>],
}

/// Lets one server, and several on the same cores, do as much as they can, in turn.
pub(super) fn throughput(
    cluster: &Cluster,
    alone: &Field,
    several: &Field,
    owned: Owned<'_>,
    mut progress: impl FnMut(&str),
) -> Result<Vec<Through>, Error> {
    let mut turns: [Vec<Turn>; 4] = Default::default();
    for round in 0..=cluster.rounds {
        progress(&format!("throughput, round {round} of {}", cluster.rounds));
        for (way, turns) in Way::ALL.into_iter().zip(&mut turns) {
            let field = if way == Way::One { alone } else { several };
            let turn = work(cluster, field, &places(way, field, owned))?;
            // The first is a warm-up.
            if round > 0 {
                turns.push(turn);
            }
        }
    }
    let through = |(way, turns): (Way, &Vec<Turn>)| {
        let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure));
        let [servers_us, etcd_us] = [of(|turn| turn.servers), of(|turn| turn.etcd)].map(|cost| cost * 1e6);
        Through { way, rate: of(|turn| turn.rate), servers_us, etcd_us }
    };
    Ok(Way::ALL.into_iter().zip(&turns).map(through).collect())
}

/// Counts what is written while nobody asks, at a steady pace, and with as many grants as there can be.
pub(super) fn writes(cluster: &Cluster, field: &Field, owned: Owned<'_>) -> Result<Vec<Load>, Error> {
    let nothing = counted(field, "nobody asks", || {
        thread::sleep(cluster.turn);
        Ok(0.0)
    });
    let steady = counted(field, "a steady client", || {
        let plan = Plan { turn: cluster.turn, connections: 1, budgets: field.budgets, ..Plan::default() };
        bench::paced_by(&plan, field.servers[0].address, STEADY_ITEMS)?;
        Ok(STEADY_ITEMS)
    });
    let places = places(Way::Any, field, owned);
    let full = counted(field, "all that goes through", || Ok(work(cluster, field, &places)?.rate));
    [nothing, steady, full].into_iter().collect()
}

fn counted(
    field: &Field,
    name: &'static str,
    run: impl FnOnce() -> Result<f64, Error>,
) -> Result<Load, Error> {
    let (begin, before) = (Instant::now(), field.etcd.written()?);
    let rate = run()?;
    Ok(Load { name, rate, taken: begin.elapsed(), written: field.etcd.written()?.since(before) })
}

fn work(cluster: &Cluster, field: &Field, places: &[Place]) -> Result<Turn, Error> {
    let plan = Plan {
        turn: cluster.turn,
        connections: cluster.connections,
        budgets: field.budgets,
        ..Plan::default()
    };
    let spent = || -> Result<(Duration, Duration), Error> {
        let servers = field.servers.iter().map(|server| server.cpu()).sum::<Result<Duration, Error>>()?;
        Ok((servers, field.etcd.cpu()?))
    };
    let before = spent()?;
    let rate = bench::sessions(places, &plan)?;
    let after = spent()?;
    // The load also runs for a fifth of a turn before it is counted.
    let items = rate * cluster.turn.as_secs_f64() * 1.2;
    let cost = |after: Duration, before| after.saturating_sub(before).as_secs_f64() / items;
    Ok(Turn { rate, servers: cost(after.0, before.0), etcd: cost(after.1, before.1) })
}

fn places(way: Way, field: &Field, owned: Owned<'_>) -> Vec<Place> {
    let servers = field.servers.iter().map(|server| server.address);
    match way {
        Way::Owners | Way::Followed => {
            let owned = if way == Way::Owners { owned.known } else { owned.learned };
            let owners = servers.zip(owned).filter(|(_, keys)| !keys.is_empty());
            owners.map(|(server, keys)| Place { server, keys: keys.as_slice().into() }).collect()
        }
        Way::One | Way::Any => servers.map(|server| Place::of_all(server, field.budgets)).collect(),
    }
}
