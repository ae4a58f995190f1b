//! Connections that end when nothing moves on them, when a request takes too long to come, or when others need their place.

use std::{
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    time::{Instant, Sleep, sleep_until},
};

use super::place::{Lost, Place, Places};
use crate::tls::{Socket, Tls};

/// Connections at once.
const CONNECTIONS: usize = 256;
/// How long nothing may move on a connection. Longer than scrapers wait between two scrapes, as a rule.
const IDLE: Duration = Duration::from_secs(90);
/// How long the head of a request may take to come, whatever moves meanwhile; of the first one with the TLS handshake before it.
const HEAD: Duration = Duration::from_secs(10);

/// A listener with bounds.
#[derive(Debug)]
pub(super) struct Guard {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    places: Arc<Places>,
}

/// A connection with an end.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: Socket,
    place: Place,
    /// `None` once the place is another's.
    lost: Option<Lost>,
    /// When something moved last.
    moved: Instant,
    ends: Pin<Box<Sleep>>,
}

impl Guard {
    pub(super) fn new(listener: TcpListener, tls: Option<Arc<Tls>>) -> Self {
        Self { listener, tls, places: Places::new(CONNECTIONS) }
    }
}

impl Listener for Guard {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let stream = Socket::new(stream, self.tls.as_deref().map(Tls::http));
        let ((place, lost), moved) = (self.places.take(), Instant::now());
        let ends = Box::pin(sleep_until(moved + HEAD));
        (Guarded { stream, place, lost: Some(lost), moved, ends }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Guard>> for Place {
    fn connect_info(stream: IncomingStream<'_, Guard>) -> Self {
        stream.io().place.clone()
    }
}

impl Guarded {
    /// Fails where it has come to its end.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let stays = self.lost.as_mut().is_some_and(|lost| Pin::new(lost).poll(context).is_pending());
        if !stays {
            self.lost = None;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let end = self.place.head_since().map_or(self.moved + IDLE, |since| since + HEAD);
        if self.ends.deadline() != end {
            self.ends.as_mut().reset(end);
        }
        match self.ends.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.place.leave();
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        if into.filled().len() > before {
            self.moved = Instant::now();
            self.place.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.moved = Instant::now();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
