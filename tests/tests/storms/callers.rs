//! Who calls in the storm: some by the Rust client, some by a session of their own in which everything comes twice and out of order.

use std::{
    collections::{HashMap, HashSet},
    future::IntoFuture as _,
    sync::Arc,
    time::{Duration, Instant},
};

use permitd_client::{Client, OutagePolicy, Report};
use permitd_proto::v1::{
    AcquireRequest, Granted, SessionRequest, SessionResponse, permit_service_client::PermitServiceClient,
};
use permitd_tests::{Draws, ask, hello, span, success};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use crate::Log;

/// Nobody hears nothing for longer and goes on.
const PATIENCE: Duration = Duration::from_millis(700);

/// One call as its caller saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) permit: String,
    /// Before the request was sent.
    pub(crate) sent: Instant,
    /// After the grant was read.
    pub(crate) granted: Instant,
    /// Before the report was sent.
    pub(crate) ended: Instant,
    /// Whether the call was made.
    pub(crate) made: bool,
}

/// Acquires, calls and reports by the Rust client, whatever comes back.
pub(crate) async fn polite(url: String, mut draws: Draws, log: Arc<Log>) {
    let client = loop {
        let connecting = Client::builder()
            .endpoint(url.clone())
            .connect_timeout(Duration::from_secs(1))
            .outage_policy(OutagePolicy::FailClosed);
        match timeout(PATIENCE, connecting.connect()).await {
            Ok(Ok(client)) => break client,
            _ if log.is_over() => return,
            _ => sleep(Duration::from_millis(10)).await,
        }
    };
    while !log.is_over() {
        let sent = Instant::now();
        let asked = client.acquire("p/k").max_wait(Duration::from_secs(1)).into_future();
        let Ok(Ok(guard)) = timeout(Duration::from_secs(2), asked).await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let granted = Instant::now();
        let permit = guard.permit_id().to_owned();
        sleep(Duration::from_millis(draws.below(40))).await;
        log.add(Seen { permit, sent, granted, ended: Instant::now(), made: true });
        // Heard or not, the call is over.
        drop(timeout(PATIENCE, guard.report(Report::success())).await);
    }
    drop(timeout(PATIENCE, client.close()).await);
}

/// The same by a session in which every request and every report is sent twice, cancels come before what they cancel, and the stream
/// breaks off at any time.
pub(crate) async fn careless(url: String, name: String, mut draws: Draws, log: Arc<Log>) {
    let (mut asked, mut cancelled) = (HashMap::new(), HashSet::<u64>::new());
    let mut ids = 1_u64..;
    while !log.is_over() {
        let Some((send, mut answers)) = open(&url, &name).await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        for _ in 0..=draws.below(12) {
            let acquire = few_acquires(&mut ids, &mut draws, &mut asked);
            // One that is not known yet, and some that are long over. Whoever has taken a request back makes no call for it.
            let cancel: Vec<u64> = (0..3).map(|_| draws.below(ids.start + 2)).collect();
            cancelled.extend(&cancel);
            if send.send(SessionRequest { acquire, cancel, ..SessionRequest::default() }).await.is_err() {
                break;
            }
            let Ok(Ok(Some(answer))) = timeout(PATIENCE, answers.message()).await else { break };
            let mut report = Vec::new();
            for Granted { request_id, permit } in answer.granted {
                let permit = permit.expect("a grant has a permit").permit_id;
                let (sent, known) = asked.get_mut(&request_id).expect("only what was asked for is granted");
                if let Some(known) = known {
                    assert_eq!(*known, permit, "a request that comes twice gets one permit");
                    continue;
                }
                *known = Some(permit.clone());
                let (sent, now) = (*sent, Instant::now());
                let made = !cancelled.contains(&request_id);
                log.add(Seen { permit: permit.clone(), sent, granted: now, ended: now, made });
                report.extend([success(&permit), success(&permit)]);
            }
            let twice = SessionRequest { report, ..SessionRequest::default() };
            if send.send(twice.clone()).await.is_err() || send.send(twice).await.is_err() {
                break;
            }
        }
    }
}

/// A few requests, each twice, in any order.
fn few_acquires(
    ids: &mut std::ops::RangeFrom<u64>,
    draws: &mut Draws,
    asked: &mut HashMap<u64, (Instant, Option<String>)>,
) -> Vec<AcquireRequest> {
    let mut acquires = Vec::new();
    for _ in 0..=draws.below(3) {
        let request_id = ids.next().expect("without end");
        asked.insert(request_id, (Instant::now(), None));
        let request = AcquireRequest { request_id, max_wait: span(Duration::from_secs(1)), ..ask("k") };
        for _ in 0..2 {
            let at = draws.below(acquires.len() as u64 + 1) as usize;
            acquires.insert(at, request.clone());
        }
    }
    acquires
}

/// A session under this name: resumed where the server knows it.
async fn open(url: &str, name: &str) -> Option<(mpsc::Sender<SessionRequest>, Streaming<SessionResponse>)> {
    let opening = async {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
        let mut client = PermitServiceClient::new(endpoint.connect().await.ok()?);
        let (send, requests) = mpsc::channel(16);
        let first = SessionRequest { hello: Some(hello(name)), ..SessionRequest::default() };
        send.send(first).await.ok()?;
        let mut answers = client.session(ReceiverStream::new(requests)).await.ok()?.into_inner();
        answers.message().await.ok()??;
        Some((send, answers))
    };
    timeout(PATIENCE, opening).await.ok()?
}
