//! One language's driver in a process of its own: commands go in, events come out, and every event has to be looked at.

use std::{collections::VecDeque, path::PathBuf, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::{case::Fields, expect::mismatch, language::Language};

/// How long anything may take before a case is given up. Nothing is measured by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of what a driver says on stderr that are kept: the last ones.
const STDERR_BYTES_MAX: usize = 16 * 1024;

/// A driver under way. Dropped, it is killed.
pub(crate) struct Driver {
    child: Child,
    commands: Option<ChildStdin>,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
    unseen: VecDeque<Fields>,
    stderr: JoinHandle<String>,
    trace: Vec<String>,
}

impl Driver {
    /// Starts the language's driver.
    ///
    /// # Errors
    /// Why it can't be started.
    pub(crate) fn start(language: &Language) -> Result<Self, String> {
        let run: PathBuf = language.run();
        let mut child = Command::new(&run)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", run.display()))?;
        let commands = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("piped above")).lines();
        let mut pipe = child.stderr.take().expect("piped above");
        let stderr = tokio::spawn(async move {
            let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
                kept.extend_from_slice(&buffer[..read]);
                kept.drain(..kept.len().saturating_sub(STDERR_BYTES_MAX));
            }
            String::from_utf8_lossy(&kept).into_owned()
        });
        Ok(Self { child, commands, lines, unseen: VecDeque::new(), stderr, trace: Vec::new() })
    }

    /// Sends a command.
    ///
    /// # Errors
    /// The driver is gone.
    pub(crate) async fn tell(&mut self, command: &Fields) -> Result<(), String> {
        let mut line = Value::Object(command.clone()).to_string();
        self.trace.push(format!("> {line}"));
        line.push('\n');
        let commands = self.commands.as_mut().ok_or("the driver was closed before")?;
        let sent = timeout(PATIENCE, commands.write_all(line.as_bytes())).await;
        let sent = sent.map_err(|_| "the driver does not read its commands".to_owned())?;
        sent.map_err(|error| format!("the driver is gone: {error}"))
    }

    /// The next event of that id has to be this one; without an id, the next of that name.
    ///
    /// # Errors
    /// What came instead, or that nothing came.
    pub(crate) async fn see(&mut self, event: &str, id: Option<&str>, fields: &Fields) -> Result<(), String> {
        let wanted = |found: &Fields| match id {
            Some(id) => said(found, "id") == id,
            None => said(found, "event") == event,
        };
        let what = id.map_or_else(|| event.to_owned(), |id| format!("{event} of {id}"));
        let found = self.next(&what, wanted).await?;
        if said(&found, "event") != event {
            return Err(format!("{what} has to come, and there is {}", Value::Object(found)));
        }
        mismatch(fields, &found).map_or(Ok(()), |problem| Err(format!("{what}: {problem}")))
    }

    /// The next event of that id, whatever it is.
    ///
    /// # Errors
    /// Nothing came.
    pub(crate) async fn answer(&mut self, id: &str) -> Result<Fields, String> {
        self.next(&format!("an answer to {id}"), |found| said(found, "id") == id).await
    }

    /// The next events of that name come in this order of ids.
    ///
    /// # Errors
    /// What came instead, or that nothing came.
    pub(crate) async fn order(&mut self, event: &str, ids: &[String]) -> Result<(), String> {
        for id in ids {
            let what = format!("{event} of {id}");
            let found = self.next(&what, |found| said(found, "event") == event).await?;
            if said(&found, "id") != id {
                return Err(format!("{what} has to come next, and there is {}", Value::Object(found)));
            }
        }
        Ok(())
    }

    /// The end: after `closed`, the process ends by itself with 0, and has nothing left to say.
    ///
    /// # Errors
    /// What is left.
    pub(crate) async fn end(&mut self) -> Result<(), String> {
        self.commands = None;
        while let Some(found) = self.read("the end of the driver").await? {
            self.unseen.push_back(found);
        }
        if let Some(unseen) = self.unseen.pop_front() {
            return Err(format!("nothing more may come, and there is {}", Value::Object(unseen)));
        }
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status =
            ended.map_err(|_| "the process does not end after closed")?.map_err(|e| e.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("the process ended badly: {status}")) }
    }

    /// What was said, both ways, and what is on stderr; for failures.
    pub(crate) async fn story(mut self) -> String {
        // It may be gone already.
        let _ = self.child.start_kill();
        let stderr = timeout(PATIENCE, self.stderr).await.ok().and_then(Result::ok).unwrap_or_default();
        let mut story = self.trace;
        story.extend(stderr.lines().map(|line| format!("! {line}")));
        story.join("\n")
    }

    async fn next(&mut self, what: &str, wanted: impl Fn(&Fields) -> bool) -> Result<Fields, String> {
        if let Some(at) = self.unseen.iter().position(&wanted) {
            return Ok(self.unseen.remove(at).expect("just found"));
        }
        loop {
            match self.read(what).await? {
                Some(found) if wanted(&found) => return Ok(found),
                Some(found) if said(&found, "event") == "unknown" => {
                    return Err(format!("the driver does not know the command {}", said(&found, "op")));
                }
                Some(found) => self.unseen.push_back(found),
                None => return Err(format!("the driver ended before {what}")),
            }
        }
    }

    async fn read(&mut self, what: &str) -> Result<Option<Fields>, String> {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.map_err(|_| self.in_vain(what))?.map_err(|error| error.to_string())?;
        let Some(line) = line else { return Ok(None) };
        self.trace.push(format!("< {line}"));
        match serde_json::from_str(&line) {
            Ok(Value::Object(found)) => Ok(Some(found)),
            _ => Err(format!("stdout is for events, and there is {line:?}")),
        }
    }

    fn in_vain(&self, what: &str) -> String {
        let unseen: Vec<String> =
            self.unseen.iter().map(|found| Value::Object(found.clone()).to_string()).collect();
        let unseen = if unseen.is_empty() { "nothing".to_owned() } else { unseen.join(", ") };
        format!("waited in vain for {what}; what came and was not asked for: {unseen}")
    }
}

/// What an event says under that name, if it is text.
pub(crate) fn said<'a>(event: &'a Fields, name: &str) -> &'a str {
    event.get(name).and_then(Value::as_str).unwrap_or_default()
}
