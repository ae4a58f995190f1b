//! Questions and answers, one permit after the other: as fast as they are answered, and at a fixed rate.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::{runtime, sync::mpsc, task::JoinSet};

use super::{Asked, Asker};
use crate::bench::{
    Error, Plan,
    cpu::LOAD_THREAD,
    latency::{STEP, WAIT_MAX_NANOS, tell_time},
    load::Counted,
};

/// What one turn came to.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Answered {
    pub(in crate::bench) permits: u64,
    pub(in crate::bench) taken: Duration,
    /// CPU of the server; `None` if nobody knows its process.
    pub(in crate::bench) server: Option<Duration>,
}

/// Questions that are due on one connection and not yet asked; further ones are late, and counted so.
const DUE_MAX: usize = 65_536;

/// A closed loop: everybody asks again as soon as there is an answer.
///
/// # Errors
/// If a permit is not granted.
pub(in crate::bench) fn closed(asked: Asked<'_>, plan: &Plan) -> Result<Answered, Error> {
    let counted = Arc::new(Counted::default());
    thread::scope(|scope| {
        let threads = on_threads(scope, plan, |numbers| closed_on(asked, plan, numbers, &counted))?;
        thread::sleep(plan.turn / 5);
        let (before, started, cpu) = (counted.items(), Instant::now(), asked.cpu()?);
        thread::sleep(plan.turn);
        let answered = Answered {
            permits: counted.items() - before,
            taken: started.elapsed(),
            server: asked.cpu()?.zip(cpu).map(|(now, before)| now.saturating_sub(before)),
        };
        counted.over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| "a load thread panicked")??;
        }
        Ok(answered)
    })
}

/// An open loop: so many permits a second are asked for, whatever became of those before. Waits count from when they were due, in
/// nanoseconds.
///
/// # Errors
/// If a permit is not granted.
pub(in crate::bench) fn open(asked: Asked<'_>, plan: &Plan, rate: f64) -> Result<Histogram<u64>, Error> {
    let from = Instant::now() + plan.turn / 5;
    thread::scope(|scope| {
        let threads = on_threads(scope, plan, |numbers| open_on(asked, plan, numbers, rate, from))?;
        let mut waits = Histogram::new_with_max(WAIT_MAX_NANOS, 3)?;
        for thread in threads {
            waits.add(thread.join().map_err(|_| "a load thread panicked")??)?;
        }
        Ok(waits)
    })
}

type Threads<'scope, T> = Vec<thread::ScopedJoinHandle<'scope, Result<T, Error>>>;

/// A thread for each core, each with its part of the connections.
fn on_threads<'scope, 'env, T: Send + 'scope, F>(
    scope: &'scope thread::Scope<'scope, 'env>,
    plan: &Plan,
    load: impl Fn(Vec<usize>) -> F + Clone + Send + 'scope,
) -> Result<Threads<'scope, T>, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let loaders = thread::available_parallelism().map_or(1, usize::from).min(plan.connections);
    let mut threads = Vec::new();
    for loader in 0..loaders {
        let numbers: Vec<usize> = (loader..plan.connections).step_by(loaders).collect();
        let load = load.clone();
        let run =
            move || runtime::Builder::new_current_thread().enable_all().build()?.block_on(load(numbers));
        threads.push(thread::Builder::new().name(LOAD_THREAD.to_owned()).spawn_scoped(scope, run)?);
    }
    Ok(threads)
}

async fn closed_on(
    asked: Asked<'_>,
    plan: &Plan,
    numbers: Vec<usize>,
    counted: &Arc<Counted>,
) -> Result<(), Error> {
    let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
    let question = asked.question(plan.window);
    for number in numbers {
        for asker in asked.askers(plan.window / question).await? {
            let mut keys = Keys::new(plan, number);
            let counted = Arc::clone(counted);
            tasks.spawn(async move {
                let mut asker: Asker = asker;
                loop {
                    asker.ask(keys.next(question)).await?;
                    if !counted.add(question) {
                        return Ok(());
                    }
                }
            });
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn open_on(
    asked: Asked<'_>,
    plan: &Plan,
    numbers: Vec<usize>,
    rate: f64,
    from: Instant,
) -> Result<Histogram<u64>, Error> {
    let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
    let question = asked.question(plan.window);
    let waits = Arc::new(Mutex::new(Histogram::new_with_max(WAIT_MAX_NANOS, 3)?));
    let mut clocks = Vec::new();
    for number in numbers {
        let (clock, steps) = mpsc::channel(DUE_MAX);
        let (ask, due) = mpsc::channel(DUE_MAX);
        clocks.push(clock);
        let per_step = rate * STEP.as_secs_f64() / plan.connections as f64;
        tasks.spawn(ask_in_time(steps, ask, per_step, question));
        let due = Arc::new(tokio::sync::Mutex::new(due));
        for mut asker in asked.askers(plan.window / question).await? {
            let (due, waits, mut keys) = (Arc::clone(&due), Arc::clone(&waits), Keys::new(plan, number));
            tasks.spawn(async move {
                loop {
                    let next: Option<(Instant, usize)> = due.lock().await.recv().await;
                    let Some((since, permits)) = next else { return Ok(()) };
                    let granted = asker.ask(keys.next(permits)).await?;
                    if since >= from {
                        let nanos = granted.saturating_duration_since(since).as_nanos() as u64;
                        waits.lock().saturating_record_n(nanos, permits as u64);
                    }
                }
            });
        }
    }
    let until = from + plan.turn;
    thread::Builder::new().name(LOAD_THREAD.to_owned()).spawn(move || tell_time(until, &clocks))?;
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let waits = waits.lock().clone();
    Ok(waits)
}

/// Has so many permits asked for in each step, the fraction being carried over, by questions of at most so many.
async fn ask_in_time(
    mut steps: mpsc::Receiver<Instant>,
    ask: mpsc::Sender<(Instant, usize)>,
    per_step: f64,
    question: usize,
) -> Result<(), Error> {
    let mut carried = 0.0;
    while let Some(due) = steps.recv().await {
        carried += per_step;
        let mut left = carried as usize;
        carried -= left as f64;
        while left > 0 {
            let part = left.min(question);
            left -= part;
            ask.send((due, part)).await?;
        }
    }
    Ok(())
}

/// The budgets that one asks for, which go round.
struct Keys {
    next: usize,
    budgets: usize,
    asked: Vec<usize>,
}

impl Keys {
    /// Connections begin at budgets of their own.
    fn new(plan: &Plan, number: usize) -> Self {
        let next = number * plan.budgets / plan.connections;
        Self { next, budgets: plan.budgets, asked: Vec::new() }
    }

    fn next(&mut self, number: usize) -> &[usize] {
        let Self { next, budgets, asked } = self;
        asked.clear();
        asked.extend((*next..*next + number).map(|key| key % *budgets));
        *next = (*next + number) % *budgets;
        asked
    }
}
