//! The response side of a session's stream, which is also its task: each poll reads what the client sent, does it, takes in what
//! the budgets answered, and yields all of it as one message. A client that does not read is not read from.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::{
    codec::Written,
    core::Core,
    greeting::{Greeted, greet, hello_missing, second_hello},
    inbound::Inbound,
    table::{Session, taken_over},
};
use crate::{auth::Caller, inbox::Delivery, metrics::Stopwatch, shared::Shared, status::Fault, turns};

/// Messages that one turn reads, and items after which it reads no further one, so that no client can keep a thread. A message with
/// more items than [`super::parts::ITEMS_MAX`] comes in parts, each of which is a turn.
const MESSAGES_PER_TURN: usize = 32;
const ITEMS_PER_TURN: usize = 64;

/// How long a stream may stay without a Hello.
const HELLO_WAIT: Duration = Duration::from_secs(10);

/// The responses of one stream.
pub(crate) struct SessionStream {
    shared: Arc<Shared>,
    caller: Caller,
    inbound: Inbound,
    phase: Phase,
    /// Empty between turns; keeps its room.
    deliveries: Vec<Delivery>,
    stopwatch: Stopwatch,
}

enum Phase {
    /// No Hello yet, and until when one may come.
    New(Pin<Box<Sleep>>),
    Open {
        session: Arc<Session>,
        stream: u64,
        half_closed: bool,
    },
    Ended,
}

/// What a turn reads with.
struct Reading<'a> {
    shared: &'a Shared,
    inbound: &'a mut Inbound,
    stopwatch: &'a mut Stopwatch,
}

/// What a turn came to.
enum Turn {
    Say(Written),
    /// There is more to read, but others may come first.
    Yield,
    Wait,
    /// The client is done and everything is answered.
    Done,
    Fail(Status),
}

impl SessionStream {
    pub(crate) fn new(shared: Arc<Shared>, caller: Caller, inbound: Inbound) -> Self {
        let phase = Phase::New(Box::pin(sleep(HELLO_WAIT)));
        let (deliveries, stopwatch) = (Vec::new(), Stopwatch::default());
        Self { shared, caller, inbound, phase, deliveries, stopwatch }
    }

    /// Waits for the Hello.
    fn begin(&mut self, context: &mut Context<'_>) -> Poll<Turn> {
        if self.shared.is_draining() {
            return Poll::Ready(Turn::Fail(Fault::draining().into_status()));
        }
        let message = match self.inbound.poll_first(context) {
            Poll::Ready(Some(Ok(message))) => message,
            Poll::Ready(Some(Err(status))) => return Poll::Ready(Turn::Fail(status)),
            Poll::Ready(None) => return Poll::Ready(Turn::Done),
            // The Hello may be there already.
            Poll::Pending if self.inbound.is_paused() => return Poll::Pending,
            Poll::Pending => {
                let Phase::New(late) = &mut self.phase else { return Poll::Pending };
                std::task::ready!(late.as_mut().poll(context));
                return Poll::Ready(Turn::Fail(hello_missing().into_status()));
            }
        };
        let mut rewritten = Vec::new();
        let message = message.read(&mut rewritten);
        let greet = |message| greet(&self.shared, &self.caller, message).map_err(Fault::into_status);
        let greeted = message.and_then(greet);
        Poll::Ready(match greeted {
            Ok(Greeted { session, stream, items, forged }) => {
                self.inbound.had(items, forged);
                self.phase = Phase::Open { session, stream, half_closed: false };
                self.turn(context)
            }
            Err(status) => Turn::Fail(status),
        })
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Turn {
        let Phase::Open { session, stream, half_closed } = &mut self.phase else { return Turn::Done };
        let shared = &*self.shared;
        // Then nothing more is begun here, or a client that asks on and on would stay.
        let leaves = shared.sessions.are_leaving();
        let mut state = session.state.lock();
        if state.stream != *stream {
            return Turn::Fail(taken_over().into_status());
        }
        session.inbox.read_by(context.waker());
        state.core.say_again(shared);
        let reading = Reading { shared, inbound: &mut self.inbound, stopwatch: &mut self.stopwatch };
        let read = if leaves { Ok(false) } else { reading.read(context, &mut state.core, half_closed) };
        let may_have_more = match read {
            Ok(may_have_more) => may_have_more,
            Err(status) => return Turn::Fail(status),
        };
        session.inbox.take(&mut self.deliveries);
        state.core.take_in(shared, &mut self.deliveries);
        if std::mem::take(&mut state.due) {
            state.core.tick(shared, shared.clock.now());
        }
        if state.core.away.is_some() && !leaves {
            state.core.turn_away(shared);
        }
        session.plan(shared, &mut state);
        if !state.core.out.is_empty() {
            return Turn::Say(state.core.out.take());
        }
        if !state.core.again.is_empty() {
            return Turn::Yield;
        }
        if *half_closed && state.core.waiting() == 0 {
            session.bury(shared, state);
            return Turn::Done;
        }
        if leaves {
            // The client's next stream has to be the newest wherever it goes.
            let is_arriving = state.core.away.as_ref().is_some_and(|away| away.is_arriving());
            if is_arriving && !shared.sessions.are_closing() {
                return Turn::Wait;
            }
            session.leave(shared, state);
            return Turn::Fail(Fault::draining().into_status());
        }
        if shared.settles() && (shared.sessions.are_closing() || state.core.permits() == 0) {
            session.bury(shared, state);
            return Turn::Fail(Fault::draining().into_status());
        }
        if may_have_more { Turn::Yield } else { Turn::Wait }
    }

    /// The grace begins, unless the session ended or went on elsewhere.
    fn end(&mut self) {
        if let Phase::Open { session, stream, .. } = std::mem::replace(&mut self.phase, Phase::Ended) {
            session.broke(&self.shared, stream);
        }
    }
}

impl Reading<'_> {
    /// Reads what one turn may, and does it. Tells whether there may be more; if there would be in the same turn, that has ended.
    fn read(
        self,
        context: &mut Context<'_>,
        core: &mut Core,
        half_closed: &mut bool,
    ) -> Result<bool, Status> {
        let Self { shared, inbound, stopwatch } = self;
        let times = &shared.metrics.messages;
        let mut rewritten = Vec::new();
        let (mut messages, mut items) = (0, 0);
        while !*half_closed && !core.is_busy() {
            let had_part = messages > 0 && inbound.has_parts();
            if messages >= MESSAGES_PER_TURN || items >= ITEMS_PER_TURN || had_part {
                turns::end(context);
                return Ok(true);
            }
            match inbound.poll_next(context) {
                Poll::Ready(Some(message)) => {
                    let message = message?;
                    let message = times.reading(stopwatch, || message.read(&mut rewritten))?;
                    if message.hello.is_some() {
                        return Err(second_hello().into_status());
                    }
                    let had = core.handle(shared, message);
                    times.handled(stopwatch);
                    inbound.had(had, core.take_forged());
                    messages += 1;
                    items += had;
                }
                Poll::Ready(None) if inbound.is_broken() => {
                    return Err(Status::cancelled("the stream was reset"));
                }
                Poll::Ready(None) => *half_closed = true,
                Poll::Pending => return Ok(false),
            }
        }
        Ok(!*half_closed)
    }
}

impl Stream for SessionStream {
    type Item = Result<Written, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let turn = match this.phase {
            Phase::New(_) => std::task::ready!(this.begin(context)),
            Phase::Open { .. } => {
                std::task::ready!(turns::poll(context));
                this.turn(context)
            }
            Phase::Ended => return Poll::Ready(None),
        };
        match turn {
            Turn::Say(response) => Poll::Ready(Some(Ok(response))),
            Turn::Yield => {
                turns::end(context);
                Poll::Pending
            }
            Turn::Wait => Poll::Pending,
            Turn::Done => {
                this.end();
                Poll::Ready(None)
            }
            Turn::Fail(status) => {
                this.end();
                Poll::Ready(Some(Err(status)))
            }
        }
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        self.end();
    }
}
