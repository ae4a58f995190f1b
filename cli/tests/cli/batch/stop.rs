//! Ctrl-C: calls in flight end, none begins, nothing is lost; a second one does not wait.

use std::{io::Write as _, net::TcpListener, process::Stdio};

use super::{
    bench::{Bench, Started, request, until},
    scripted::{Reply, Scripted},
};
use crate::support::signal;

const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A run with so many calls in flight at a provider that keeps its answers back.
fn held(calls: usize) -> (Scripted, Bench) {
    let provider = Scripted::start(Reply::to);
    provider.shut(true);
    let bench = Bench::new(&provider.url);
    bench.requests(IDS);
    assert!(calls < IDS.len());
    (provider, bench)
}

/// Goal: at the first signal calls in flight end and are kept, those that wait for a permit are left, and it is said how to go on.
#[test]
fn the_first_lets_calls_end() {
    for name in ["-INT", "-TERM"] {
        let (provider, bench) = held(3);
        let mut run = bench.start(&["--limit", "in_flight=3"]);
        provider.wait_for_calls(3);
        signal(&run.process, name);
        run.wait_for("stopping: no new calls, waiting for 3 in flight");
        provider.shut(false);
        let said = run.end();
        assert_eq!(said.code, 130, "{said:#?}");
        assert!(said.stderr.contains("run the same command again to go on"), "{said:#?}");
        assert!(
            said.stdout.contains("answered   3 of 6") && said.stdout.contains("left       3"),
            "{said:#?}"
        );
        assert_eq!(bench.answered().len(), 3);
        assert_eq!(provider.calls().len(), 3, "no others began");
        bench.say(&[]).well();
        assert_eq!(bench.answered(), IDS);
        assert_eq!(provider.calls().len(), 6, "what was answered is not called again");
    }
}

/// Goal: at the second signal it is over at once, and what was answered before is kept.
#[test]
fn the_second_waits_for_nothing() {
    let (provider, bench) = held(2);
    let mut run = bench.start(&["--limit", "in_flight=2"]);
    provider.wait_for_calls(2);
    signal(&run.process, "-INT");
    run.wait_for("stopping: no new calls");
    signal(&run.process, "-INT");
    run.wait_for("stopping at once; 2 calls in flight are given up");
    let said = run.end();
    assert_eq!(said.code, 130, "{said:#?}");
    assert_eq!(bench.read("results.jsonl") + &bench.read("results.errors.jsonl"), "");
    provider.shut(false);
    bench.say(&[]).well();
    assert_eq!(bench.answered(), IDS);
}

/// Goal: an input that has not ended, a terminal for example, does not keep the run from ending.
#[test]
fn stops_while_its_input_goes_on() {
    let provider = Scripted::start(Reply::to);
    let bench = Bench::new(&provider.url);
    let mut run = Started::new(bench.stdin_command().stdin(Stdio::piped()));
    let mut stdin = run.process.stdin.take().expect("piped");
    stdin.write_all(request("a").as_bytes()).expect("it reads");
    until("its result", || bench.read("results.jsonl").ends_with('\n'));
    signal(&run.process, "-INT");
    let said = run.end();
    drop(stdin);
    assert_eq!(said.code, 130, "{said:#?}");
    assert_eq!(bench.answered(), ["a"]);
}

/// Goal: a server that accepts and says nothing is nothing that has to be waited for.
#[test]
fn stops_before_it_is_connected() {
    let (provider, bench) = held(0);
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let server = format!("http://{}", silent.local_addr().expect("it is bound"));
    let run = bench.start_at(&server);
    let _connection = silent.accept().expect("it comes");
    signal(&run.process, "-INT");
    let said = run.end();
    assert_eq!(said.code, 130, "{said:#?}");
    assert_eq!((provider.calls().len(), bench.path("results.jsonl").exists()), (0, false));
}
