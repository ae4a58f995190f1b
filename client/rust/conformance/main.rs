//! The Rust client's conformance driver: reads commands as JSON lines, writes events as JSON lines. What they are is in
//! client/conformance/README.md.

mod events;
mod fields;
mod holdings;
mod http;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use permitd_client::{CallError, Client, Error, Report};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, stdin},
    runtime::Handle,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    events::say,
    fields::{Ask, Connect, Told},
    holdings::Holdings,
};

/// How long whatever the client had started may take to be gone after its end.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut driver = Driver {
        tasks_before: alive_tasks(),
        client: None,
        holdings: Arc::default(),
        running: JoinSet::new(),
    };
    let mut lines = BufReader::new(stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let command: Value = serde_json::from_str(&line).expect("a command in JSON");
        if command["op"] == "close" {
            break;
        }
        driver.take(command).await;
    }
    driver.close().await;
}

struct Driver {
    /// Tasks of this runtime before there was a client.
    tasks_before: usize,
    client: Option<Client>,
    holdings: Arc<Holdings>,
    running: JoinSet<()>,
}

impl Driver {
    async fn take(&mut self, command: Value) {
        let id = command["id"].as_str().unwrap_or_default().to_owned();
        match command["op"].as_str().unwrap_or_default() {
            "connect" => self.connect(read(command)).await,
            "acquire" => self.acquire(id, &read(command)),
            "several" => {
                let count = command["count"].as_u64().and_then(|count| u32::try_from(count).ok());
                self.several(id, &read(command), count.unwrap_or(0));
            }
            "cancel" => self.holdings.cancel(&id),
            "drop" => self.holdings.let_go(&id),
            "report" => self.report(id, &read(command)),
            "call" => {
                let answers = read(command["answers"].clone());
                let attempts = command["attempts"].as_u64().and_then(|attempts| u32::try_from(attempts).ok());
                self.call(id, &read(command), answers, attempts);
            }
            "many" => {
                let count = command["count"].as_u64().unwrap_or(0);
                self.many(id, read(command), count);
            }
            "http" => self.http(id, command),
            "estimate" => say(&http::estimate(&id, &command)),
            "usage" => say(&http::usage(&id, &command)),
            op => say(&json!({ "event": "unknown", "op": op })),
        }
    }

    async fn connect(&mut self, connect: Connect) {
        match connect.builder().connect().await {
            Ok(client) => {
                self.client = Some(client);
                say(&json!({ "event": "connected" }));
            }
            Err(error) => {
                say(&json!({ "event": "failed", "reason": error.reason(), "message": error.to_string() }));
            }
        }
    }

    fn acquire(&mut self, id: String, ask: &Ask) {
        let acquire = self.client().acquire(ask.request());
        let holdings = Arc::clone(&self.holdings);
        let task = self.running.spawn({
            let id = id.clone();
            async move {
                match acquire.await {
                    Ok(guard) => holdings.granted(&id, guard),
                    Err(error) => holdings.refused(&id, &error),
                }
            }
        });
        self.holdings.waits(id, task);
    }

    fn several(&mut self, id: String, ask: &Ask, count: u32) {
        let mut grants = self.client().acquire(ask.request()).many(count);
        let holdings = Arc::clone(&self.holdings);
        let task = self.running.spawn({
            let id = id.clone();
            async move {
                for number in 1.. {
                    match grants.next().await {
                        Some(Ok(guard)) => holdings.granted(&format!("{id}{number}"), guard),
                        Some(Err(error)) => return holdings.refused(&id, &error),
                        None => return holdings.complete(&id),
                    }
                }
            }
        });
        self.holdings.waits(id, task);
    }

    fn report(&mut self, id: String, told: &Told) {
        let Some(guard) = self.holdings.take(&id) else {
            // A guard is used up by its report: the language rules out another one.
            say(&json!({ "event": "repeated", "id": id }));
            return;
        };
        let reporting = guard.report(told.report());
        self.running.spawn(async move { say(&events::reported(&id, reporting.await)) });
    }

    fn call(&mut self, id: String, ask: &Ask, answers: Vec<Told>, attempts: Option<u32>) {
        let (client, request) = (self.client(), ask.request());
        let (made, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(answers));
        let mut caller = client.caller().classify(|result: &Result<Told, Told>| match result {
            Ok(told) => told.report(),
            Err(_) => Report::failed(),
        });
        if let Some(attempts) = attempts {
            caller = caller.attempts(attempts);
        }
        self.running.spawn(async move {
            let result = caller
                .call(request, |_permit| {
                    let number = made.fetch_add(1, Ordering::Relaxed);
                    let told = answers.get(number).or(answers.last()).cloned().unwrap_or_default();
                    async move { if told.raises { Err(told) } else { Ok(told) } }
                })
                .await;
            let attempts = made.load(Ordering::Relaxed);
            say(&match result {
                Ok(told) => {
                    json!({ "event": "called", "id": id, "attempts": attempts, "status": told.status })
                }
                Err(CallError::Call(_)) => json!({ "event": "raised", "id": id, "attempts": attempts }),
                Err(CallError::Permit(error)) => events::refused(&id, &error),
            });
        });
    }

    fn many(&mut self, id: String, ask: Ask, count: u64) {
        let client = self.client();
        self.running.spawn(async move {
            let mut calls = JoinSet::new();
            for _ in 0..count {
                let acquire = client.acquire(ask.request());
                calls.spawn(async move {
                    acquire.await?.report(Report::success()).await?;
                    Ok::<(), Error>(())
                });
            }
            let (mut granted, mut refused) = (0, 0);
            while let Some(call) = calls.join_next().await {
                match call.expect("no panic") {
                    Ok(()) => granted += 1,
                    Err(_) => refused += 1,
                }
            }
            say(&json!({ "event": "many", "id": id, "granted": granted, "refused": refused }));
        });
    }

    fn http(&mut self, id: String, command: Value) {
        let (client, ask) = (self.client(), read::<Ask>(command.clone()));
        self.running.spawn(async move { say(&http::call(id, client, ask.request(), &command).await) });
    }

    async fn close(mut self) {
        self.holdings.let_all_go();
        if let Some(client) = self.client.take() {
            client.close().await;
        }
        while self.running.join_next().await.is_some() {}
        // Connections end in tasks of their own, a moment later.
        let gone = async {
            while alive_tasks() > self.tasks_before {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout(LEAVE_PATIENCE, gone).await;
        say(&json!({ "event": "closed", "leaked": alive_tasks().saturating_sub(self.tasks_before) }));
        std::process::exit(0);
    }

    fn client(&self) -> Client {
        self.client.clone().expect("connect comes first")
    }
}

fn read<T: serde::de::DeserializeOwned>(command: Value) -> T {
    serde_json::from_value(command).expect("a command as the protocol has it")
}

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}
