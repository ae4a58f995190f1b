//! Connections that are bounded in number and end when nothing moves on them, so that idle ones can't keep others out.

use std::{
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

use crate::tls::{Socket, Tls};

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS: usize = 256;
/// How long nothing may move on a connection. Longer than scrapers wait between two scrapes, as a rule.
const IDLE: Duration = Duration::from_secs(90);

/// A listener with bounds.
#[derive(Debug)]
pub(super) struct Guard {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    room: Arc<Semaphore>,
    idle: Duration,
}

/// A connection with an end.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: Socket,
    idle: Duration,
    ends: Pin<Box<Sleep>>,
    _room: OwnedSemaphorePermit,
}

impl Guard {
    pub(super) fn new(listener: TcpListener, tls: Option<Arc<Tls>>) -> Self {
        Self::with_bounds(listener, tls, CONNECTIONS, IDLE)
    }

    fn with_bounds(listener: TcpListener, tls: Option<Arc<Tls>>, connections: usize, idle: Duration) -> Self {
        Self { listener, tls, room: Arc::new(Semaphore::new(connections)), idle }
    }
}

impl Listener for Guard {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let stream = Socket::new(stream, self.tls.as_deref().map(Tls::http));
        let ends = Box::pin(sleep(self.idle));
        (Guarded { stream, idle: self.idle, ends, _room: room }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Guarded {
    /// Whatever moves puts the end off; whatever doesn't may have reached it.
    fn watch<T>(&mut self, context: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.ends.as_mut().reset(Instant::now() + self.idle);
            return moved;
        }
        match self.ends.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(context, into);
        self.watch(context, moved)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, moved)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, moved)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, moved)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    /// Goal: who says nothing is let go of, and only then another one gets in.
    #[tokio::test]
    async fn idle_connections_make_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut guard = Guard::with_bounds(listener, None, 1, Duration::from_millis(20));
        let silent = TcpStream::connect(address).await.expect("it listens");
        let mut talking = TcpStream::connect(address).await.expect("it listens");
        talking.write_all(b"hello").await.expect("it is connected");

        let (mut first, _) = guard.accept().await;
        assert_eq!(guard.room.available_permits(), 0);
        let silence = first.read_u8().await.expect_err("nothing came");
        assert_eq!(silence.kind(), io::ErrorKind::TimedOut);
        drop((first, silent));
        let (mut second, _) = guard.accept().await;
        let mut heard = [0; 5];
        second.read_exact(&mut heard).await.expect("it came");
        assert_eq!(&heard, b"hello");
    }
}
