//! What a session's stream brings: its messages, read no faster than its connection may go, and how it ended.

use std::{
    collections::VecDeque,
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_core::Stream as _;
use tokio::time::{Sleep, sleep};
use tonic::{Status, Streaming};

use super::{message::Incoming, parts::take_apart};
use crate::pace::Paces;

/// How a request body ended: set by whoever reads the body, since the decoder shows a reset as an ordinary end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending(Arc<AtomicBool>);

impl Ending {
    /// The body broke.
    pub(crate) fn broke(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The messages of one stream.
pub(crate) struct Inbound {
    messages: Streaming<Incoming>,
    ending: Ending,
    /// What is left of a large message.
    parts: VecDeque<Incoming>,
    paces: Paces,
    /// Nothing more is read before then.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Inbound {
    pub(crate) fn new(messages: Streaming<Incoming>, ending: Ending, paces: Paces) -> Self {
        Self { messages, ending, parts: VecDeque::new(), paces, pause: None }
    }

    /// The first message, once what came before in the connection's sessions has had its time: whoever opens one after the other is no
    /// faster.
    pub(super) fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Incoming, Status>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
            }
            self.pause = self.paces.behind().map(|wait| Box::pin(sleep(wait)));
            if self.pause.is_none() {
                return self.poll_next(context);
            }
        }
    }

    /// Whether nothing is read for now.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// The next message, or part of a large one, once it may be read.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Incoming, Status>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        if self.parts.is_empty() {
            match ready!(Pin::new(&mut self.messages).poll_next(context)) {
                Some(Ok(message)) if message.items.are_many() => self.parts = take_apart(&message.bytes)?,
                other => return Poll::Ready(other),
            }
        }
        Poll::Ready(self.parts.pop_front().map(Ok))
    }

    /// Whether there is more of a large message.
    pub(super) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// What was read last had so many items, and so many permits in them that were never given to who names them.
    pub(super) fn had(&mut self, items: usize, forged: usize) {
        self.pause = self.paces.spend(items, forged).map(|wait| Box::pin(sleep(wait)));
    }

    /// Whether it ended by breaking.
    pub(super) fn is_broken(&self) -> bool {
        self.ending.0.load(Ordering::Acquire)
    }
}
