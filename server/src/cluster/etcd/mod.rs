//! A client of etcd for what a cluster asks of it: ranges, transactions, leases and one watch. Calls go to the endpoint that
//! answered last, and on to the next where that one fails; every one is sound to make twice.

pub(crate) mod messages;

use std::{
    future::Future,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use prost::Message;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{AsciiMetadataValue, MetadataMap},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use self::messages::{
    AuthenticateRequest, AuthenticateResponse, Compare, CompareTarget, DeleteRangeRequest, Expected,
    KeyValue, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseRequest,
    LeaseRevokeResponse, Op, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use crate::config::{EtcdConfig, EtcdTlsConfig};

/// How long one endpoint may take to answer before the next one is asked.
const ANSWER_MAX: Duration = Duration::from_secs(1);
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// HTTP/2 pings find out about endpoints that went without a word.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Keys in one answer to a range.
const PAGE: i64 = 1_000;
/// Bytes of one answer.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Transactions within one, each of a few operations: etcd takes 128 operations at most, on both levels together.
pub(crate) const WITHIN_TXN_MAX: usize = 48;

/// The client. It belongs to the runtime that it was made in.
#[derive(Debug)]
pub(crate) struct Etcd {
    channels: Vec<Channel>,
    /// Who answered last.
    good: AtomicUsize,
    /// Calls to one endpoint that were given up.
    given_up: AtomicU64,
    user: Option<(String, String)>,
    token: Mutex<Option<AsciiMetadataValue>>,
}

impl Etcd {
    /// Connects when it is first used.
    ///
    /// # Errors
    /// What is wrong with the endpoints or the files, in words.
    pub(crate) fn new(config: &EtcdConfig) -> Result<Self, String> {
        let endpoint = |url: &String| {
            let endpoint = Endpoint::from_shared(url.clone()).map_err(|_| {
                format!("{url:?} is no endpoint of etcd; write it like http://127.0.0.1:2379")
            })?;
            let endpoint = endpoint
                .connect_timeout(CONNECT_MAX)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_EVERY)
                .keep_alive_while_idle(true);
            let endpoint = match &config.tls {
                Some(tls) => endpoint
                    .tls_config(tls_config(tls)?)
                    .map_err(|error| format!("cluster.etcd_tls: {error}"))?,
                None => endpoint,
            };
            Ok(endpoint.connect_lazy())
        };
        let channels = config.endpoints.iter().map(endpoint).collect::<Result<Vec<_>, String>>()?;
        let password = match &config.password_file {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| format!("cluster.password_file: can't read {}: {error}", file.display()))?,
            None => String::new(),
        };
        let user = config.user.clone().map(|user| (user, password.trim().to_owned()));
        Ok(Self {
            channels,
            good: AtomicUsize::new(0),
            given_up: AtomicU64::new(0),
            user,
            token: Mutex::new(None),
        })
    }

    /// All keys that begin with `prefix`, as of one revision, which is told too.
    pub(crate) async fn range(&self, prefix: &[u8]) -> Result<(Vec<KeyValue>, i64), Status> {
        let (mut found, mut revision) = (Vec::new(), 0);
        let (mut key, range_end) = (prefix.to_vec(), end_of(prefix));
        loop {
            let request = RangeRequest { key, range_end: range_end.clone(), limit: PAGE, revision };
            let RangeResponse { header, kvs, more } = self.unary("KV/Range", request).await?;
            revision = if revision == 0 { header.map_or(0, |header| header.revision) } else { revision };
            found.extend(kvs);
            match found.last() {
                // The next key in order.
                Some(last) if more => key = [&last.key[..], b"\0"].concat(),
                _ => return Ok((found, revision)),
            }
        }
    }

    /// One key.
    pub(crate) async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Status> {
        let request = RangeRequest { key: key.to_vec(), ..RangeRequest::default() };
        let response: RangeResponse = self.unary("KV/Range", request).await?;
        Ok(response.kvs.into_iter().next())
    }

    /// How many calls to one endpoint were given up so far. Each may still come to etcd, however late, also after others that were made since.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    pub(crate) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.unary("KV/Txn", request).await
    }

    /// A lease for so many seconds; how long it really is comes with its id.
    pub(crate) async fn grant_lease(&self, ttl: Duration) -> Result<(i64, Duration), Status> {
        let request = LeaseGrantRequest { ttl: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX) };
        let LeaseGrantResponse { id, ttl } = self.unary("Lease/LeaseGrant", request).await?;
        Ok((id, Duration::from_secs(ttl.unsigned_abs())))
    }

    pub(crate) async fn revoke_lease(&self, id: i64) -> Result<(), Status> {
        let _: LeaseRevokeResponse = self.unary("Lease/LeaseRevoke", LeaseRequest { id }).await?;
        Ok(())
    }

    /// Keeps a lease for another ttl; `None` if it has ended.
    pub(crate) async fn keep_alive(&self, id: i64) -> Result<Option<Duration>, Status> {
        let renew = move |channel, metadata| async move {
            let once = tokio_stream::once(LeaseRequest { id });
            let mut answers: Streaming<LeaseKeepAliveResponse> =
                call(channel, metadata, "Lease/LeaseKeepAlive", once).await?;
            let gone = || Status::unavailable("the answer did not come");
            answers.message().await?.ok_or_else(gone)
        };
        let response = self.each(renew).await?;
        Ok(u64::try_from(response.ttl).ok().filter(|ttl| *ttl > 0).map(Duration::from_secs))
    }

    /// What changes under `prefix` from that revision on.
    pub(crate) async fn watch(
        &self,
        prefix: &[u8],
        start_revision: i64,
    ) -> Result<(Streaming<WatchResponse>, mpsc::Sender<WatchRequest>), Status> {
        let create = WatchCreateRequest { key: prefix.to_vec(), range_end: end_of(prefix), start_revision };
        let begin = |channel, mut metadata: MetadataMap| {
            let create = Some(create.clone());
            async move {
                // Without it, a server that lost its leader would be silent.
                metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
                // The watch lasts as long as its requests may go on.
                let (send, requests) = mpsc::channel(1);
                send.try_send(WatchRequest { create }).expect("there is room for one");
                let answers = call(channel, metadata, "Watch/Watch", ReceiverStream::new(requests)).await?;
                Ok((answers, send))
            }
        };
        self.each(begin).await
    }

    async fn unary<Q, R>(&self, method: &'static str, request: Q) -> Result<R, Status>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let ask = |channel, metadata| {
            let mut request = Request::new(request.clone());
            *request.metadata_mut() = metadata;
            async move {
                let mut grpc = ready(channel).await?;
                let answered = grpc.unary(request, path(method), ProstCodec::<Q, R>::default()).await?;
                Ok(answered.into_inner())
            }
        };
        self.each(ask).await
    }

    /// Makes a call at the endpoint that answered last, or at the others in turn.
    async fn each<T, F>(&self, make: impl Fn(Channel, MetadataMap) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let first = self.good.load(Ordering::Relaxed);
        let mut failed = Status::unavailable("no endpoint of etcd is configured");
        for turn in 0..self.channels.len() {
            let at = (first + turn) % self.channels.len();
            let made = self.authenticated(&self.channels[at], &make);
            match within(ANSWER_MAX, made).await {
                Ok(answer) => {
                    self.good.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(status) if is_final(&status) => return Err(status),
                Err(status) => {
                    self.given_up.fetch_add(1, Ordering::Relaxed);
                    failed = status;
                }
            }
        }
        Err(failed)
    }

    /// Shows the token, where there is a user; a new one if the old one has ended.
    async fn authenticated<T, F>(
        &self,
        channel: &Channel,
        make: &impl Fn(Channel, MetadataMap) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let Some((name, password)) = &self.user else {
            return make(channel.clone(), MetadataMap::new()).await;
        };
        let known = self.token.lock().clone();
        if let Some(token) = known {
            match make(channel.clone(), with_token(token)).await {
                Err(status) if status.code() == Code::Unauthenticated => {}
                answered => return answered,
            }
        }
        let request = AuthenticateRequest { name: name.clone(), password: password.clone() };
        let mut grpc = ready(channel.clone()).await?;
        let codec = ProstCodec::<AuthenticateRequest, AuthenticateResponse>::default();
        let answer = grpc.unary(Request::new(request), path("Auth/Authenticate"), codec).await?.into_inner();
        let token = AsciiMetadataValue::try_from(answer.token)
            .map_err(|_| Status::internal("etcd's token is no text"))?;
        *self.token.lock() = Some(token.clone());
        make(channel.clone(), with_token(token)).await
    }
}

/// A stream of requests, answered by a stream.
async fn call<Q, R>(
    channel: Channel,
    metadata: MetadataMap,
    method: &'static str,
    requests: impl tokio_stream::Stream<Item = Q> + Send + 'static,
) -> Result<Streaming<R>, Status>
where
    Q: Message + 'static,
    R: Message + Default + 'static,
{
    let mut request = Request::new(requests);
    *request.metadata_mut() = metadata;
    let mut grpc = ready(channel).await?;
    let answered = grpc.streaming(request, path(method), ProstCodec::<Q, R>::default()).await?;
    Ok(answered.into_inner())
}

async fn ready(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES);
    grpc.ready().await.map_err(|error| Status::unavailable(root_cause(&error)))?;
    Ok(grpc)
}

async fn within<T>(most: Duration, made: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded(format!("no answer within {most:?}"));
    timeout(most, made).await.map_err(late)?
}

/// What another endpoint would answer too. etcd says "unknown" for what it should have a code for.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::NotFound
            | Code::OutOfRange
    )
}

fn path(method: &'static str) -> PathAndQuery {
    PathAndQuery::try_from(format!("/etcdserverpb.{method}")).expect("methods are written here")
}

fn with_token(token: AsciiMetadataValue) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("token", token);
    metadata
}

fn tls_config(tls: &EtcdTlsConfig) -> Result<ClientTlsConfig, String> {
    let read = |path: &std::path::Path| {
        std::fs::read(path)
            .map_err(|error| format!("cluster.etcd_tls: can't read {}: {error}", path.display()))
    };
    let mut config = ClientTlsConfig::new();
    config = match &tls.ca {
        Some(ca) => config.ca_certificate(Certificate::from_pem(read(ca)?)),
        None => config.with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        config = config.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(config)
}

/// The innermost reason: "connection refused" rather than "transport error".
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The end of all keys that begin with `prefix`.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// The key was made at that revision and is there; 0: it is not there.
pub(crate) fn made_at(key: Vec<u8>, revision: i64) -> Compare {
    Compare { target: CompareTarget::Create.into(), key, expected: Some(Expected::CreateRevision(revision)) }
}

/// The key was last written at that revision; 0: it is not there.
pub(crate) fn written_at(key: Vec<u8>, revision: i64) -> Compare {
    Compare { target: CompareTarget::Mod.into(), key, expected: Some(Expected::ModRevision(revision)) }
}

/// Writes a key, which goes with the lease unless that is 0.
pub(crate) fn put(key: Vec<u8>, value: Vec<u8>, lease: i64) -> RequestOp {
    RequestOp { op: Some(Op::Put(PutRequest { key, value, lease })) }
}

pub(crate) fn read(key: Vec<u8>) -> RequestOp {
    RequestOp { op: Some(Op::Range(RangeRequest { key, ..RangeRequest::default() })) }
}

/// Reads the first keys that begin with `prefix`; the answer says whether there are more.
pub(crate) fn read_first(prefix: Vec<u8>, limit: i64) -> RequestOp {
    let range_end = end_of(&prefix);
    RequestOp { op: Some(Op::Range(RangeRequest { key: prefix, range_end, limit, revision: 0 })) }
}

/// A transaction within another one, with its own conditions.
pub(crate) fn within_txn(request: TxnRequest) -> RequestOp {
    RequestOp { op: Some(Op::Txn(request)) }
}

pub(crate) fn delete(key: Vec<u8>) -> RequestOp {
    RequestOp { op: Some(Op::DeleteRange(DeleteRangeRequest { key, range_end: Vec::new() })) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a prefix's end is the first key behind all that begin with it.
    #[test]
    fn ends_of_prefixes() {
        assert_eq!(end_of(b"ab"), b"ac");
        assert_eq!(end_of(&[b'a', 0xff]), b"b");
        assert_eq!(end_of(&[0xff]), [0]);
    }
}
