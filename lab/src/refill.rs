//! How late grants are that waited for a bucket to refill: one session whose queue is never empty, at the real binary. The bucket is
//! emptied by the first permit, so the instant at which each later one is possible is known to the nanosecond.

use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use permitd_proto::v1::{AcquireRequest, SessionRequest, permit_service_client::PermitServiceClient};
use tokio::{runtime, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    bench::{Error, PROVIDER, connect, hello, paced, report},
    server::Server,
};

/// A bucket begins to refill so long after a pause (ARCHITECTURE.md).
const START_DELAY: Duration = Duration::from_millis(25);
/// Later than that is not told apart.
const LATE_MAX_NANOS: u64 = 60_000_000_000;
const KEY: &str = "refill";

/// What to measure with.
#[derive(Clone, Debug)]
pub struct Refill {
    /// Permits a second that the bucket gets, each measured by itself.
    pub rates: Vec<u32>,
    /// Requests that wait.
    pub waiting: usize,
    /// How long grants are counted.
    pub turn: Duration,
    /// Items a second of another client, of other budgets; the second half is measured beside it.
    pub beside: f64,
}

/// What came of it.
#[derive(Debug)]
pub struct Late {
    rows: Vec<Row>,
    refill: Refill,
}

#[derive(Debug)]
struct Row {
    rate: u32,
    is_beside: bool,
    /// In nanoseconds.
    late: Histogram<u64>,
}

impl Refill {
    /// Measures it. Tells `progress` what it is at.
    ///
    /// # Errors
    /// If a server can't be started, or grants something before it is possible.
    pub fn measure(&self, binary: &Path, mut progress: impl FnMut(&str)) -> Result<Late, Error> {
        let mut rows = Vec::new();
        for is_beside in [false, true] {
            for &rate in &self.rates {
                progress(&format!(
                    "{rate} a second{}",
                    if is_beside { ", beside another client" } else { "" }
                ));
                let late = self.late(binary, rate, if is_beside { self.beside } else { 0.0 })?;
                rows.push(Row { rate, is_beside, late });
            }
        }
        Ok(Late { rows, refill: self.clone() })
    }

    fn late(&self, binary: &Path, rate: u32, beside: f64) -> Result<Histogram<u64>, Error> {
        let config = format!(
            "[budgets.\"lab/{KEY}\"]\nlimits = [\"tokens={rate}/1s\"]\n\
             [providers.{PROVIDER}]\nlimits = [\"requests=1000M/1s\", \"tokens=1000000M/1s\", \"in_flight=1M\"]\n"
        );
        let server = Server::start(binary, &config)?;
        let address = server.address;
        thread::scope(|scope| {
            // Its warm-up is a fifth of its turn, and it goes on a little longer than what is counted.
            let other = (beside > 0.0).then(|| scope.spawn(move || paced(address, self.turn, beside)));
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let late = runtime.block_on(self.ask(address, rate))?;
            if let Some(other) = other {
                other.join().map_err(|_| "the other client panicked")??;
            }
            Ok(late)
        })
    }

    async fn ask(&self, server: SocketAddr, rate: u32) -> Result<Histogram<u64>, Error> {
        let mut client = PermitServiceClient::new(connect(server).await?);
        let (send, requests) = mpsc::channel(16);
        send.send(hello()).await?;
        let mut responses = client.session(ReceiverStream::new(requests)).await?.into_inner();
        responses.message().await?.ok_or("no welcome")?;
        // The first takes all that is there: so early that it can't have been granted before.
        let emptied = Instant::now();
        send.send(message(vec![acquire(0, rate.into())])).await?;
        granted(&mut responses).await?;
        let mut ids = 1..;
        let mut next = |number: usize| ids.by_ref().take(number).map(|id| acquire(id, 1)).collect::<Vec<_>>();
        let mut left = self.waiting;
        while left > 0 {
            let part = left.min(MESSAGE);
            left -= part;
            send.send(message(next(part))).await?;
        }
        let mut late = Histogram::new_with_max(LATE_MAX_NANOS, 3)?;
        let mut number = 0_u64;
        while emptied.elapsed() < START_DELAY + self.turn {
            let permits = granted(&mut responses).await?;
            let now = Instant::now();
            for _ in &permits {
                number += 1;
                // The refill of one is there a whole number of periods after the start.
                let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate);
                let possible = emptied + START_DELAY + Duration::from_nanos(u64::try_from(nanos)?);
                if now < possible {
                    return Err(format!("permit {number} came {:?} too early", possible - now).into());
                }
                late.saturating_record((now - possible).as_nanos() as u64);
            }
            let acquire = next(permits.len());
            let report = permits.into_iter().map(report).collect();
            send.send(SessionRequest { acquire, report, ..SessionRequest::default() }).await?;
        }
        Ok(late)
    }
}

/// How many acquires one message may have.
const MESSAGE: usize = 1_000;

fn acquire(request_id: u64, tokens: u64) -> AcquireRequest {
    AcquireRequest {
        provider: "lab".into(),
        key: KEY.into(),
        tokens,
        tenant: "web".into(),
        request_id,
        ..AcquireRequest::default()
    }
}

fn message(acquire: Vec<AcquireRequest>) -> SessionRequest {
    SessionRequest { acquire, ..SessionRequest::default() }
}

/// The permits of the next message that has some.
async fn granted(
    responses: &mut Streaming<permitd_proto::v1::SessionResponse>,
) -> Result<Vec<String>, Error> {
    loop {
        let response = responses.message().await?.ok_or("the session ended")?;
        if let Some(refused) = response.refused.first() {
            return Err(format!("refused: {}", refused.message).into());
        }
        let permits: Vec<String> =
            response.granted.into_iter().filter_map(|granted| Some(granted.permit?.permit_id)).collect();
        if !permits.is_empty() {
            return Ok(permits);
        }
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refill { waiting, turn, beside, .. } = &self.refill;
        writeln!(
            f,
            "How late grants are that waited for a refill, {waiting} waiting, {turn:?} each; the other client: {beside:.0} items a second\n"
        )?;
        writeln!(
            f,
            "| permits a second | | grants | p50 | p99 | p99.9 | latest |\n|---|---|---|---|---|---|---|"
        )?;
        for Row { rate, is_beside, late } in &self.rows {
            let at = |quantile| Duration::from_nanos(late.value_at_quantile(quantile));
            let [half, most, nearly_all, latest] = [at(0.5), at(0.99), at(0.999), at(1.0)];
            let beside = if *is_beside { "beside another" } else { "alone" };
            writeln!(
                f,
                "| {rate} | {beside} | {} | {half:.2?} | {most:.2?} | {nearly_all:.2?} | {latest:.2?} |",
                late.len()
            )?;
        }
        Ok(())
    }
}
