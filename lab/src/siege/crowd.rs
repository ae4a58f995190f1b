//! Many connections, each with a session in which many requests wait: what that takes of the server's memory, and what it costs
//! whoever does not have to wait.

use std::{fmt, net::SocketAddr, path::Path, time::Duration};

use permitd_proto::v1::{
    AcquireRequest, GetBudgetRequest, SessionRequest, admin_service_client::AdminServiceClient,
    permit_service_client::PermitServiceClient,
};
use tokio::{runtime, sync::mpsc, task::JoinSet, time::sleep};
use tokio_stream::wrappers::ReceiverStream;

use super::{Error, Polite, Waits};
use crate::{
    bench::{connect, hello},
    server::Server,
};

/// How many acquires one message may have.
const MESSAGE: usize = 1_000;
/// Connections that are opened at a time.
const AT_ONCE: usize = 64;

/// Between two looks at whether all are there.
const PAUSE: Duration = Duration::from_millis(200);

/// What comes.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Connections, each with a session and a tenant of its own.
    pub connections: usize,
    /// Permits in flight, in all of them together; at least one.
    pub in_flight: usize,
    /// Requests that wait, likewise.
    pub waiting: usize,
    /// Who does not have to wait.
    pub polite: Polite,
}

/// Open sessions.
struct Sessions {
    requests: Vec<mpsc::Sender<SessionRequest>>,
    /// Why some ended, which none should.
    ended: mpsc::Receiver<String>,
}

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub struct Crowded {
    /// What came.
    pub crowd: Crowd,
    /// Bytes of the server's memory before, with all connections, with all permits, and with all who wait.
    pub resident: [u64; 4],
    /// The polite client's waits before, and beside the crowd.
    pub waits: [Waits; 2],
}

impl Crowd {
    /// Lets it come.
    ///
    /// # Errors
    /// If it can't, or somebody is turned away.
    pub fn run(self, binary: &Path) -> Result<Crowded, Error> {
        let server = Server::start(binary, &self.config())?;
        let before = (server.resident()?, self.polite.measure(server.address)?);
        let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut sessions = runtime.block_on(self.connect(server.address))?;
        let connected = server.resident()?;
        runtime.block_on(self.ask(server.address, &mut sessions, 0, self.in_flight))?;
        let granted = server.resident()?;
        runtime.block_on(self.ask(server.address, &mut sessions, self.in_flight, self.waiting))?;
        let resident = [before.0, connected, granted, server.resident()?];
        let waits = [before.1, self.polite.measure(server.address)?];
        Ok(Crowded { crowd: self, resident, waits })
    }

    /// Without pings, for a slow machine: where it takes longer to come round to everybody than a peer may take to answer, a server
    /// lets go of peers that are well.
    fn config(self) -> String {
        let Self { connections, in_flight, waiting, .. } = self;
        format!(
            "[server.keepalive]\ninterval = \"1h\"\n[server.bounds]\nconnections = {most}\nsessions = {most}\n\
             [budgets.\"siege/crowd\"]\nlimits = [\"in_flight={in_flight}\"]\npermit_ttl = \"24h\"\n\
             queue.max_waiting = {waiting}\n\
             [providers.bench]\nlimits = [\"requests=1000M/1s\", \"in_flight=1M\"]\n",
            most = connections + 16
        )
    }

    async fn connect(self, server: SocketAddr) -> Result<Sessions, Error> {
        let (end, ended) = mpsc::channel(self.connections.max(1));
        let mut opening: JoinSet<Result<_, Error>> = JoinSet::new();
        let mut sessions = Vec::with_capacity(self.connections);
        for opened in 0..self.connections {
            if opened >= AT_ONCE
                && let Some(session) = opening.join_next().await
            {
                sessions.push(session??);
            }
            let end = end.clone();
            opening.spawn(async move {
                let mut client = PermitServiceClient::new(connect(server).await?);
                let (send, requests) = mpsc::channel(2);
                send.send(hello()).await?;
                let mut answers = client.session(ReceiverStream::new(requests)).await?.into_inner();
                answers.message().await?.ok_or("no welcome")?;
                // Read until the end, as clients do. Nobody listens once all have asked.
                tokio::spawn(async move {
                    let why = loop {
                        match answers.message().await {
                            Ok(Some(_)) => {}
                            Ok(None) => break "the server closed it".to_owned(),
                            Err(status) => break status.message().to_owned(),
                        }
                    };
                    let _ = end.send(why).await;
                });
                Ok(send)
            });
        }
        while let Some(session) = opening.join_next().await {
            sessions.push(session??);
        }
        Ok(Sessions { requests: sessions, ended })
    }

    /// Has so many ask, and waits until the server knows of them besides those before.
    async fn ask(
        self,
        server: SocketAddr,
        sessions: &mut Sessions,
        before: usize,
        asking: usize,
    ) -> Result<(), Error> {
        let mut left = asking;
        for (number, session) in sessions.requests.iter().enumerate() {
            let mut own = left.div_ceil(self.connections - number);
            left -= own;
            let mut ids = before as u64 + 1..;
            while own > 0 {
                let part = own.min(MESSAGE);
                own -= part;
                let acquire = ids.by_ref().take(part).map(|id| waiting(number, id)).collect();
                let sent = session.send(SessionRequest { acquire, ..SessionRequest::default() }).await;
                if sent.is_err() {
                    return Err(sessions.why().await);
                }
            }
        }
        let mut admin = AdminServiceClient::new(connect(server).await?);
        let (mut known, all) = (0, before + asking);
        loop {
            let budget = GetBudgetRequest { provider: "siege".into(), key: "crowd".into() };
            let state = admin.get_budget(budget).await?.into_inner().state.ok_or("no state")?;
            let now = state.waiting as usize + state.in_flight as usize;
            if now >= all {
                return Ok(());
            }
            if state.refused_total > 0 {
                return Err(format!("{} were refused", state.refused_total).into());
            }
            if !sessions.ended.is_empty() {
                return Err(sessions.why().await);
            }
            if now == known {
                eprintln!("{now} of {all} are there");
            }
            known = now;
            sleep(PAUSE).await;
        }
    }
}

impl Sessions {
    /// Why the first of those that ended did.
    async fn why(&mut self) -> Error {
        let why = self.ended.recv().await;
        format!("a session ended: {}", why.as_deref().unwrap_or("nobody knows why")).into()
    }
}

fn waiting(tenant: usize, request_id: u64) -> AcquireRequest {
    AcquireRequest {
        provider: "siege".into(),
        key: "crowd".into(),
        tokens: 1_200,
        model: "claude-sonnet-4-5".into(),
        tenant: format!("tenant-{tenant}"),
        request_id,
        ..AcquireRequest::default()
    }
}

impl fmt::Display for Crowded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Crowd { connections, in_flight, waiting, polite } = self.crowd;
        let [empty, connected, granted, full] = self.resident.map(|bytes| bytes as f64 / 1_048_576.0);
        let [before, beside] = self.waits;
        writeln!(f, "server's memory: {empty:.0} MiB empty")?;
        writeln!(f, "                 {connected:.0} MiB with {connections} connections and sessions")?;
        writeln!(f, "                 {granted:.0} MiB with {in_flight} permits in flight")?;
        writeln!(f, "                 {full:.0} MiB with {waiting} requests waiting in them")?;
        writeln!(f, "polite client, {:.0} items a second on a connection of its own", polite.rate)?;
        writeln!(f, "                 p50 {:?}  p99 {:?} alone", before.p50, before.p99)?;
        write!(f, "                 p50 {:?}  p99 {:?} beside the crowd", beside.p50, beside.p99)
    }
}
