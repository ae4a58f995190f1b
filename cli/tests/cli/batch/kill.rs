//! What a run is for: killed at any moment and begun again, it loses nothing and doubles nothing, against a limit nobody told.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use permitd_lab::provider::{Behaviour, Config, Limits, Provider, Rate, Stats};

use super::bench::{Bench, until};

const REQUESTS: usize = 2_000;
/// At most so many calls can have been answered and not written when a run is killed.
const CONCURRENCY: usize = 64;

/// A simulated provider that tells nobody its limit.
struct Hidden(SocketAddr);

impl Hidden {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        listener.set_nonblocking(true).expect("it can be");
        let address = listener.local_addr().expect("it is bound");
        let config = Config {
            limits: Limits { requests: Some(Rate::per_minute(9_000, 50)), ..Limits::default() },
            behaviour: Behaviour {
                retry_after: false,
                limit_headers: false,
                latency_median_ms: 10,
                ..Behaviour::default()
            },
            ..Config::default()
        };
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("it is bound");
                Provider::serve(config, listener, std::future::pending()).await.expect("it serves");
            });
        });
        Self(address)
    }

    fn stats(&self) -> Stats {
        let mut stream = TcpStream::connect(self.0).expect("it listens");
        stream.write_all(b"GET /sim/stats HTTP/1.0\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("the counters")
    }
}

/// Lines that are whole.
fn whole(results: &str) -> usize {
    results.matches('\n').count()
}

/// Goal: 2,000 requests against a hidden limit, killed three times, end with every result there once. What a killed run had
/// written stays as it was, and no more is called again than was under way.
#[test]
fn nothing_is_lost_and_nothing_doubled() {
    let provider = Hidden::start();
    let bench = Bench::new(&format!("http://{}", provider.0));
    let ids: Vec<String> = (0..REQUESTS).map(|number| format!("request-{number}")).collect();
    let lines = ids.iter().map(|id| {
        let body = r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"Hello"}]}"#;
        format!("{{\"custom_id\":\"{id}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{body}}}\n")
    });
    bench.write("requests.jsonl", &lines.collect::<String>());
    // The simulator wants a key, and any will do.
    let header = ["--header", "authorization=Bearer any"];
    let concurrency = CONCURRENCY.to_string();
    let arguments = [&header[..], &["--concurrency", &concurrency]].concat();

    let mut kept = String::new();
    for lines in [300, 900, 1_500] {
        let mut run = bench.start(&arguments);
        until("results", || whole(&bench.read("results.jsonl")) >= lines);
        run.process.kill().expect("it runs");
        run.process.wait().expect("a child of ours");
        let results = bench.read("results.jsonl");
        assert!(results.starts_with(&kept), "what was written stays as it was");
        assert!(whole(&results) < REQUESTS, "it was killed before its end");
        kept = results[..results.rfind('\n').map_or(0, |at| at + 1)].to_owned();
    }
    let said = bench.say(&[&arguments[..], &["--json"]].concat()).well();
    let figures = said.json().pop().expect("one value");
    assert_eq!(figures["answered_before"], whole(&kept));
    assert_eq!(figures["failed"], 0, "{said:#?}");

    let results = bench.read("results.jsonl");
    assert!(results.starts_with(&kept) && results.ends_with('\n'));
    assert_eq!(whole(&results), REQUESTS);
    let answered: BTreeSet<String> = bench.answered().into_iter().collect();
    assert_eq!(answered, ids.into_iter().collect());
    assert_eq!(fs::metadata(bench.path("results.errors.jsonl")).expect("it is there").len(), 0);

    let counted = provider.stats().keys["any"].clone();
    assert!(counted.limited > 0, "the limit was met: {counted:?}");
    let ok = usize::try_from(counted.ok).expect("not that many");
    assert!((REQUESTS..=REQUESTS + 3 * CONCURRENCY).contains(&ok), "{ok} calls were answered");
}
