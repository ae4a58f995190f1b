//! Calls that wait inside the provider instead of being refused: nobody can use the limits better without knowing what comes
//! next, so this is what everything else is compared with. An urgent call goes first, then whoever was served least, then
//! whoever came first.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    Shared,
    world::{Admitted, Ask, Refusal},
};

/// Calls that wait.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    calls: Vec<Place>,
}

/// Where a call stands.
#[derive(Clone, Debug)]
struct Place {
    number: u64,
    client: String,
    urgent: bool,
}

impl Turns {
    /// Something ended or changed: whoever waits may look again.
    pub(crate) fn look_again(&self) {
        self.changed.notify_waiters();
    }

    fn join(&self, ask: &Ask, urgent: bool) -> u64 {
        let mut waiting = self.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.calls.push(Place { number, client: ask.client.clone(), urgent });
        number
    }

    /// Whose turn it is, by what each client was `served`.
    fn first(&self, served: impl Fn(&str) -> u64) -> Option<u64> {
        let waiting = self.waiting.lock();
        let first =
            waiting.calls.iter().min_by_key(|place| (!place.urgent, served(&place.client), place.number));
        first.map(|place| place.number)
    }

    fn leave(&self, number: u64) {
        self.waiting.lock().calls.retain(|place| place.number != number);
        self.look_again();
    }
}

/// Waits until a call fits and it is its turn, then lets it start. Refused is only what would never fit.
pub(crate) async fn admitted(shared: &Arc<Shared>, ask: &Ask, urgent: bool) -> Result<Admitted, Refusal> {
    let place = Held { turns: &shared.turns, number: shared.turns.join(ask, urgent) };
    loop {
        // Listens before it looks, so that nothing is missed in between.
        let changed = shared.turns.changed.notified();
        let wait = {
            let (mut world, now) = (shared.world.lock(), shared.now());
            if shared.turns.first(|client| world.served(client)) == Some(place.number) {
                match world.obstacle(now, ask) {
                    Some(limited) if !limited.never => limited.wait,
                    _ => return world.begin(now, ask),
                }
            } else {
                None
            }
        };
        match wait {
            Some(nanos) => tokio::select! {
                () = tokio::time::sleep(std::time::Duration::from_nanos(nanos)) => {}
                () = changed => {}
            },
            None => changed.await,
        }
    }
}

/// A place in the line, left however the call's waiting ends.
struct Held<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.turns.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::Cost;
    use super::*;

    fn ask(client: &str) -> Ask {
        Ask {
            key: "key".to_owned(),
            client: client.to_owned(),
            number: None,
            input_tokens: 1,
            output_tokens_max: 1,
            cost: Cost::default(),
        }
    }

    #[test]
    fn the_urgent_go_first_then_those_who_had_least_then_those_who_came_first() {
        let turns = Turns::default();
        let greedy = turns.join(&ask("greedy"), false);
        let modest = turns.join(&ask("modest"), false);
        let later = turns.join(&ask("modest"), false);
        let urgent = turns.join(&ask("greedy"), true);
        let served = |client: &str| if client == "greedy" { 10 } else { 1 };
        for expected in [urgent, modest, later, greedy] {
            assert_eq!(turns.first(served), Some(expected));
            turns.leave(expected);
        }
        assert_eq!(turns.first(served), None);
    }
}
