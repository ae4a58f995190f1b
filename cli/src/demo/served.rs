//! A permitd server for the demo: `permitd serve` as a process of its own, tied to the demo's life by its stdin, with the demo's
//! budget set as anybody would set it.

use std::{
    io,
    process::{self, ExitCode, Stdio},
    time::Duration,
};

use permitd_proto::v1;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use super::scenario::Declared;
use crate::{failure::Failure, format::wire_span, remote::Remote, serve::Serve};

/// How long the server may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// The budget that stands for the provider's key.
const BUDGET: (&str, &str) = ("anthropic", "demo");

/// The server's process; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) url: String,
    /// Its end ends the server, even where the demo was killed and had no time to.
    _stdin: ChildStdin,
    _child: Child,
}

/// The hidden command that the demo's server runs: `permitd serve` until stdin ends.
pub(crate) fn run(serve: Serve) -> Result<ExitCode, Failure> {
    std::thread::spawn(|| {
        // However reading ends, nobody is there any more.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(0);
    });
    serve.run()
}

impl Served {
    /// Starts a server on a free port.
    pub(crate) async fn start() -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new("can't start a permitd server").because(error);
        let binary = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(binary);
        command.args(["demo-server", "--listen", "127.0.0.1:0", "--http", "off", "--data", "none"]);
        // What this shell has set for its own server is not meant for this one.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PERMITD_"))
        {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let stdin = child.stdin.take().expect("it is piped");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.map_err(failed)? {
                if let Some(address) = address(&line) {
                    return Ok(format!("http://{address}"));
                }
            }
            Err(Failure::new("the demo's permitd server ended at once")
                .hint("see what `permitd serve --listen 127.0.0.1:0` says"))
        };
        let url = timeout(READY_WITHIN, ready).await;
        let url = url.map_err(|_| Failure::new("the demo's permitd server does not get ready"))??;
        // Read on, so that the server never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { url, _stdin: stdin, _child: child })
    }

    /// Declares the provider's limits, and gives the budget's name.
    pub(crate) async fn declare(&self, limits: &[Declared]) -> Result<String, Failure> {
        let remote = Remote::at(&self.url);
        let minute = wire_span(Duration::from_secs(60));
        let limit = |declared: &Declared| v1::Limit {
            unit: declared.unit.to_owned(),
            amount: declared.per_minute,
            per: Some(minute),
            burst: declared.burst,
            ..v1::Limit::default()
        };
        let (provider, key) = BUDGET;
        let budget = v1::Budget {
            provider: provider.to_owned(),
            key: key.to_owned(),
            limits: limits.iter().map(limit).collect(),
            ..v1::Budget::default()
        };
        let request =
            v1::SetBudgetRequest { budget: Some(budget), reason: "demo".to_owned(), ..Default::default() };
        let set = remote.admin().await?.set_budget(request).await;
        set.map_err(|status| remote.failure(&status))?;
        Ok(format!("{provider}/{key}"))
    }
}

/// The first address in what the server prints when it is ready: where it listens for permits.
fn address(line: &str) -> Option<&str> {
    let from = line.find("127.0.0.1:")?;
    let end = line[from..]
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')
        .map_or(line.len(), |len| from + len);
    let address = line[from..end].trim_end_matches([':', '.']);
    address.parse::<std::net::SocketAddr>().is_ok().then_some(address)
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn finds_where_the_server_listens() {
        assert_eq!(
            address("permitd is ready: gRPC at 127.0.0.1:7110, http at 127.0.0.1:7111, 0 budgets."),
            Some("127.0.0.1:7110")
        );
        assert_eq!(address("ready: http://127.0.0.1:40001"), Some("127.0.0.1:40001"));
        assert_eq!(address("starting"), None);
    }
}
