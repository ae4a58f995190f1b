//! A client process of the demo: takes orders on stdin, makes its calls, tells its progress on stdout.

use std::{
    io::{BufRead as _, Write as _},
    pin::pin,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    backoff,
    measure::Wait,
    permits::Permits,
    protocol::{Assignment, Order, Progress, Said, Way},
    provider_call::{Answer, ProviderClient},
    scenario::{ClientSpec, Work},
};

/// How often a client tells where it stands.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// How long a client waits for its next order before the phase begins.
const ORDERS_WITHIN: Duration = Duration::from_secs(60);
/// How long the interactive client's last call may take to end after the phase did.
const LAST_CALL: Duration = Duration::from_secs(2);

/// Runs until the work is done, the demo says stop, or the demo is gone.
pub(crate) async fn run() -> process::ExitCode {
    match work(&mut orders()).await {
        Ok(finished) => {
            say(&finished);
            process::ExitCode::SUCCESS
        }
        Err(failure) => {
            say(&Said::Failed(failure.to_string()));
            process::ExitCode::FAILURE
        }
    }
}

/// Why a client can't go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("the provider can't be reached: {0}")]
    Provider(#[from] reqwest::Error),
    #[error("permitd: {0}")]
    Permitd(#[from] permitd_client::Error),
    #[error("the provider answered {status}: {body}")]
    Unexpected { status: u16, body: String },
    #[error("no {0} came from the demo; this command is for its use only, try `permitd demo`")]
    NoOrder(&'static str),
}

impl WorkerError {
    pub(crate) fn unexpected(answer: &Answer) -> Self {
        Self::Unexpected { status: answer.status, body: answer.body.chars().take(300).collect() }
    }
}

/// Counts one call as it goes along, and itself out when it ends, however it does.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    board: &'a Board,
    wanted: Instant,
    set_out: Option<Instant>,
    in_flight: bool,
}

impl Attempt<'_> {
    /// The call goes to the provider now.
    pub(crate) fn sets_out(&mut self) {
        self.set_out = Some(Instant::now());
        self.in_flight = true;
        self.board.in_flight.fetch_add(1, Relaxed);
    }

    /// The provider answered.
    pub(crate) fn is_answered(&mut self, status: u16) {
        self.lands();
        self.board.limited.fetch_add(u64::from(status == 429), Relaxed);
    }

    fn lands(&mut self) {
        if std::mem::take(&mut self.in_flight) {
            self.board.in_flight.fetch_sub(1, Relaxed);
        }
    }

    /// From wanting to call until the last time it set out.
    fn waited(&self) -> Duration {
        self.set_out.unwrap_or_else(Instant::now) - self.wanted
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.lands();
        self.board.wanted.fetch_sub(1, Relaxed);
    }
}

/// Where all slots of this client stand.
#[derive(Debug, Default)]
struct Board {
    next: AtomicU64,
    done: AtomicU64,
    /// Calls begun and not done, in flight or not.
    wanted: AtomicU64,
    in_flight: AtomicU64,
    limited: AtomicU64,
}

impl Board {
    fn attempt(&self) -> Attempt<'_> {
        self.wanted.fetch_add(1, Relaxed);
        Attempt { board: self, wanted: Instant::now(), set_out: None, in_flight: false }
    }

    fn progress(&self) -> Progress {
        let in_flight = self.in_flight.load(Relaxed);
        Progress {
            done: self.done.load(Relaxed),
            waiting: self.wanted.load(Relaxed).saturating_sub(in_flight),
            in_flight,
            limited: self.limited.load(Relaxed),
        }
    }
}

/// How calls are made.
#[derive(Clone, Debug)]
struct Caller {
    spec: ClientSpec,
    provider: ProviderClient,
    permits: Option<Permits>,
}

impl Caller {
    async fn prepare(assignment: Assignment) -> Result<Self, WorkerError> {
        let Assignment { client: spec, provider, way } = assignment;
        let provider = ProviderClient::new(&provider, &spec.name)?;
        let permits = match way {
            Way::Backoff => None,
            Way::Permits { server, budget } => Some(Permits::connect(&server, &budget, &spec).await?),
        };
        Ok(Self { spec, provider, permits })
    }

    async fn make(&self, number: u64, attempt: &mut Attempt<'_>) -> Result<(), WorkerError> {
        let call = self.spec.call(number);
        match &self.permits {
            Some(permits) => permits.make(&self.provider, &call, attempt).await?,
            None => backoff::make(&self.provider, &call, self.spec.seed, attempt).await?,
        }
        attempt.board.done.fetch_add(1, Relaxed);
        Ok(())
    }
}

async fn work(orders: &mut mpsc::Receiver<Order>) -> Result<Said, WorkerError> {
    let Ok(Some(Order::Prepare(assignment))) = timeout(ORDERS_WITHIN, orders.recv()).await else {
        return Err(WorkerError::NoOrder("assignment"));
    };
    let caller = Caller::prepare(*assignment).await?;
    say(&Said::Ready);
    let Ok(Some(Order::Go)) = timeout(ORDERS_WITHIN, orders.recv()).await else {
        return Err(WorkerError::NoOrder("go"));
    };
    let board = Arc::new(Board::default());
    let mut waits = Vec::new();
    tokio::select! {
        made = make_all(&caller, &board, &mut waits, orders) => made?,
        () = tell(&board) => {}
    }
    Ok(Said::Finished { progress: board.progress(), waits })
}

/// Makes the client's calls until there are no more or an order comes, which can only be to stop.
async fn make_all(
    caller: &Caller,
    board: &Arc<Board>,
    waits: &mut Vec<Wait>,
    orders: &mut mpsc::Receiver<Order>,
) -> Result<(), WorkerError> {
    match caller.spec.work {
        Work::Batch { calls, slots } => {
            tokio::select! {
                made = batch(caller, board, calls, slots) => made,
                _ = orders.recv() => Ok(()),
            }
        }
        Work::Interactive => {
            let began = Instant::now();
            let (stop, stopped) = watch::channel(());
            let outcome = {
                let mut calling = pin!(interactive(caller, board, began, waits, stopped));
                tokio::select! {
                    made = &mut calling => made,
                    _ = orders.recv() => {
                        drop(stop);
                        timeout(LAST_CALL, calling).await.unwrap_or(Ok(()))
                    }
                }
            };
            close_last(waits, began.elapsed());
            outcome
        }
    }
}

async fn tell(board: &Board) {
    let mut ticks = interval(PROGRESS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        say(&Said::Progress(board.progress()));
    }
}

/// So many slots, each of which takes the next call when it has made one.
async fn batch(caller: &Caller, board: &Arc<Board>, calls: u64, slots: u32) -> Result<(), WorkerError> {
    let mut running: JoinSet<Result<(), WorkerError>> = JoinSet::new();
    for _ in 0..slots {
        let (caller, board) = (caller.clone(), Arc::clone(board));
        running.spawn(async move {
            loop {
                let number = board.next.fetch_add(1, Relaxed);
                if number >= calls {
                    return Ok(());
                }
                caller.make(number, &mut board.attempt()).await?;
            }
        });
    }
    while let Some(slot) = running.join_next().await {
        slot.expect("a slot does not panic")?;
    }
    Ok(())
}

/// One call after the other with a pause between them, as somebody at a screen makes them. The wait that is going on is the last
/// of `waits`, as cut off until it ends.
async fn interactive(
    caller: &Caller,
    board: &Board,
    began: Instant,
    waits: &mut Vec<Wait>,
    mut stopped: watch::Receiver<()>,
) -> Result<(), WorkerError> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(caller.spec.seed);
    for number in 0.. {
        tokio::select! {
            () = sleep(Duration::from_millis(random.random_range(250..650))) => {}
            _ = stopped.changed() => return Ok(()),
        }
        let mut attempt = board.attempt();
        let wanted_at_us = micros(attempt.wanted - began);
        waits.push(Wait { wanted_at_us, waited_us: 0, cut_off: true });
        caller.make(number, &mut attempt).await?;
        waits.pop();
        waits.push(Wait { wanted_at_us, waited_us: micros(attempt.waited()), cut_off: false });
    }
    Ok(())
}

/// A wait that the end of the phase cut off lasted until then, at least.
fn close_last(waits: &mut [Wait], ended: Duration) {
    if let Some(last) = waits.last_mut().filter(|last| last.cut_off) {
        last.waited_us = micros(ended).saturating_sub(last.wanted_at_us);
    }
}

/// Orders from stdin. At its end there is nobody left to work for, so the process ends.
fn orders() -> mpsc::Receiver<Order> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { break };
            if sender.blocking_send(order).is_err() {
                return;
            }
        }
        process::exit(0);
    });
    receiver
}

fn say(said: &Said) {
    let line = serde_json::to_string(said).expect("plain data is always JSON");
    // A demo that does not listen any more ends this process through its stdin.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_itself_out_however_it_ends() {
        let board = Board::default();
        let mut attempt = board.attempt();
        assert_eq!((board.progress().waiting, board.progress().in_flight), (1, 0));
        attempt.sets_out();
        attempt.is_answered(429);
        assert_eq!((board.progress().waiting, board.progress().limited), (1, 1));
        attempt.sets_out();
        assert_eq!((board.progress().waiting, board.progress().in_flight), (0, 1));
        drop(attempt);
        assert_eq!(board.progress(), Progress { limited: 1, ..Progress::default() });
    }

    #[test]
    fn a_wait_that_was_cut_off_lasted_until_the_end() {
        let mut waits = [Wait { wanted_at_us: 1_000, waited_us: 0, cut_off: true }];
        close_last(&mut waits, Duration::from_micros(5_000));
        assert_eq!(waits[0], Wait { wanted_at_us: 1_000, waited_us: 4_000, cut_off: true });
    }
}
