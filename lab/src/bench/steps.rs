//! Work in lockstep: one client, one connection, one worker, each message answered before the next is sent. The same work every time, so
//! that its instructions can be counted.

use std::{future::Future, time::Duration};

use futures_util::future::try_join_all;
use permitd_budget::{
    Acquired, Budget, BudgetSpec, LimitSpec, Outcome, Priority, Report, Request, Time, Usage,
};
use permitd_proto::v1::{ReportRequest, SessionRequest, permit_service_client::PermitServiceClient};
use tokio::{runtime, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{
    Error, Plan, echo,
    load::{acquire, connect, hello, report as success, unary},
    servers::Servers,
};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Steps {
    /// The heart alone: an acquire and its report, with limits on requests, tokens and in flight.
    Heart,
    /// A session, one budget: an acquire with its grant, and a report with its answer.
    Session,
    /// A session that goes round 100 budgets.
    SessionManyBudgets,
    /// The same messages to the bare echo, and back.
    Echo,
    /// A call that acquires and then one that reports, one budget, 16 of them at a time.
    Calls,
    /// Twice the call to the bare echo.
    EchoCalls,
}

/// Acquires, and reports, in one message.
const MESSAGE: u64 = 16;

impl Steps {
    /// All of them.
    pub const ALL: [Steps; 6] = [
        Steps::Heart,
        Steps::Session,
        Steps::SessionManyBudgets,
        Steps::Echo,
        Steps::Calls,
        Steps::EchoCalls,
    ];

    /// Does it for so many acquires and reports, rounded up to whole messages.
    ///
    /// # Errors
    /// If a server can't be started or something is refused.
    pub fn run(self, pairs: u64) -> Result<(), Error> {
        let budgets = match self {
            Steps::Heart => return heart(pairs),
            Steps::SessionManyBudgets => 100,
            _ => 1,
        };
        let messages = pairs.div_ceil(MESSAGE);
        let servers = Servers::start(1, &Plan::default())?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Steps::Echo => echoes(&servers, messages).await,
                Steps::Calls => calls(connect(servers.permitd).await?, messages, unary).await,
                Steps::EchoCalls => calls(connect(servers.echo).await?, messages, echo_twice).await,
                _ => session(&servers, messages, budgets).await,
            }
        })?;
        // Dropped before the servers are stopped, so that they do not wait for its connection.
        drop(runtime);
        servers.stop();
        Ok(())
    }
}

fn heart(pairs: u64) -> Result<(), Error> {
    let minute = Duration::from_secs(60);
    let limits = vec![
        LimitSpec::rate("requests", 1 << 50, minute),
        LimitSpec::rate("tokens", 1 << 60, minute),
        LimitSpec::in_flight(1 << 40),
    ];
    let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check()?;
    let mut now = Time::from_nanos(1_700_000_000_000_000_000);
    let mut budget = Budget::new(&spec, now);
    let mut events = Vec::new();
    let report = Report { actual: Usage::of_tokens(900), ..Report::new(Outcome::Success) };
    for _ in 0..pairs {
        now += Duration::from_micros(1);
        let request = Request {
            tenant: "web",
            model: "claude-sonnet-4-5",
            priority: Priority::Standard,
            estimate: Usage::of_tokens(1_200),
            count: 1,
            max_wait: None,
            gives_up: None,
            waiter: (0_u64, 0_u64),
        };
        let Ok(Acquired::Granted(grant)) = budget.acquire(now, request, &mut events) else {
            return Err("not granted".into());
        };
        budget.report(now, grant.permit, &report, &mut events);
    }
    Ok(())
}

async fn session(servers: &Servers, messages: u64, budgets: usize) -> Result<(), Error> {
    let mut client = PermitServiceClient::new(connect(servers.permitd).await?);
    let (send, requests) = mpsc::channel(1);
    send.send(hello()).await?;
    let mut responses = client.session(ReceiverStream::new(requests)).await?.into_inner();
    responses.message().await?.ok_or("no welcome")?;
    let mut reports: Vec<ReportRequest> = Vec::new();
    for message in 0..messages {
        let acquire = (0..MESSAGE).map(|n| acquire(message * MESSAGE + n, budgets)).collect();
        let mut answers = MESSAGE as usize + reports.len();
        let report = std::mem::take(&mut reports);
        send.send(SessionRequest { acquire, report, ..SessionRequest::default() }).await?;
        while answers > 0 {
            let response = responses.message().await?.ok_or("the session ended")?;
            if let Some(refused) = response.refused.first() {
                return Err(format!("refused: {}", refused.message).into());
            }
            answers -= response.granted.len() + response.reported.len();
            let permits = response.granted.into_iter().filter_map(|granted| granted.permit);
            reports.extend(permits.map(|permit| success(permit.permit_id)));
        }
    }
    Ok(())
}

async fn echoes(servers: &Servers, messages: u64) -> Result<(), Error> {
    let (send, requests) = mpsc::channel(1);
    send.send(hello()).await?;
    let mut responses = echo::stream(connect(servers.echo).await?, ReceiverStream::new(requests)).await?;
    responses.message().await?.ok_or("no echo")?;
    for message in 0..messages {
        let acquire = (0..MESSAGE).map(|n| acquire(message * MESSAGE + n, 1)).collect();
        let report = (0..MESSAGE).map(|_| success("p1AAAAAAAAAAAAAAAAAAAAAAAAAA".into())).collect();
        send.send(SessionRequest { acquire, report, ..SessionRequest::default() }).await?;
        responses.message().await?.ok_or("the echo ended")?;
    }
    Ok(())
}

/// As many at a time as a message of a session has acquires.
async fn calls<F: Future<Output = Result<(), Error>>>(
    channel: Channel,
    rounds: u64,
    call: impl Fn(Channel) -> F,
) -> Result<(), Error> {
    for _ in 0..rounds {
        try_join_all((0..MESSAGE).map(|_| call(channel.clone()))).await?;
    }
    Ok(())
}

async fn echo_twice(channel: Channel) -> Result<(), Error> {
    let mut grpc = tonic::client::Grpc::new(channel);
    echo::call(&mut grpc, acquire(0, 1)).await?;
    Ok(echo::call(&mut grpc, acquire(0, 1)).await?)
}
