//! A bare tonic service that gives back what it gets: the ceiling for anything on the same transport.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use permitd_proto::v1::{AcquireRequest, SessionRequest};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client::GrpcService,
    codegen::{Service, http},
    server::{NamedService, StreamingService, UnaryService},
};
use tonic_prost::ProstCodec;

/// Where the stream is.
const STREAM: &str = "/permitd.lab.Echo/Stream";
/// Where the call is.
const CALL: &str = "/permitd.lab.Echo/Call";

/// The service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "permitd.lab.Echo";
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        Box::pin(async move {
            Ok(if request.uri().path() == STREAM {
                let codec = ProstCodec::<SessionRequest, SessionRequest>::default();
                tonic::server::Grpc::new(codec).streaming(GiveBack, request).await
            } else {
                let codec = ProstCodec::<AcquireRequest, AcquireRequest>::default();
                tonic::server::Grpc::new(codec).unary(GiveBack, request).await
            })
        })
    }
}

struct GiveBack;

impl StreamingService<SessionRequest> for GiveBack {
    type Response = SessionRequest;
    type ResponseStream = Streaming<SessionRequest>;
    type Future = std::future::Ready<Result<Response<Streaming<SessionRequest>>, Status>>;

    fn call(&mut self, request: Request<Streaming<SessionRequest>>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

impl UnaryService<AcquireRequest> for GiveBack {
    type Response = AcquireRequest;
    type Future = std::future::Ready<Result<Response<AcquireRequest>, Status>>;

    fn call(&mut self, request: Request<AcquireRequest>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

/// Opens the stream.
pub(super) async fn stream<C>(
    channel: C,
    requests: impl tokio_stream::Stream<Item = SessionRequest> + Send + 'static,
) -> Result<Streaming<SessionRequest>, Status>
where
    C: GrpcService<Body>,
    C::Error: std::fmt::Display,
    C::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <C::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<SessionRequest, SessionRequest>::default();
    let path = http::uri::PathAndQuery::from_static(STREAM);
    Ok(grpc.streaming(Request::new(requests), path, codec).await?.into_inner())
}

/// Makes the call.
pub(super) async fn call(
    grpc: &mut tonic::client::Grpc<tonic::transport::Channel>,
    request: AcquireRequest,
) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<AcquireRequest, AcquireRequest>::default();
    grpc.unary(Request::new(request), http::uri::PathAndQuery::from_static(CALL), codec).await.map(drop)
}
