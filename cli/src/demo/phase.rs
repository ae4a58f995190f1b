//! One phase: the same fleet with the same work, getting its calls through in one way, observed until it is done or out of time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use permitd_lab::provider::{Provider, Stats};
use tokio::{
    net::TcpListener,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    fleet::Fleet,
    measure::{Figures, Observed, Sample, Wait, figures},
    protocol::{Assignment, Order, Progress, Said, Way},
    scenario::{ClientSpec, Scenario},
    screen::{Row, Screen, View},
};
use crate::failure::Failure;

/// How often the provider's counters are read.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// How long clients may take to say their last words.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// The simulated provider, on a port of its own.
#[derive(Debug)]
pub(crate) struct Simulator {
    address: SocketAddr,
    http: reqwest::Client,
}

impl Simulator {
    /// Starts it on this process's runtime.
    pub(crate) async fn start(scenario: &Scenario) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::new("can't start the simulated provider").because(error);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tokio::spawn(Provider::serve(scenario.provider(), listener, std::future::pending()));
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.map_err(|error| Failure::new("can't make an HTTP client").because(error))?;
        Ok(Self { address, http })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn reset(&self) -> Result<(), Failure> {
        let answer = self.http.post(self.url("/sim/reset")).send().await;
        answer.and_then(reqwest::Response::error_for_status).map(drop).map_err(lost)
    }

    async fn stats(&self) -> Result<Stats, Failure> {
        let answer = self.http.get(self.url("/sim/stats")).send().await;
        answer.and_then(reqwest::Response::error_for_status).map_err(lost)?.json().await.map_err(lost)
    }
}

/// Runs one phase for at most that long and gives its figures.
pub(crate) async fn run(
    scenario: &Scenario,
    simulator: &Simulator,
    way: Way,
    at_most: Duration,
    screen: &mut Screen,
) -> Result<Figures, Failure> {
    let assign = |client: &ClientSpec| Assignment {
        client: client.clone(),
        provider: simulator.url(""),
        way: way.clone(),
    };
    let mut fleet = Fleet::start(scenario.clients.iter().map(assign).collect()).await?;
    simulator.reset().await?;
    let mut phase = Phase::new(scenario);
    fleet.order(&Order::Go).await;
    phase.observe(&mut fleet, simulator, at_most, screen).await?;
    let wall = phase.began.elapsed();
    fleet.order(&Order::Stop).await;
    let finished = timeout(FINISH_WITHIN, phase.collect(&mut fleet)).await;
    finished.map_err(|_| Failure::new("the demo's clients do not stop"))??;
    phase.sample(simulator).await?;
    Ok(phase.figures(wall))
}

/// What is known of a phase while it runs.
#[derive(Debug)]
struct Phase<'a> {
    scenario: &'a Scenario,
    began: Instant,
    samples: Vec<Sample>,
    progress: Vec<Progress>,
    finished: Vec<bool>,
    waits: Vec<Wait>,
}

impl<'a> Phase<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let clients = scenario.clients.len();
        Self {
            scenario,
            began: Instant::now(),
            samples: Vec::new(),
            progress: vec![Progress::default(); clients],
            finished: vec![false; clients],
            waits: Vec::new(),
        }
    }

    /// Until all batch clients are done, or time is up.
    async fn observe(
        &mut self,
        fleet: &mut Fleet,
        simulator: &Simulator,
        at_most: Duration,
        screen: &mut Screen,
    ) -> Result<(), Failure> {
        let mut ticks = interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.batch_is_done() && self.began.elapsed() < at_most {
            tokio::select! {
                _ = ticks.tick() => {
                    self.sample(simulator).await?;
                    screen.draw(&self.view());
                }
                said = fleet.next() => {
                    let (at, said) = said?;
                    self.hear(at, said);
                }
            }
        }
        screen.leave(&self.view());
        Ok(())
    }

    /// The last words of everybody.
    async fn collect(&mut self, fleet: &mut Fleet) -> Result<(), Failure> {
        while self.finished.contains(&false) {
            let (at, said) = fleet.next().await?;
            self.hear(at, said);
        }
        Ok(())
    }

    fn hear(&mut self, at: usize, said: Said) {
        match said {
            Said::Progress(progress) => self.progress[at] = progress,
            Said::Finished { progress, waits } => {
                self.progress[at] = progress;
                self.finished[at] = true;
                self.waits.extend(waits);
            }
            Said::Ready | Said::Failed(_) => {}
        }
    }

    fn batch_is_done(&self) -> bool {
        let clients = self.scenario.clients.iter().zip(&self.finished);
        clients.filter(|(client, _)| client.calls().is_some()).all(|(_, finished)| *finished)
    }

    async fn sample(&mut self, simulator: &Simulator) -> Result<(), Failure> {
        let stats = simulator.stats().await?;
        let admitted = |name: &str| stats.clients.get(name).map_or(0, |counters| counters.admitted);
        let left = self.batch().map(|(client, calls)| calls.saturating_sub(admitted(&client.name))).collect();
        self.samples.push(Sample { at: self.began.elapsed(), stats, left });
        Ok(())
    }

    fn batch(&self) -> impl Iterator<Item = (&ClientSpec, u64)> {
        self.scenario.clients.iter().filter_map(|client| Some((client, client.calls()?)))
    }

    fn figures(&self, wall: Duration) -> Figures {
        let batch_clients: Vec<String> = self.batch().map(|(client, _)| client.name.clone()).collect();
        let done = self.scenario.clients.iter().zip(&self.progress);
        let done =
            done.filter(|(client, _)| client.calls().is_some()).map(|(_, progress)| progress.done).sum();
        figures(&Observed {
            samples: &self.samples,
            batch_clients: &batch_clients,
            waits: &self.waits,
            wall,
            done,
            wanted: self.batch().map(|(_, calls)| calls).sum(),
        })
    }

    fn view(&self) -> View<'_> {
        let clients = self.scenario.clients.iter().zip(&self.progress);
        let rows = clients.map(|(client, progress)| Row {
            name: &client.name,
            calls: client.calls(),
            progress: *progress,
        });
        View { elapsed: self.began.elapsed(), rows: rows.collect(), samples: &self.samples }
    }
}

fn lost(error: reqwest::Error) -> Failure {
    Failure::new("the simulated provider does not answer").because(crate::failure::root_cause(&error))
}
