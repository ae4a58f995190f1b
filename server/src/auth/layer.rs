//! The gate before all services: nothing of a call is read before its caller is known, and nothing is answered any more once what
//! the caller showed has ended, or the configuration says something else of them.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    task::{Context, Poll},
    time::SystemTime,
};

use http_body::{Body as HttpBody, Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Sleep, sleep};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{BoxFuture, Bytes, Service, http},
};
use tower::Layer;

use super::{Caller, Gate, over::Waiting};
use crate::{connection::Peer, status::Fault};

/// Puts the gate before services.
#[derive(Clone, Debug)]
pub(crate) struct GateLayer {
    pub(crate) gate: Gate,
    /// Counts who was turned away.
    pub(crate) denied: Counter,
}

/// Services behind the gate.
#[derive(Clone, Debug)]
pub(crate) struct Gated<S> {
    gate: Gate,
    denied: Counter,
    inner: S,
}

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.gate.clone(), denied: self.denied.clone(), inner }
    }
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let caller = match self.gate.admit(request.uri().path(), request.headers(), peer.certificate()) {
            Ok(caller) => caller,
            Err(fault) => {
                self.denied.inc();
                return Box::pin(ready(Ok(fault.into_status().into_http())));
            }
        };
        let ends = End::of(&caller);
        request.extensions_mut().insert(caller);
        let answer = self.inner.call(request);
        match ends {
            None => Box::pin(answer),
            Some(ends) => Box::pin(async move {
                Ok(answer.await?.map(|body| Body::new(Expiring { body, ends: Some(ends) })))
            }),
        }
    }
}

/// An answer that ends when what its caller showed does, or who they are is told otherwise.
struct Expiring {
    body: Body,
    /// Taken when it has come.
    ends: Option<End>,
}

/// What ends an answer.
struct End {
    late: Option<Pin<Box<Sleep>>>,
    over: Waiting,
}

impl End {
    /// `None` if nothing does.
    fn of(caller: &Caller) -> Option<Self> {
        let left = |until: SystemTime| until.duration_since(SystemTime::now()).unwrap_or_default();
        let late = caller.until().map(|until| Box::pin(sleep(left(until))));
        Some(Self { late, over: caller.over()? })
    }

    fn has_come(&mut self, context: &mut Context<'_>) -> bool {
        self.over.is_over() || self.late.as_mut().is_some_and(|late| late.as_mut().poll(context).is_ready())
    }

    /// Whether it came just now; if not, it wakes whoever asks.
    fn comes(&mut self, context: &mut Context<'_>) -> bool {
        Pin::new(&mut self.over).poll(context).is_ready()
    }
}

impl HttpBody for Expiring {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, ends: end } = &mut *self;
        let Some(ends) = end else { return Poll::Ready(None) };
        if !ends.has_come(context) {
            let frame = Pin::new(body).poll_frame(context);
            if frame.is_ready() || !ends.comes(context) {
                return frame;
            }
        }
        *end = None;
        let mut trailers = http::HeaderMap::new();
        let status = expired().into_status();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ends.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What was shown has ended since, or before, or is worth something else by now.
pub(super) fn expired() -> Fault {
    let message = "these credentials have expired; call again with new ones";
    Fault::new(Code::Unauthenticated, "CREDENTIALS_EXPIRED", message)
}
