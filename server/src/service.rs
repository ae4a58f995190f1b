//! `PermitService`: decodes, asks, and answers; and how it meets HTTP. The methods are told apart here rather than by generated
//! code, since sessions have a codec of their own.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use http_body::Frame;
use permitd_proto::v1::{
    AcquireRequest, AcquireResponse, ReportRequest, ReportResponse, permit_service_server,
};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::Codec,
    codegen::{Body as HttpBody, BoxFuture, Bytes, Service, http},
    server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService},
};

use crate::{
    acquire::acquire,
    cluster::unary::{acquire_anywhere, report_anywhere},
    connection::Peer,
    session::{Ending, Inbound, Incoming, SessionCodec, SessionStream, Written},
    shared::{Shared, tell_ended},
    status::Fault,
    wire::codec::CallCodec,
};

const ACQUIRE: &str = "/permitd.v1.PermitService/Acquire";
const REPORT: &str = "/permitd.v1.PermitService/Report";
const SESSION: &str = "/permitd.v1.PermitService/Session";

/// The service.
#[derive(Clone)]
pub(crate) struct Permits {
    shared: Arc<Shared>,
}

impl Permits {
    /// The service as it is mounted.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Whether there is such a method, or would be.
    pub(crate) fn has(path: &str) -> bool {
        path.strip_prefix('/')
            .and_then(|path| path.strip_prefix(Self::NAME))
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// One method, with the server's bound on messages.
    fn grpc<C: Codec>(&self, codec: C) -> Grpc<C> {
        let message_bytes = self.shared.config.bounds.message_bytes;
        Grpc::new(codec).apply_max_message_size_config(Some(message_bytes), Some(message_bytes))
    }
}

impl NamedService for Permits {
    const NAME: &'static str = permit_service_server::SERVICE_NAME;
}

impl Service<http::Request<Body>> for Permits {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let permits = self.clone();
        match request.uri().path() {
            SESSION => Box::pin(async move {
                let mut grpc = permits.grpc(SessionCodec::new(&permits.shared.config.bounds));
                Ok(grpc.streaming(SessionCall(permits), watched(request)).await)
            }),
            ACQUIRE => Box::pin(async move {
                let mut grpc = permits.grpc(CallCodec::default());
                Ok(grpc.server_streaming(AcquireCall(permits), request).await)
            }),
            REPORT => Box::pin(async move {
                let mut grpc = permits.grpc(CallCodec::default());
                Ok(grpc.unary(ReportCall(permits), request).await)
            }),
            _ => Box::pin(std::future::ready(Ok(Status::unimplemented("no such method").into_http()))),
        }
    }
}

/// What becomes of one acquire, here or elsewhere.
type Acquiring = Pin<Box<dyn Stream<Item = Result<AcquireResponse, Status>> + Send>>;

struct AcquireCall(Permits);

impl ServerStreamingService<AcquireRequest> for AcquireCall {
    type Response = AcquireResponse;
    type ResponseStream = Acquiring;
    type Future = Ready<Result<Response<Acquiring>, Status>>;

    fn call(&mut self, request: Request<AcquireRequest>) -> Self::Future {
        let shared = &self.0.shared;
        let caller = match shared.gate.caller(request.extensions()) {
            Ok(caller) => caller,
            Err(fault) => return ready(Err(fault.into_status())),
        };
        let acquired = match &shared.cluster {
            None => {
                let acquired = acquire(shared, &caller, request.metadata(), request.get_ref());
                acquired.map(|stream| Box::pin(stream) as Acquiring)
            }
            Some(cluster) => {
                let (metadata, _, request) = request.into_parts();
                let acquired = acquire_anywhere(shared, cluster, caller, metadata, request);
                acquired.map(|stream| Box::pin(stream) as Acquiring)
            }
        };
        ready(acquired.map(Response::new))
    }
}

struct ReportCall(Permits);

impl UnaryService<ReportRequest> for ReportCall {
    type Response = ReportResponse;
    type Future = BoxFuture<Response<ReportResponse>, Status>;

    fn call(&mut self, request: Request<ReportRequest>) -> Self::Future {
        let shared = Arc::clone(&self.0.shared);
        Box::pin(async move {
            let caller = shared.gate.caller(request.extensions())?;
            let answered = match &shared.cluster {
                None => shared.report(caller.holder(), request.get_ref())?,
                Some(cluster) => report_anywhere(&shared, cluster, &caller, request.into_inner()).await?,
            };
            if let Some((waiter, permit)) = answered.ended {
                tell_ended(waiter, permit);
            }
            Ok(Response::new(answered.response))
        })
    }
}

struct SessionCall(Permits);

impl StreamingService<Incoming> for SessionCall {
    type Response = Written;
    type ResponseStream = SessionStream;
    type Future = Ready<Result<Response<SessionStream>, Status>>;

    fn call(&mut self, mut request: Request<Streaming<Incoming>>) -> Self::Future {
        let shared = &self.0.shared;
        if shared.is_draining() {
            return ready(Err(Fault::draining().into_status()));
        }
        let caller = match shared.gate.caller(request.extensions()) {
            Ok(caller) => caller,
            Err(fault) => return ready(Err(fault.into_status())),
        };
        let ending = request.extensions_mut().remove::<Ending>().unwrap_or_default();
        let paces = request.extensions().get::<Peer>().map(|peer| peer.paces.clone()).unwrap_or_default();
        let inbound = Inbound::new(request.into_inner(), ending, paces);
        ready(Ok(Response::new(SessionStream::new(Arc::clone(shared), caller, inbound))))
    }
}

/// A session knows how its request body ended: tonic's decoder shows a reset as an ordinary end, but only a half-close ends a
/// session politely.
fn watched(request: http::Request<Body>) -> http::Request<WatchedBody> {
    let ending = Ending::default();
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(ending.clone());
    http::Request::from_parts(parts, WatchedBody { body, ending })
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
