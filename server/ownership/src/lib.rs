//! Ownership and what owners set aside, as a model whose every state is looked at: nobody is granted too much and one owner grants at a
//! time, whatever is lost, late or dead, and however clocks run; and each guard that keeps it so is needed.
//!
//! `PERMITD_MODEL_REVISIONS=4` looks further, as `make soak` does. A crate of its own, since it is optimised also where nothing else is.

#![cfg(test)]

mod etcd;
mod model;
mod server;

use std::{env, num::NonZeroUsize, thread};

use stateright::{Checker as _, HasDiscoveries, Model as _};

use crate::model::{Cluster, Guard, NEVER_OVER, ONE_OWNER};

/// Claims that are made or written anew, of which no order is left unlooked at: enough for one owner after another.
const REVISIONS: u8 = 2;
/// As many as it takes for every guard to be missed, where time stands still.
const REVISIONS_WITHOUT_TIME: u8 = 3;

fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Goal (invariants 1, 9): however servers, etcd and what they say to each other fail, nothing is granted that is not there, and never by
/// two.
#[test]
fn holds_in_every_state() {
    let revisions = env::var("PERMITD_MODEL_REVISIONS");
    let revisions = revisions
        .map_or(REVISIONS, |text| text.parse().expect("PERMITD_MODEL_REVISIONS is a number below 256"));
    let checker =
        Cluster { revisions, without: None, has_time: true }.checker().threads(threads()).spawn_bfs().join();
    println!("{} states, {} of them different", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.is_done() && checker.unique_state_count() > 100_000, "there was much to look at");
}

/// Goal: without any one of the guards something is granted twice, so the model would see it, and none of them is there in vain.
#[test]
fn every_guard_is_needed() {
    let of_time = Guard::OF_TIME.map(|guard| (guard, true, REVISIONS));
    let of_order = Guard::OF_ORDER.map(|guard| (guard, false, REVISIONS_WITHOUT_TIME));
    for (guard, has_time, revisions) in of_time.into_iter().chain(of_order) {
        let model = Cluster { revisions, without: Some(guard), has_time };
        let broken = HasDiscoveries::AnyOf([NEVER_OVER, ONE_OWNER].into_iter().collect());
        let checker = model.checker().threads(threads()).finish_when(broken).spawn_bfs().join();
        let found = [NEVER_OVER, ONE_OWNER].into_iter().find_map(|name| checker.discovery(name));
        let path = found.unwrap_or_else(|| panic!("nothing goes wrong without {guard:?}"));
        println!("without {guard:?}: {:?}", path.into_actions());
    }
}
