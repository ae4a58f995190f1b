//! `PermitService`: decodes, asks, and answers; and how it meets HTTP.

use std::{
    convert::Infallible,
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
    codegen::{Body as HttpBody, BoxFuture, Bytes, Service, http},
    server::{Grpc, NamedService, StreamingService},
};

use crate::{
    acquire::{AcquireStream, acquire},
    session::{Ending, SessionCodec, SessionStream},
    shared::{RecentCells, Shared, tell_ended},
    status::Fault,
};

/// The service.
#[derive(Clone)]
pub(crate) struct Permits {
    shared: Arc<Shared>,
}

impl Permits {
    /// The service as it is mounted, with the server's bound on messages.
    pub(crate) fn mounted(shared: Arc<Shared>) -> Mounted {
        let message_bytes = shared.config.bounds.message_bytes;
        let permits = Self { shared };
        let generated = PermitServiceServer::new(permits.clone())
            .max_decoding_message_size(message_bytes)
            .max_encoding_message_size(message_bytes);
        Mounted { permits, generated }
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
            self.shared.report(&RecentCells::default(), request.into_inner()).map_err(|(fault, _)| fault)?;
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

/// The service on its way to HTTP. Sessions have a codec of their own, and know how their request body ended: tonic's
/// decoder shows a reset as an ordinary end, but only a half-close ends a session politely.
#[derive(Clone)]
pub(crate) struct Mounted {
    permits: Permits,
    generated: PermitServiceServer<Permits>,
}

/// The method that is served here rather than by the generated code.
const SESSION_PATH: &str = "/permitd.v1.PermitService/Session";

impl NamedService for Mounted {
    const NAME: &'static str = PermitServiceServer::<Permits>::NAME;
}

impl Service<http::Request<Body>> for Mounted {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != SESSION_PATH {
            return self.generated.call(request);
        }
        let ending = Ending::default();
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(ending.clone());
        let request = http::Request::from_parts(parts, WatchedBody { body, ending });
        let permits = self.permits.clone();
        let bounds = permits.shared.config.bounds;
        Box::pin(async move {
            let mut grpc = Grpc::new(SessionCodec::new(&bounds))
                .apply_max_message_size_config(Some(bounds.message_bytes), Some(bounds.message_bytes));
            Ok(grpc.streaming(SessionCall(permits), request).await)
        })
    }
}

struct SessionCall(Permits);

impl StreamingService<v1::SessionRequest> for SessionCall {
    type Response = v1::SessionResponse;
    type ResponseStream = SessionStream;
    type Future = BoxFuture<Response<SessionStream>, Status>;

    fn call(&mut self, request: Request<Streaming<v1::SessionRequest>>) -> Self::Future {
        let permits = self.0.clone();
        Box::pin(async move { permits.session(request).await })
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
