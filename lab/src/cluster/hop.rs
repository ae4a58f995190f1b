//! What it costs to ask another server than the owner: one client asks both for the same budget, in turn, one request at a time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use permitd_proto::v1::{SessionRequest, SessionResponse, permit_service_client::PermitServiceClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::field::Field;
use crate::{
    bench::{Error, acquire_of, connect, hello, report},
    siege::Waits,
};

/// The longest wait that is told apart: a minute.
const WAIT_MAX_NANOS: u64 = 60_000_000_000;
/// Of the time, the first part that does not count.
const WARM_UP_PART: u32 = 5;

/// Acquire to grant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    /// Asked at the owner.
    pub(super) owner: Waits,
    /// Asked at another server.
    pub(super) other: Waits,
    /// How often each was asked.
    pub(super) asked: u64,
}

/// A session in which one request at a time is made.
struct Asker {
    requests: mpsc::Sender<SessionRequest>,
    responses: Streaming<SessionResponse>,
    asked: u64,
    waits: Histogram<u64>,
}

/// Asks for so long.
pub(super) async fn measure(field: &Field, turn: Duration) -> Result<Hop, Error> {
    let owned = field.owned(0).await?;
    let owner = owned.iter().position(|keys| !keys.is_empty()).ok_or("nobody owns a budget")?;
    let key = owned[owner][0];
    let other = (owner + 1) % field.servers.len();
    let mut owner = Asker::new(field.servers[owner].address).await?;
    let mut other = Asker::new(field.servers[other].address).await?;
    let begin = Instant::now();
    while begin.elapsed() < turn {
        let counts = begin.elapsed() > turn / WARM_UP_PART;
        owner.ask(key, counts).await?;
        other.ask(key, counts).await?;
    }
    Ok(Hop { owner: owner.seen(), other: other.seen(), asked: owner.waits.len() })
}

impl Asker {
    async fn new(server: SocketAddr) -> Result<Self, Error> {
        let mut client = PermitServiceClient::new(connect(server).await?);
        let (requests, sent) = mpsc::channel(2);
        requests.send(hello()).await?;
        let mut responses = client.session(ReceiverStream::new(sent)).await?.into_inner();
        responses.message().await?.ok_or("no welcome")?;
        Ok(Self { requests, responses, asked: 0, waits: Histogram::new_with_max(WAIT_MAX_NANOS, 3)? })
    }

    /// A permit, and its report: nothing is under way afterwards.
    async fn ask(&mut self, key: usize, counts: bool) -> Result<(), Error> {
        self.asked += 1;
        let acquire = vec![acquire_of(self.asked, key)];
        let sent = Instant::now();
        self.requests.send(SessionRequest { acquire, ..SessionRequest::default() }).await?;
        let permit = loop {
            let answer = self.next().await?;
            if let Some(granted) = answer.granted.into_iter().next() {
                break granted.permit.ok_or("a grant without a permit")?;
            }
        };
        if counts {
            self.waits.saturating_record(sent.elapsed().as_nanos() as u64);
        }
        let report = vec![report(permit.permit_id)];
        self.requests.send(SessionRequest { report, ..SessionRequest::default() }).await?;
        while self.next().await?.reported.is_empty() {}
        Ok(())
    }

    async fn next(&mut self) -> Result<SessionResponse, Error> {
        let answer = self.responses.message().await?.ok_or("the session ended")?;
        match answer.refused.first() {
            Some(refused) => Err(format!("refused: {}", refused.message).into()),
            None => Ok(answer),
        }
    }

    fn seen(&self) -> Waits {
        let at = |quantile| Duration::from_nanos(self.waits.value_at_quantile(quantile));
        Waits { p50: at(0.5), p99: at(0.99) }
    }
}
