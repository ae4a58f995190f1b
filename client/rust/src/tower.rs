//! A layer for HTTP clients: each request waits for its permit first, and its response's status and headers are reported.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

use crate::{ByResponse, Classify, Client, Request};

/// Puts a permit in front of every request of an HTTP client. Which budget, and how much of it, is read from the request by a closure.
///
/// The permit is settled when the response's head is there, as charged: what a body says of usage is not read. To report it use
/// [`Client::call`], or an own [`Classify`] on a service whose responses know it. The layer does not send again by itself; put it *inside* of
/// a retry layer, so that each attempt waits in the queue.
///
/// ```
/// use permitd_client::{Client, Request, tower::PermitLayer};
/// use tower::{Layer, Service};
///
/// fn limited<S, B>(client: Client, http: S) -> impl Service<http::Request<B>>
/// where
///     S: Service<http::Request<B>, Response = http::Response<B>> + Clone + Send + 'static,
///     S::Error: Into<tower::BoxError>,
///     S::Future: Send,
///     B: Send + 'static,
/// {
///     PermitLayer::new(client, |_request: &http::Request<B>| Request::new("github").tenant("sync")).layer(http)
/// }
/// ```
#[derive(Clone)]
pub struct PermitLayer<F, C = ByResponse> {
    client: Client,
    request: Arc<F>,
    classify: Arc<C>,
}

impl<F> PermitLayer<F> {
    /// `request` says what each HTTP request asks for.
    pub fn new<B>(client: Client, request: F) -> Self
    where
        F: Fn(&http::Request<B>) -> Request,
    {
        Self { client, request: Arc::new(request), classify: Arc::new(ByResponse) }
    }
}

impl<F, C> PermitLayer<F, C> {
    /// How results are read, instead of by status and headers.
    pub fn classify<D>(self, classify: D) -> PermitLayer<F, D> {
        PermitLayer { client: self.client, request: self.request, classify: Arc::new(classify) }
    }
}

impl<S, F, C> Layer<S> for PermitLayer<F, C> {
    type Service = PermitService<S, F, C>;

    fn layer(&self, inner: S) -> Self::Service {
        PermitService {
            inner,
            client: self.client.clone(),
            request: Arc::clone(&self.request),
            classify: Arc::clone(&self.classify),
        }
    }
}

impl<F, C> fmt::Debug for PermitLayer<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitLayer").field("client", &self.client).finish_non_exhaustive()
    }
}

/// What [`PermitLayer`] makes. Its errors are the inner service's, or a [`crate::Error`] if there was no permit.
pub struct PermitService<S, F, C = ByResponse> {
    inner: S,
    client: Client,
    request: Arc<F>,
    classify: Arc<C>,
}

impl<S: Clone, F, C> Clone for PermitService<S, F, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            client: self.client.clone(),
            request: Arc::clone(&self.request),
            classify: Arc::clone(&self.classify),
        }
    }
}

impl<S: fmt::Debug, F, C> fmt::Debug for PermitService<S, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, F, C, B, R> Service<http::Request<B>> for PermitService<S, F, C>
where
    S: Service<http::Request<B>, Response = http::Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    F: Fn(&http::Request<B>) -> Request,
    C: Classify<http::Response<R>, S::Error> + Send + Sync + 'static,
    B: Send + 'static,
{
    type Response = http::Response<R>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, http_request: http::Request<B>) -> Self::Future {
        let acquire = self.client.acquire((self.request)(&http_request));
        let classify = Arc::clone(&self.classify);
        // The one that was made ready is the one to use.
        let spare = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, spare);
        Box::pin(async move {
            let guard = acquire.await?;
            let began = Instant::now();
            let result = inner.call(http_request).await;
            guard.report_detached(classify.classify(&result).latency_if_unknown(began.elapsed()));
            result.map_err(Into::into)
        })
    }
}
