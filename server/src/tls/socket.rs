//! A connection's bytes, in the clear or through TLS. The handshake is part of the first read or write, so whatever bounds the
//! time of those bounds the handshake too, and it never keeps other connections waiting.

use std::{
    fmt,
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};

use super::names::{Certificate, read};

/// A connection's bytes.
pub(crate) struct Socket {
    layer: Layer,
    /// Set by a handshake in which the client showed one.
    certificate: Arc<OnceLock<Certificate>>,
}

enum Layer {
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>),
    Secure(Box<TlsStream<TcpStream>>),
    /// The handshake failed.
    Broken,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, tls: Option<TlsAcceptor>) -> Self {
        let layer = match tls {
            None => Layer::Plain(stream),
            Some(tls) => Layer::Handshake(Box::new(tls.accept(stream))),
        };
        Self { layer, certificate: Arc::default() }
    }

    /// The client's verified certificate: there once the first bytes have come, if it showed one.
    pub(crate) fn certificate(&self) -> Arc<OnceLock<Certificate>> {
        Arc::clone(&self.certificate)
    }

    /// What bytes go through, once it stands.
    fn open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Stream>>> {
        if let Layer::Handshake(accept) = &mut self.layer {
            match ready!(Pin::new(accept).poll(context)) {
                Ok(stream) => {
                    let shown = stream.get_ref().1.peer_certificates();
                    if let Some(certificate) = shown.and_then(<[_]>::first).and_then(read) {
                        self.certificate.get_or_init(|| certificate);
                    }
                    self.layer = Layer::Secure(Box::new(stream));
                }
                Err(error) => {
                    self.layer = Layer::Broken;
                    tracing::debug!(%error, "a TLS handshake failed");
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match &mut self.layer {
            Layer::Plain(stream) => Ok(Pin::new(stream)),
            Layer::Secure(stream) => Ok(Pin::new(&mut **stream)),
            Layer::Handshake(_) | Layer::Broken => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

/// Both ways.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.open(context))?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.open(context))?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.open(context))?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.layer, Layer::Handshake(_) | Layer::Broken) {
            // Nothing was said that would need an end, and a silent peer is not waited for.
            return Poll::Ready(Ok(()));
        }
        ready!(self.open(context))?.poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.open(context))?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
