//! Others beside permitd: permits a second, what one costs their servers, and how long one takes at half of what each moves.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;
use tokio::runtime;

use super::{
    Error, Plan,
    peers::{Answered, Asked, Way, closed, open},
    servers::Servers,
    summary::{Figures, Latencies, median},
};
use crate::chart::{BLUE, Bars, INK, ORANGE};

/// Who is measured, and what came of it. Nobody, where no peer is named.
#[derive(Debug, Default)]
pub(super) struct Beside(Vec<Row>);

#[derive(Debug)]
struct Row {
    who: Who,
    answered: Vec<Answered>,
    waits: Vec<Histogram<u64>>,
}

#[derive(Debug)]
enum Who {
    Echo,
    Permitd,
    Peer(Way),
}

impl Who {
    fn asked(&self, servers: &Servers) -> Asked<'_> {
        match self {
            Self::Echo => Asked::Echo(servers.echo),
            Self::Permitd => Asked::Permitd(servers.permitd),
            Self::Peer(way) => Asked::Peer(way),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => f.write_str("bare echo, a call"),
            Self::Permitd => f.write_str("permitd, Acquire and Report"),
            Self::Peer(way) => way.fmt(f),
        }
    }
}

/// For people and for pictures.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) per_second: f64,
    /// CPU of the server for a permit, in microseconds.
    pub(super) server_micros: Option<f64>,
    /// At half of the rate.
    pub(super) half: Duration,
    pub(super) most: Duration,
}

impl Beside {
    /// # Errors
    /// If a peer's address is not known.
    pub(super) fn find(plan: &Plan) -> Result<Self, Error> {
        if plan.peers.is_empty() {
            return Ok(Self::default());
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let ways = runtime.block_on(Way::all(&plan.peers, &plan.peer_processes))?;
        let who = [Who::Echo, Who::Permitd].into_iter().chain(ways.into_iter().map(Who::Peer));
        Ok(Self(who.map(|who| Row { who, answered: Vec::new(), waits: Vec::new() }).collect()))
    }

    /// Everybody's turn as fast as it goes.
    ///
    /// # Errors
    /// If a permit is not granted.
    pub(super) fn round(
        &mut self,
        plan: &Plan,
        servers: &Servers,
        mut progress: impl FnMut(&str),
    ) -> Result<(), Error> {
        for row in &mut self.0 {
            progress(&row.who.to_string());
            let answered = closed(row.who.asked(servers), plan);
            row.answered.push(answered.map_err(|error| format!("{}: {error}", row.who))?);
        }
        Ok(())
    }

    /// Everybody's turn at half of what it moved.
    ///
    /// # Errors
    /// If a permit is not granted.
    pub(super) fn wait(&mut self, plan: &Plan, servers: &Servers) -> Result<(), Error> {
        for row in &mut self.0 {
            let waits = open(row.who.asked(servers), plan, row.per_second() / 2.0);
            row.waits.push(waits.map_err(|error| format!("{}: {error}", row.who))?);
        }
        Ok(())
    }

    /// Nothing, where no peer was named. A session's permits are half of its items.
    pub(super) fn told(&self, figures: &Figures, latencies: &Latencies) -> Vec<Told> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let rows = self.0.iter().filter(|row| !row.answered.is_empty()).map(Row::told);
        std::iter::once(latencies.session(figures)).chain(rows).collect()
    }
}

impl Row {
    fn per_second(&self) -> f64 {
        median(self.answered.iter().map(|turn| turn.permits as f64 / turn.taken.as_secs_f64()))
    }

    fn told(&self) -> Told {
        let micros =
            self.answered.iter().map(|turn| Some(turn.server?.as_secs_f64() * 1e6 / turn.permits as f64));
        let at = |quantile| {
            let nanos = median(self.waits.iter().map(|waits| waits.value_at_quantile(quantile) as f64));
            Duration::from_nanos(nanos as u64)
        };
        Told {
            name: self.who.to_string(),
            per_second: self.per_second(),
            server_micros: micros.collect::<Option<Vec<f64>>>().map(median),
            half: at(0.5),
            most: at(0.99),
        }
    }
}

/// What they move, and what a second of their servers' CPU is good for, by the names of files.
pub(super) fn pictures(told: &[Told]) -> [(&'static str, Bars); 2] {
    let bars = |title: &str, figure: fn(&Told) -> Option<f64>| {
        let row = |told: &Told| {
            let colour = match &*told.name {
                name if name.starts_with("permitd") => BLUE,
                name if name.starts_with("bare") => INK,
                _ => ORANGE,
            };
            Some((told.name.clone(), figure(told)?, colour))
        };
        Bars { title: title.to_owned(), rows: told.iter().filter_map(row).collect() }
    };
    [
        ("bench-permits.svg", bars("Permits a second", |told| Some(told.per_second))),
        (
            "bench-cpu.svg",
            bars("Permits for a second of the server's CPU", |told| Some(1e6 / told.server_micros?)),
        ),
    ]
}

/// As lines.
pub(super) fn table(told: &[Told]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<30} {:>12} {:>18} {:>24} {:>12} {:>12}",
        "", "permits/s", "server us/permit", "permits per CPU second", "p50", "p99"
    )];
    for Told { name, per_second, server_micros, half, most } in told {
        let unknown = || "unknown".to_owned();
        let micros = server_micros.map_or_else(unknown, |micros| format!("{micros:.2}"));
        let permits = server_micros.map_or_else(unknown, |micros| format!("{:.0}", 1e6 / micros));
        lines.push(format!(
            "{name:<30} {per_second:>12.0} {micros:>18} {permits:>24} {:>12} {:>12}",
            format!("{half:.1?}"),
            format!("{most:.1?}")
        ));
    }
    lines
}
