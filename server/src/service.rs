//! `PermitService`, and the HTTP/2 server around all services of one worker.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::Frame;
use permitd_proto::v1::{
    self,
    permit_service_server::{PermitService, PermitServiceServer},
};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{Body as HttpBody, Bytes, Service, http},
    server::NamedService,
};

use crate::{
    acquire::{AcquireStream, acquire},
    session::{Ending, SessionStream},
    shared::{LastCell, Shared, tell_ended},
    status::Fault,
};

/// The service.
#[derive(Clone)]
pub(crate) struct Permits {
    shared: Arc<Shared>,
}

impl Permits {
    /// The service as it is mounted, with the server's bound on messages.
    pub(crate) fn mounted(shared: Arc<Shared>) -> WatchBodies<PermitServiceServer<Self>> {
        let message_bytes = shared.config.bounds.message_bytes;
        let service = PermitServiceServer::new(Self { shared });
        WatchBodies(service.max_decoding_message_size(message_bytes).max_encoding_message_size(message_bytes))
    }
}

#[tonic::async_trait]
impl PermitService for Permits {
    type AcquireStream = AcquireStream;
    type SessionStream = SessionStream;

    async fn acquire(&self, request: Request<v1::AcquireRequest>) -> Result<Response<AcquireStream>, Status> {
        let stream = acquire(&self.shared, request.metadata(), request.get_ref())?;
        Ok(Response::new(stream))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let answered =
            self.shared.report(&LastCell::default(), request.into_inner()).map_err(|(fault, _)| fault)?;
        if let Some((waiter, permit)) = answered.ended {
            tell_ended(waiter, permit);
        }
        Ok(Response::new(answered.response))
    }

    async fn session(
        &self,
        mut request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<SessionStream>, Status> {
        if self.shared.is_draining() {
            return Err(Fault::draining().into_status());
        }
        let ending = request.extensions_mut().remove::<Ending>().unwrap_or_default();
        Ok(Response::new(SessionStream::new(Arc::clone(&self.shared), request.into_inner(), ending)))
    }
}

/// Lets a service know how each request body ended: the decoder shows a reset as an ordinary end, but only a half-close
/// ends a session politely.
#[derive(Clone, Debug)]
pub(crate) struct WatchBodies<S>(S);

impl<S: NamedService> NamedService for WatchBodies<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for WatchBodies<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let ending = Ending::default();
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(ending.clone());
        let body = Body::new(WatchedBody { body, ending });
        self.0.call(http::Request::from_parts(parts, body))
    }
}

struct WatchedBody {
    body: Body,
    ending: Ending,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Err(_))) = frame {
            self.ending.broke();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
