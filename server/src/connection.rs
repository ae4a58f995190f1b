//! An accepted connection: it takes room in the server for as long as it lives, and it lives only if its peer speaks.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use crate::tls::{Peer, Socket};

/// HTTP/2's preface, which every client sends first.
const PREFACE_BYTES: usize = 24;
/// How long a client may take to send it, a TLS handshake before it included. Later on, pings find out who is gone.
const PREFACE_WAIT: Duration = Duration::from_secs(10);

/// Room for one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    gauge: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Room {
    pub(crate) fn take(permit: OwnedSemaphorePermit, gauge: Gauge) -> Self {
        gauge.inc();
        Self { gauge, _permit: permit }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// A connection on the worker that serves it.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Socket,
    /// Until the preface has come: how much of it is missing, and when that is too late.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    _room: Room,
}

impl Connection {
    /// Has to be called on the worker's runtime, which then watches the socket.
    pub(crate) fn adopt(
        stream: std::net::TcpStream,
        tls: Option<TlsAcceptor>,
        room: Room,
    ) -> io::Result<Self> {
        let preface = Some((PREFACE_BYTES, Box::pin(sleep(PREFACE_WAIT))));
        Ok(Self { stream: Socket::new(TcpStream::from_std(stream)?, tls), preface, _room: room })
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.stream.peer()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some((missing, late)) = &mut self.preface else { return read };
        if read.is_pending() && late.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        *missing = missing.saturating_sub(buffer.filled().len() - before);
        if *missing == 0 {
            self.preface = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
