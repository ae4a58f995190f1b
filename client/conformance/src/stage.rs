//! What is around the client in one case: servers, a proxy, something that is no server, a provider, other clients; and what is
//! known of them.

use std::{collections::HashMap, fmt::Write as _, sync::atomic::Ordering, time::Duration};

use permitd_proto::v1::{
    AcquireRequest, BudgetState, DeleteBudgetRequest, GetBudgetRequest, PauseBudgetRequest, Permit,
    ResumeBudgetRequest,
};
use permitd_tests::{Authority, Folder, Peer, Permitd, Proxy, steady_port};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    case::{AdminAct, Around, Case, Fields, ProxyAct, RivalAct, ServerAct},
    driver::PATIENCE,
    expect::mismatch,
    fake::Fake,
    provider::Provider,
    tokens,
};

/// Between two looks at somebody who announces nothing.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// An outage is nothing that a case means unless it says so.
const NO_OUTAGE_MS: u64 = 120_000;

/// See the module.
pub(crate) struct Stage {
    servers: Vec<Seat>,
    authority: Option<Authority>,
    token: Option<String>,
    proxy: Option<Proxy>,
    fake: Option<Fake>,
    provider: Option<Provider>,
    rivals: HashMap<String, Permit>,
    nobody: u16,
    /// Last, for it goes when nobody needs it any more.
    folder: Folder,
}

/// Where a server runs, or ran.
struct Seat {
    config: String,
    /// 0 where it never starts again.
    port: u16,
    process: Option<Permitd>,
    /// How the suite talks to it.
    hand: Peer,
}

impl Stage {
    pub(crate) async fn set(case: &Case) -> Self {
        let around = &case.around;
        let folder = Folder::new();
        let authority = around.tls.then(Authority::new);
        let token = around.jwt.then(|| tokens::token(tokens::ROOT, 3_600.0));
        let config = config(around, &folder, authority.as_ref());
        let mut stage = Self {
            servers: Vec::new(),
            authority,
            token,
            proxy: None,
            fake: None,
            provider: None,
            rivals: HashMap::new(),
            nobody: steady_port(),
            folder,
        };
        // A fake takes the server's place.
        let default = if around.fake.is_some() { 0 } else { 1 };
        for number in 1..=around.servers.unwrap_or(default) {
            let port = if case.restarts() { steady_port() } else { 0 };
            let data = stage.folder.path(&format!("data{number}"));
            let data = if around.keeps { format!("data = {data:?}\n") } else { String::new() };
            let config = config.replacen("[server]\n", &format!("[server]\n{data}"), 1);
            let process = Permitd::start_at(port, &config).await;
            let hand = stage.hand(&process);
            stage.servers.push(Seat { config, port, process: Some(process), hand });
        }
        if around.proxy {
            stage.proxy = Some(Proxy::start(stage.seat(1).hand.address).await);
        }
        if let Some(manner) = around.fake {
            stage.fake = Some(Fake::start(manner).await);
        }
        if !around.provider.is_empty() {
            stage.provider = Some(Provider::start(around.provider.clone()).await);
        }
        stage
    }

    /// What a command says, with names in braces replaced by what they stand for.
    pub(crate) fn fill(&self, command: &Fields) -> Fields {
        let mut command = command.clone();
        if command.get("op").and_then(Value::as_str) == Some("connect") {
            command.entry("endpoints").or_insert_with(|| json!([self.usual_endpoint()]));
            command.entry("outage_after_ms").or_insert(NO_OUTAGE_MS.into());
        }
        command.into_iter().map(|(name, value)| (name, self.fill_value(value))).collect()
    }

    fn fill_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill_text(text)),
            Value::Array(items) => items.into_iter().map(|item| self.fill_value(item)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(name, value)| (name, self.fill_value(value))).collect()
            }
            plain => plain,
        }
    }

    fn fill_text(&self, mut text: String) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        let mut fill = |name: &str, value: String| text = text.replace(name, &value);
        for (at, seat) in self.servers.iter().enumerate() {
            let name = if at == 0 { "{server}".to_owned() } else { format!("{{server{}}}", at + 1) };
            fill(&name, format!("{scheme}://{}", seat.hand.address));
        }
        fill("{nobody}", format!("http://127.0.0.1:{}", self.nobody));
        fill("{folder}", self.folder.path("").to_string_lossy().trim_end_matches('/').to_owned());
        if let Some(proxy) = &self.proxy {
            fill("{proxy}", format!("{scheme}://{}", proxy.address));
        }
        if let Some(fake) = &self.fake {
            fill("{fake}", format!("http://{}", fake.address));
        }
        if let Some(provider) = &self.provider {
            fill("{provider}", format!("http://{}", provider.address));
        }
        text
    }

    fn usual_endpoint(&self) -> &'static str {
        match (&self.fake, &self.proxy) {
            (Some(_), _) => "{fake}",
            (None, Some(_)) => "{proxy}",
            (None, None) => "{server}",
        }
    }

    /// What is known of somebody, at once or within patience.
    ///
    /// # Errors
    /// What is not as expected.
    pub(crate) async fn facts(&self, of: &str, expected: &Fields, soon: bool) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let facts = self.known(of).await?;
            let Some(problem) = mismatch(expected, &facts) else { return Ok(()) };
            if !soon {
                return Err(format!("{of}: {problem}"));
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{of}: waited in vain: {problem}"));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    async fn known(&self, of: &str) -> Result<Fields, String> {
        let count = |number: u64| Value::from(number);
        let facts = match of {
            "proxy" => {
                let proxy = self.proxy.as_ref().ok_or("the case has no proxy")?;
                vec![("connections", count(proxy.accepted()))]
            }
            "fake" => {
                let seen = &self.fake.as_ref().ok_or("the case has no fake")?.seen;
                let read = |counter: &std::sync::atomic::AtomicU64| count(counter.load(Ordering::SeqCst));
                vec![
                    ("connections", read(&seen.connections)),
                    ("sessions", read(&seen.sessions)),
                    ("acquires", read(&seen.acquires)),
                    ("reports", read(&seen.reports)),
                    ("extends", read(&seen.extends)),
                ]
            }
            "provider" => {
                let provider = self.provider.as_ref().ok_or("the case has no provider")?;
                vec![("calls", count(provider.calls() as u64))]
            }
            budget => return self.budget(budget).await,
        };
        Ok(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The budget of the first server, or of another one: `p/k@2`.
    async fn budget(&self, name: &str) -> Result<Fields, String> {
        let (name, number) = match name.rsplit_once('@') {
            Some((name, number)) => (name, number.parse().map_err(|_| format!("{number:?} is no server"))?),
            None => (name, 1),
        };
        let (provider, key) = split(name)?;
        let mut admin = self.seat(number).hand.admin().await;
        let state = admin.get_budget(GetBudgetRequest { provider, key }).await;
        let state = state.map_err(|status| format!("{name}: {}", status.message()))?;
        Ok(told(&state.into_inner().state.unwrap_or_default()))
    }

    pub(crate) async fn server(&mut self, act: ServerAct, number: usize) -> Result<(), String> {
        let seat = self.servers.get_mut(number - 1).ok_or("the case has no such server")?;
        match act {
            ServerAct::Start => {
                let process = Permitd::start_at(seat.port, &seat.config).await;
                let hand = self.hand(&process);
                let seat = &mut self.servers[number - 1];
                (seat.process, seat.hand) = (Some(process), hand);
            }
            ServerAct::Terminate => seat.process.as_ref().ok_or("the server is gone")?.terminate(),
            ServerAct::Kill => seat.process.take().ok_or("the server is gone")?.kill().await,
            ServerAct::Gone => {
                let status = seat.process.take().ok_or("the server is gone")?.exit().await;
                if !status.success() {
                    return Err(format!("the server ended badly: {status}"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn proxy(&self, act: ProxyAct) -> Result<(), String> {
        let proxy = self.proxy.as_ref().ok_or("the case has no proxy")?;
        match act {
            ProxyAct::Cut => proxy.cut(),
            ProxyAct::Close => proxy.close(),
            ProxyAct::Open => proxy.open(),
            ProxyAct::Stall => proxy.stall(),
            ProxyAct::Flow => proxy.flow(),
            ProxyAct::Orphan => proxy.orphan(),
        }
        Ok(())
    }

    pub(crate) async fn admin(&self, act: AdminAct, budget: &str) -> Result<(), String> {
        let (provider, key) = split(budget)?;
        let mut admin = self.seat(1).hand.admin().await;
        let done = match act {
            AdminAct::Pause => {
                let request = PauseBudgetRequest { provider, key, ..PauseBudgetRequest::default() };
                admin.pause_budget(request).await.map(drop)
            }
            AdminAct::Resume => admin.resume_budget(ResumeBudgetRequest { provider, key }).await.map(drop),
            AdminAct::Delete => {
                let request = DeleteBudgetRequest { provider, key, ..DeleteBudgetRequest::default() };
                admin.delete_budget(request).await.map(drop)
            }
        };
        done.map_err(|status| format!("{budget}: {}", status.message()))
    }

    pub(crate) async fn rival(&mut self, act: RivalAct, id: &str, request: &Fields) -> Result<(), String> {
        match act {
            RivalAct::Take => {
                let text =
                    |name: &str, or: &str| request.get(name).and_then(Value::as_str).unwrap_or(or).to_owned();
                let tokens = text("tokens", "0").parse().map_err(|_| "tokens: is no amount")?;
                let request = AcquireRequest {
                    provider: text("provider", "p"),
                    key: text("key", "k"),
                    tenant: text("tenant", ""),
                    tokens,
                    ..AcquireRequest::default()
                };
                let permit = self.seat(1).hand.granted_now(request).await;
                self.rivals.insert(id.to_owned(), permit);
            }
            RivalAct::Settle => {
                let permit = self.rivals.remove(id).ok_or_else(|| format!("{id}: holds nothing"))?;
                self.seat(1).hand.settle(&permit).await;
            }
        }
        Ok(())
    }

    /// Puts a token of the client's into the folder.
    pub(crate) fn token(&self, name: &str, seconds: f64) {
        self.folder.put(name, &tokens::token(tokens::APP, seconds));
    }

    fn seat(&self, number: usize) -> &Seat {
        self.servers.get(number - 1).expect("a case that asks for a server has one")
    }

    fn hand(&self, process: &Permitd) -> Peer {
        let mut hand = Peer::new(process.address);
        if let Some(authority) = &self.authority {
            hand = hand.through(authority.trusted());
        }
        if let Some(token) = &self.token {
            hand = hand.with_token(token);
        }
        hand
    }
}

fn config(around: &Around, folder: &Folder, authority: Option<&Authority>) -> String {
    let mut config = format!("[server]\n{}\n", around.config);
    if let Some(authority) = authority {
        let server = authority.server();
        folder.put("ca.pem", &authority.cert);
        folder.put("cert.pem", &server.cert);
        folder.put("key.pem", &server.key);
        let (cert, key) = (folder.path("cert.pem"), folder.path("key.pem"));
        let _ = write!(config, "[server.tls]\ncert = {cert:?}\nkey = {key:?}\n");
    }
    if around.jwt {
        config.push_str(&tokens::configure(folder));
    }
    for (name, limits) in &around.budgets {
        let _ = write!(config, "[budgets.{name:?}]\nlimits = {limits:?}\n");
    }
    config
}

fn split(budget: &str) -> Result<(String, String), String> {
    let (provider, key) =
        budget.split_once('/').ok_or_else(|| format!("{budget:?}: is no budget, proxy, fake or provider"))?;
    Ok((provider.to_owned(), key.to_owned()))
}

fn told(state: &BudgetState) -> Fields {
    let limits = state.limits.iter().filter_map(|limit| Some((limit.configured.as_ref()?, limit.level)));
    let levels: Fields = limits.map(|(limit, level)| (limit.unit.clone(), level.into())).collect();
    let facts = json!({
        "waiting": state.waiting,
        "in_flight": state.in_flight,
        "granted_total": state.granted_total,
        "refused_total": state.refused_total,
        "paused": state.paused,
        "levels": levels,
    });
    facts.as_object().cloned().unwrap_or_default()
}
