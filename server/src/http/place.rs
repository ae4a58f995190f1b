//! Places for connections. There are so many, and whoever comes gets one: where all are taken, the connection ends whose latest request, or
//! beginning, is longest ago. So nobody keeps others out by holding places, whether by silence, by bytes that trickle or by asking all the time.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Counts connections and requests.
    turns: u64,
    /// By the turn of the latest request, or of the connection itself.
    by_turn: BTreeMap<u64, Tie>,
}

/// Ends the connection when it is dropped.
type Tie = oneshot::Sender<Infallible>;

/// Resolves once the place is another's.
pub(super) type Lost = oneshot::Receiver<Infallible>;

/// One connection's place, and how far its requests have come. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    now: Arc<Mutex<Now>>,
}

#[derive(Debug)]
struct Now {
    turn: u64,
    /// Since when a request's head is on its way.
    head_since: Option<Instant>,
    /// Requests that are not answered yet.
    under_way: usize,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct UnderWay(Place);

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for a connection that has just come: the first thing that it says is a head.
    pub(super) fn take(self: &Arc<Self>) -> (Place, Lost) {
        let (tie, lost) = oneshot::channel();
        let mut taken = self.taken.lock();
        while taken.by_turn.len() >= self.most {
            taken.by_turn.pop_first();
        }
        let turn = taken.enter(tie);
        let now = Now { turn, head_since: Some(Instant::now()), under_way: 0 };
        (Place { places: Arc::clone(self), now: Arc::new(Mutex::new(now)) }, lost)
    }
}

impl Taken {
    /// Behind all others.
    fn enter(&mut self, tie: Tie) -> u64 {
        self.turns += 1;
        self.by_turn.insert(self.turns, tie);
        self.turns
    }
}

impl Place {
    /// Bytes came: those of the next head, unless a request is under way.
    pub(super) fn heard(&self) {
        let mut now = self.now.lock();
        if now.under_way == 0 {
            now.head_since.get_or_insert_with(Instant::now);
        }
    }

    /// Since when a head is on its way.
    pub(super) fn head_since(&self) -> Option<Instant> {
        self.now.lock().head_since
    }

    /// A head is there.
    pub(super) fn begin(&self) -> UnderWay {
        let mut now = self.now.lock();
        now.head_since = None;
        now.under_way += 1;
        let mut taken = self.places.taken.lock();
        if let Some(tie) = taken.by_turn.remove(&now.turn) {
            now.turn = taken.enter(tie);
        }
        UnderWay(self.clone())
    }

    /// The connection is gone.
    pub(super) fn leave(&self) {
        let now = self.now.lock();
        self.places.taken.lock().by_turn.remove(&now.turn);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.now.lock().under_way -= 1;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    /// Goal: where all places are taken, whoever comes gets the place of the one that has begun no request for longest; none is lost by it
    /// while there are others.
    #[tokio::test]
    async fn the_longest_without_a_request_goes() {
        let places = Places::new(2);
        let (first, mut first_lost) = places.take();
        let (_second, mut second_lost) = places.take();
        drop(first.begin());
        let (third, mut third_lost) = places.take();
        assert_eq!(second_lost.try_recv(), Err(TryRecvError::Closed), "it had asked for nothing");
        for lost in [&mut first_lost, &mut third_lost] {
            assert_eq!(lost.try_recv(), Err(TryRecvError::Empty));
        }
        third.leave();
        let (_fourth, _fourth_lost) = places.take();
        assert_eq!(first_lost.try_recv(), Err(TryRecvError::Empty), "there was room");
    }

    /// Goal: a head is on its way from the first byte of it until it is there, and nothing that comes during a request is one.
    #[tokio::test]
    async fn heads_begin_and_end() {
        let (place, _lost) = Places::new(1).take();
        assert!(place.head_since().is_some(), "of the first one, from the beginning");
        let under_way = place.begin();
        place.heard();
        assert_eq!(place.head_since(), None, "a body");
        drop(under_way);
        assert_eq!(place.head_since(), None, "nothing came yet");
        place.heard();
        assert!(place.head_since().is_some());
    }
}
