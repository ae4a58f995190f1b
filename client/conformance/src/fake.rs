//! What a client may find where it expects a permitd server: something else, or a server that is older, newer, wrong about the time, or
//! broken. Where a session is served, everything is granted.

use std::{
    collections::HashSet,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, future::BoxFuture};
use permitd_proto::v1::{
    Granted, Permit, Refused, ReportResponse, SessionRequest, SessionResponse, Usage, Welcome,
};
use prost::Message as _;
use serde::Deserialize;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, body::Body, codegen::http, server::NamedService};

/// How long permits live.
const TTL: Duration = Duration::from_secs(600);
/// How long permits live that are to be extended soon.
const SHORT_TTL: Duration = Duration::from_millis(400);
/// When to ask a failing server again.
const FAILING_WAIT: Duration = Duration::from_millis(50);
/// Requests, and reports, that a failing server refuses before it has recovered.
const FAILING_REFUSALS: usize = 2;
/// How wrong a clock is.
const HOUR: Duration = Duration::from_secs(3_600);
/// No message: the number of a field, and no end of it.
const UNDECODABLE: [u8; 8] = [0xff; 8];
/// A field 99 that nobody knows, with the value 1.
const UNKNOWN_FIELD: [u8; 3] = [0x98, 0x06, 0x01];
/// An outcome that nobody knows.
const UNKNOWN_OUTCOME: i32 = 77;

/// What it is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Manner {
    /// Serves HTTP/1.1.
    Http1,
    /// Serves gRPC, but no permits.
    OtherService,
    /// Accepts connections and says nothing, ever.
    Silent,
    /// Closes every connection at once.
    Closing,
    /// Answers with bytes of no protocol.
    Noise,
    /// A first answer that does not decode, in every session.
    UndecodableWelcome,
    /// In the first session, an answer to the first request that does not decode.
    UndecodableOnce,
    /// Ends every session as soon as something is asked in it.
    HangsUp,
    /// Ends every session right after its Welcome.
    Parting,
    /// Can't write to its store at first: refuses some requests and reports, for good as to their numbers, and takes later ones.
    Failing,
    /// Takes extensions without a word, and calls the permit unknown when its report has come.
    Crossing,
    /// Leaves out whatever can be left out.
    Old,
    /// Has fields and outcomes that nobody knows yet.
    New,
    /// Its clock is an hour behind the client's.
    Behind,
    /// Its clock is an hour ahead of the client's.
    Ahead,
}

/// What has been seen of the client.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicU64,
    pub(crate) sessions: AtomicU64,
    pub(crate) acquires: AtomicU64,
    pub(crate) reports: AtomicU64,
    pub(crate) extends: AtomicU64,
    /// What a failing server has refused: requests, whose numbers stay refused, and reports.
    refused: Mutex<HashSet<u64>>,
    refused_reports: AtomicU64,
}

/// It. Dropped, it is gone.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    serving: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Seen::default());
        let front = Front { manner, seen: Arc::clone(&seen) };
        let serving = match manner {
            Manner::Http1 | Manner::Silent | Manner::Closing | Manner::Noise => {
                tokio::spawn(front.serve_raw(listener))
            }
            _ => tokio::spawn(front.serve_grpc(listener)),
        };
        Self { address, seen, serving }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Front {
    manner: Manner,
    seen: Arc<Seen>,
}

impl Front {
    async fn serve_raw(self, listener: TcpListener) {
        // Whoever is told nothing stays connected.
        let mut silent: Vec<TcpStream> = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            self.seen.connections.fetch_add(1, Ordering::SeqCst);
            let bytes: &[u8] = match self.manner {
                Manner::Closing => continue,
                Manner::Http1 => {
                    b"HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\nconnection: close\r\n\r\nNot here\n"
                }
                Manner::Noise => b"\x00\xff\x13\x37 this is no frame of anything \xfe\xfd\xfc\r\n\r\n",
                _ => b"",
            };
            // The client may be gone.
            let _ = stream.write_all(bytes).await;
            silent.push(stream);
        }
    }

    async fn serve_grpc(self, listener: TcpListener) {
        let seen = Arc::clone(&self.seen);
        let incoming = TcpListenerStream::new(listener).inspect(move |_| {
            seen.connections.fetch_add(1, Ordering::SeqCst);
        });
        // It ends with its task.
        let _ = tonic::transport::Server::builder().add_service(self).serve_with_incoming(incoming).await;
    }

    async fn session(
        self,
        requests: Streaming<Vec<u8>>,
    ) -> Result<Response<ReceiverStream<Result<Vec<u8>, Status>>>, Status> {
        let number = self.seen.sessions.fetch_add(1, Ordering::SeqCst);
        let (answers, stream) = mpsc::channel(16);
        tokio::spawn(async move {
            // A client that is gone is told nothing more.
            let _ = self.answer_all(number, requests, answers).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn answer_all(
        self,
        session: u64,
        mut requests: Streaming<Vec<u8>>,
        answers: mpsc::Sender<Result<Vec<u8>, Status>>,
    ) -> Option<()> {
        while let Some(Ok(bytes)) = requests.next().await {
            let Ok(request) = SessionRequest::decode(bytes.as_slice()) else {
                answers.send(Err(Status::internal("no message"))).await.ok()?;
                return None;
            };
            let is_broken = match self.manner {
                Manner::UndecodableWelcome => true,
                Manner::UndecodableOnce => session == 0 && !request.acquire.is_empty(),
                _ => false,
            };
            let hangs_up = self.manner == Manner::HangsUp && !request.acquire.is_empty();
            if hangs_up {
                return None;
            }
            let answer = if is_broken { UNDECODABLE.to_vec() } else { self.answer(request, session > 0) };
            if !answer.is_empty() {
                answers.send(Ok(answer)).await.ok()?;
            }
            if self.manner == Manner::Parting {
                return None;
            }
        }
        None
    }

    fn answer(&self, request: SessionRequest, resumed: bool) -> Vec<u8> {
        let (is_old, is_new) = (self.manner == Manner::Old, self.manner == Manner::New);
        let count = |counter: &AtomicU64, items: usize| counter.fetch_add(items as u64, Ordering::SeqCst);
        count(&self.seen.acquires, request.acquire.len());
        count(&self.seen.reports, request.report.len());
        count(&self.seen.extends, request.extend.len());
        let refusals = self.refusals(&request);
        let welcome = request.hello.map(|hello| Welcome {
            session_id: hello.session_id,
            resumed,
            grace: (!is_old).then_some(prost_types::Duration { seconds: 10, nanos: 0 }),
            ..Welcome::default()
        });
        let is_refused = |request_id: u64, permit_id: &str| {
            refusals.iter().any(|refused| {
                refused.code == tonic::Code::Unavailable as u32
                    && (refused.request_id, refused.permit_id.as_str()) == (request_id, permit_id)
            })
        };
        let granted = request
            .acquire
            .iter()
            .filter(|ask| !is_refused(ask.request_id, ""))
            .flat_map(|ask| (0..ask.count.max(1)).map(move |number| (ask, number)))
            .map(|(ask, number)| Granted {
                request_id: ask.request_id,
                permit: Some(self.permit(ask, number)),
            });
        let reports = request.report.into_iter().filter(|report| !is_refused(0, &report.permit_id));
        let reported = reports.map(|report| ReportResponse {
            permit_id: report.permit_id,
            outcome: if is_new {
                UNKNOWN_OUTCOME
            } else if is_old {
                0
            } else {
                report.outcome
            },
            settled: true,
            ..ReportResponse::default()
        });
        let cancelled = request.cancel.into_iter().map(|request_id| Refused {
            request_id,
            code: tonic::Code::Cancelled as u32,
            reason: "CANCELLED".to_owned(),
            ..Refused::default()
        });
        let answer = SessionResponse {
            welcome,
            granted: granted.collect(),
            reported: reported.collect(),
            refused: cancelled.chain(refusals.iter().cloned()).collect(),
            ..SessionResponse::default()
        };
        let mut bytes = answer.encode_to_vec();
        if is_new && !bytes.is_empty() {
            bytes.extend(UNKNOWN_FIELD);
        }
        bytes
    }

    /// What it refuses by its manner, besides what is cancelled.
    fn refusals(&self, request: &SessionRequest) -> Vec<Refused> {
        let failing = |reason: &str| Refused {
            code: tonic::Code::Unavailable as u32,
            reason: reason.to_owned(),
            message: "ask again".to_owned(),
            retry_after: Some(FAILING_WAIT.try_into().expect("a short span")),
            ..Refused::default()
        };
        let mut refusals = Vec::new();
        if self.manner == Manner::Failing {
            let mut refused = self.seen.refused.lock().expect("nobody panics with it");
            for request_id in request.acquire.iter().map(|ask| ask.request_id) {
                if refused.len() < FAILING_REFUSALS {
                    refused.insert(request_id);
                }
                if refused.contains(&request_id) {
                    refusals.push(Refused { request_id, ..failing("STORE_UNAVAILABLE") });
                }
            }
            for report in &request.report {
                if self.seen.refused_reports.fetch_add(1, Ordering::SeqCst) < FAILING_REFUSALS as u64 {
                    let permit_id = report.permit_id.clone();
                    refusals.push(Refused { permit_id, ..failing("OWNER_UNAVAILABLE") });
                }
            }
        }
        if self.manner == Manner::Crossing {
            refusals.extend(request.report.iter().map(|report| Refused {
                permit_id: report.permit_id.clone(),
                code: tonic::Code::NotFound as u32,
                reason: "PERMIT_UNKNOWN".to_owned(),
                ..Refused::default()
            }));
        }
        refusals
    }

    fn permit(&self, ask: &permitd_proto::v1::AcquireRequest, number: u32) -> Permit {
        let permit_id = format!("fake-{}-{number}", ask.request_id);
        if self.manner == Manner::Old {
            return Permit { permit_id, ..Permit::default() };
        }
        let now = SystemTime::now();
        let ttl = if self.manner == Manner::Crossing { SHORT_TTL } else { TTL };
        let expires_at = match self.manner {
            Manner::Behind => now + TTL - HOUR,
            Manner::Ahead => now + TTL + HOUR,
            _ => now + ttl,
        };
        Permit {
            permit_id,
            provider: ask.provider.clone(),
            key: ask.key.clone(),
            expires_at: Some(expires_at.into()),
            ttl: Some(ttl.try_into().expect("a short span")),
            waited: Some(prost_types::Duration::default()),
            charged: Some(Usage { requests: Some(1), tokens: Some(ask.tokens), ..Usage::default() }),
        }
    }
}

impl NamedService for Front {
    const NAME: &'static str = "permitd.v1.PermitService";
}

impl tower::Service<http::Request<Body>> for Front {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let front = self.clone();
        Box::pin(async move {
            if front.manner == Manner::OtherService {
                return Ok(Status::unimplemented("no such service").into_http());
            }
            let session = tower::service_fn(move |requests: Request<Streaming<Vec<u8>>>| {
                front.clone().session(requests.into_inner())
            });
            Ok(tonic::server::Grpc::new(permitd_tests::RawCodec).streaming(session, request).await)
        })
    }
}
