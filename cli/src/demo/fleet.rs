//! The client processes of one phase. They end with it, whatever becomes of the demo: dropping a fleet kills them, and a client
//! whose stdin closes ends itself.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    time::timeout,
};

use super::protocol::{Assignment, Order, Said};
use crate::failure::Failure;

/// How long all clients may take to get ready.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Reports that may wait to be read.
const REPORTS_MAX: usize = 256;

/// The clients of one phase, each a process.
#[derive(Debug)]
pub(crate) struct Fleet {
    members: Vec<Member>,
    reports: mpsc::Receiver<(usize, Said)>,
}

#[derive(Debug)]
struct Member {
    stdin: ChildStdin,
    /// Kills the process when it is dropped.
    _child: Child,
}

impl Fleet {
    /// Starts a process for every assignment and waits until all are ready to go.
    pub(crate) async fn start(assignments: Vec<Assignment>) -> Result<Self, Failure> {
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        let mut fleet = Self { members: Vec::with_capacity(assignments.len()), reports };
        for (at, assignment) in assignments.into_iter().enumerate() {
            let mut child = spawn()?;
            let pipes = child.stdin.take().zip(child.stdout.take());
            let (stdin, stdout) = pipes.expect("both are piped");
            tokio::spawn(listen(at, stdout, sender.clone()));
            let mut member = Member { stdin, _child: child };
            member.order(&Order::Prepare(Box::new(assignment))).await?;
            fleet.members.push(member);
        }
        let all_ready = async {
            for _ in 0..fleet.members.len() {
                match fleet.reports.recv().await {
                    Some((_, Said::Ready)) => {}
                    Some((at, said)) => return Err(unexpected(at, &said)),
                    None => return Err(Failure::new("the demo's clients are gone")),
                }
            }
            Ok(())
        };
        match timeout(READY_WITHIN, all_ready).await {
            Ok(ready) => ready.map(|()| fleet),
            Err(_) => Err(Failure::new("the demo's clients took too long to start")
                .hint("try again on a less busy machine")),
        }
    }

    /// Tells every client that is still there.
    pub(crate) async fn order(&mut self, order: &Order) {
        for member in &mut self.members {
            // A client that is done has closed its end.
            let _ = member.order(order).await;
        }
    }

    /// What some client says next, and which. Failures of clients are failures of the demo.
    pub(crate) async fn next(&mut self) -> Result<(usize, Said), Failure> {
        match self.reports.recv().await {
            Some((at, said @ (Said::Failed(_) | Said::Ready))) => Err(unexpected(at, &said)),
            Some(report) => Ok(report),
            None => Err(Failure::new("the demo's clients are gone")),
        }
    }
}

impl Member {
    async fn order(&mut self, order: &Order) -> Result<(), Failure> {
        let line = serde_json::to_string(order).expect("plain data is always JSON") + "\n";
        let written = self.stdin.write_all(line.as_bytes()).await;
        written.map_err(|error| Failure::new("a client of the demo does not listen").because(error))
    }
}

fn spawn() -> Result<Child, Failure> {
    let failed = |error: std::io::Error| Failure::new("can't start a client of the demo").because(error);
    let binary = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(binary);
    command.arg("demo-client").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(failed)
}

/// Passes on what one client says, and that it ended without saying so.
async fn listen(at: usize, stdout: ChildStdout, reports: mpsc::Sender<(usize, Said)>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let said = serde_json::from_str(&line).unwrap_or_else(|_| Said::Failed(format!("it said {line:?}")));
        let last = matches!(said, Said::Finished { .. } | Said::Failed(_));
        if reports.send((at, said)).await.is_err() || last {
            return;
        }
    }
    // A phase that is over does not listen any more.
    let _ = reports.send((at, Said::Failed("it ended early".to_owned()))).await;
}

fn unexpected(at: usize, said: &Said) -> Failure {
    let failure = Failure::new(format!("client {} of the demo can't go on", at + 1));
    match said {
        Said::Failed(why) => failure.because(why),
        said => failure.because(format!("it said {said:?} at the wrong time")),
    }
}
