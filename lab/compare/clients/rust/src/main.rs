//! A client process of the comparison: takes its jobs from stdin, makes each as a call with a permit, and says at the end when each
//! was wanted, set out and ended. The lines are those of `lab/compare/compare/client.py`.

mod jobs;
mod make;

use std::{
    collections::VecDeque,
    io::BufRead as _,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinSet, time::sleep_until};

use self::{
    jobs::{Assignment, Job, Record, Role},
    make::{Caller, ClientError},
};

#[tokio::main]
async fn main() -> ExitCode {
    // Nothing here speaks TLS, but the HTTP client wants to know how before it is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("permitd-compare-client: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), ClientError> {
    let mut lines = orders();
    let assignment: Assignment = serde_json::from_str(&order(&mut lines).await?)?;
    let caller = Caller::connect(&assignment).await?;
    println!("ready");
    order(&mut lines).await?;
    let record = Arc::new(Mutex::new(Record::new(Instant::now())));
    let work = make_all(&caller, assignment, &record);
    tokio::select! {
        made = work => made?,
        stopped = order(&mut lines) => drop(stopped?),
    }
    println!("{}", serde_json::to_string(&*jobs::locked(&record))?);
    Ok(())
}

/// Lines of stdin.
fn orders() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn order(lines: &mut mpsc::Receiver<String>) -> Result<String, ClientError> {
    lines.recv().await.ok_or(ClientError::NoOrder)
}

/// Makes jobs until it is stopped: those for somebody who waits at their time, the others so many at once.
async fn make_all(
    caller: &Caller,
    assignment: Assignment,
    record: &Arc<Mutex<Record>>,
) -> Result<(), ClientError> {
    let mut running = JoinSet::new();
    let jobs: VecDeque<(usize, Job)> = assignment.jobs.into_iter().enumerate().collect();
    match assignment.role {
        Role::Interactive => {
            let began = jobs::locked(record).began();
            for (number, job) in jobs {
                sleep_until((began + Duration::from_millis(job.at_ms.unwrap_or(0))).into()).await;
                let (caller, record) = (caller.clone(), Arc::clone(record));
                running.spawn(async move { caller.make(number, &job, &record).await });
            }
        }
        Role::Batch => {
            let jobs = Arc::new(Mutex::new(jobs));
            for _ in 0..assignment.slots {
                let (caller, record, jobs) = (caller.clone(), Arc::clone(record), Arc::clone(&jobs));
                running.spawn(async move {
                    while let Some((number, job)) = jobs::next(&jobs) {
                        caller.make(number, &job, &record).await?;
                    }
                    Ok(())
                });
            }
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a slot does not panic")?;
    }
    // There is nothing left to do but to be told to stop.
    std::future::pending().await
}
