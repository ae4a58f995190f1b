//! An accepted connection: it takes room in the server for as long as it lives, and it lives only if its peer speaks.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, OnceLock},
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

use crate::{
    pace::Paces,
    tls::{Certificate, Socket},
    turns,
};

/// HTTP/2's preface, which every client sends first.
const PREFACE_BYTES: usize = 24;
/// What one turn reads at most, about, so that no client can keep a thread.
const BYTES_PER_TURN: usize = 64 * 1024;
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

/// Who is at the other end, for every call that comes from there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    certificate: Arc<OnceLock<Certificate>>,
    pub(crate) paces: Paces,
}

impl Peer {
    /// Its verified certificate, if it showed one.
    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.get()
    }
}

/// A connection on the worker that serves it.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Socket,
    /// Until the preface has come: how much of it is missing, and when that is too late.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    /// Bytes that were read since there was nothing more to read, or since others had their turn.
    read_on: usize,
    paces: Paces,
    _room: Room,
}

impl Connection {
    /// Has to be called on the worker's runtime, which then watches the socket.
    pub(crate) fn adopt(
        stream: std::net::TcpStream,
        tls: Option<TlsAcceptor>,
        paces: Paces,
        room: Room,
    ) -> io::Result<Self> {
        let preface = Some((PREFACE_BYTES, Box::pin(sleep(PREFACE_WAIT))));
        let stream = Socket::new(TcpStream::from_std(stream)?, tls);
        Ok(Self { stream, preface, read_on: 0, paces, _room: room })
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> Peer {
        Peer { certificate: self.stream.certificate(), paces: self.paces.clone() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_on >= BYTES_PER_TURN {
            self.read_on = 0;
            turns::end(context);
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        self.read_on = if read.is_pending() { 0 } else { self.read_on + bytes };
        let Some((missing, late)) = &mut self.preface else { return read };
        if read.is_pending() && late.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        *missing = missing.saturating_sub(bytes);
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

#[cfg(test)]
mod tests {
    use std::{fs, future::poll_fn};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::Semaphore,
    };

    use super::*;
    use crate::{config::TlsConfig, tls::Tls};

    /// Goal: a peer that says nothing is let go of, before the handshake as well as after it. Nothing else can happen here, so the
    /// time that nobody waits for passes at once.
    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection() {
        let folder = std::env::temp_dir().join(format!("permitd-connection-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let config = TlsConfig {
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            client_ca: None,
            client_certs: crate::config::ClientCerts::default(),
        };
        fs::write(&config.cert, made.cert.pem()).expect("written");
        fs::write(&config.key, made.signing_key.serialize_pem()).expect("written");
        let (tls, _) = Tls::load(&config).expect("sound files");
        fs::remove_dir_all(&folder).expect("removed");

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let room = Arc::new(Semaphore::new(1));
        for tls in [None, Some(tls.grpc())] {
            let address = listener.local_addr().expect("bound");
            let (silent, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (silent, (accepted, _)) = (silent.expect("it listens"), accepted.expect("it came"));
            let permit = Arc::clone(&room).try_acquire_owned().expect("room");
            let stream = accepted.into_std().expect("a socket");
            let mut connection =
                Connection::adopt(stream, tls, Paces::default(), Room::take(permit, Gauge::default()))
                    .expect("adopted");
            let silence = connection.read_u8().await.expect_err("nothing came");
            assert_eq!(silence.kind(), io::ErrorKind::TimedOut);
            drop((connection, silent));
            assert_eq!(room.available_permits(), 1, "its room is another's");
        }
    }

    /// Goal: however much comes, one turn reads no more than its part, and all of it is read.
    #[tokio::test]
    async fn reading_ends_its_turns() {
        const SENT: usize = 32 * BYTES_PER_TURN;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (sender, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut sender, (accepted, _)) = (sender.expect("it listens"), accepted.expect("it came"));
        let sending = tokio::spawn(async move { sender.write_all(&vec![1; SENT]).await });
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("room");
        let room = Room::take(permit, Gauge::default());
        let stream = accepted.into_std().expect("a socket");
        let mut connection = Connection::adopt(stream, None, Paces::default(), room).expect("adopted");
        let mut bytes = vec![0; BYTES_PER_TURN / 2];
        let (mut read, mut most) = (0, 0);
        while read < SENT {
            // One turn: until it has to wait.
            let turn = poll_fn(|context| {
                let mut turn = 0;
                loop {
                    let mut buffer = ReadBuf::new(&mut bytes);
                    match Pin::new(&mut connection).poll_read(context, &mut buffer) {
                        Poll::Ready(done) => done.expect("sound"),
                        Poll::Pending if turn == 0 => return Poll::Pending,
                        Poll::Pending => return Poll::Ready(turn),
                    }
                    if buffer.filled().is_empty() {
                        return Poll::Ready(turn);
                    }
                    turn += buffer.filled().len();
                }
            });
            let turn = turn.await;
            (read, most) = (read + turn, most.max(turn));
        }
        sending.await.expect("no panic").expect("sent");
        assert_eq!(read, SENT);
        assert!(most < BYTES_PER_TURN + BYTES_PER_TURN / 2, "{most} bytes in one turn");
    }
}
