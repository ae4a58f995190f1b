//! `permitd run`

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
    time::{Duration, Instant},
};

use crate::support::{Said, Server, TemporaryFile, permitd, say, signal};

/// Goal: the command has our streams, and ends us as it ended.
#[test]
fn is_the_command() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "requests=100/1d"]).well();
    let mut run =
        server.command(&["run", "a/x", "--tokens", "5", "--", "sh", "-c", "cat; echo oops >&2; exit 7"]);
    let mut run =
        run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    run.stdin.take().expect("piped").write_all(b"hello").expect("it reads");
    let said = Said::of(run.wait_with_output().expect("a child of ours"));
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (7, "hello", "oops\n"));
    let state = server.state("a/x");
    assert_eq!((&state["in_flight"], &state["granted_total"]), (&0.into(), &1.into()));
}

/// Goal: the exit status says how the call went, or the command says it better.
#[test]
fn reports_how_it_ended() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "requests=100/1d"]).well();
    let reported = |outcome: &str| {
        let line = format!("permitd_reports_total{{outcome=\"{outcome}\"}} ");
        let metrics = server.get("/metrics");
        let count = metrics.lines().find_map(|metric| metric.strip_prefix(&line)).expect("it is there");
        count.parse::<u32>().expect("a number")
    };
    for (arguments, status, outcome) in [
        (&[][..], 0, "success"),
        (&[], 3, "failed"),
        (&["--overloaded-on", "5"], 5, "overloaded"),
        (&["--rate-limited-on", "6"], 75, "failed"),
        (&[], 75, "rate_limited"),
    ] {
        let before = reported(outcome);
        let exit = format!("exit {status}");
        // Whatever an earlier report froze.
        server.say(&["budgets", "delete", "a/x"]).well();
        server.say(&["budgets", "set", "a/x", "--limit", "requests=100/1d"]).well();
        let said = server.say(&[&["run", "a/x"], arguments, &["--", "sh", "-c", &exit]].concat());
        assert_eq!(said.code, status, "{said:#?}");
        assert_eq!(reported(outcome), before + 1, "{outcome}");
    }
    server.say(&["budgets", "set", "b/y", "--limit", "requests=100/1d"]).well();
    let itself = format!("{} report $PERMITD_PERMIT_ID --outcome too-large", env!("CARGO_BIN_EXE_permitd"));
    let before = reported("too_large");
    server.say(&["run", "b/y", "--", "sh", "-c", &itself]).well();
    assert!(reported("too_large") > before, "what the command said counts");
    assert_eq!(reported("success"), 1);
}

/// Goal: what can't be run costs nothing.
#[test]
fn a_command_that_is_not_there() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "requests=10/1d"]).well();
    let said = server.say(&["run", "a/x", "--", "no-such-command"]);
    assert_eq!(said.code, 127, "{said:#?}");
    let file = TemporaryFile::new("");
    assert_eq!(server.say(&["run", "a/x", "--", file.path()]).code, 126);
    let state = server.state("a/x");
    assert_eq!((&state["in_flight"], &state["limits"][0]["level"]), (&0.into(), &10.into()));
}

/// Goal: without a permit the command does not run, and the exit code says whether to try again.
#[test]
fn no_permit_no_run() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "requests=1/1d"]).well();
    server.say(&["acquire", "a/x"]).well();
    let said = server.say(&["run", "a/x", "--max-wait", "0", "--", "echo", "ran"]);
    assert_eq!((said.code, &*said.stdout), (75, ""), "{said:#?}");
    assert_eq!(server.say(&["run", "no/where", "--", "echo", "ran"]).code, 1);
    let said = say(&mut permitd(&["run", "a/x", "--server", "http://127.0.0.1:1", "--", "echo", "ran"]));
    assert_eq!((said.code, &*said.stdout), (69, ""), "{said:#?}");
}

/// Goal: a shell loop of background jobs is paced without a line of code: all run, never too many at once.
#[test]
fn many_jobs_at_once() {
    const JOBS: usize = 60;
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "in_flight=3"]).well();
    let log = TemporaryFile::new("");
    // Seen from the log no more run at once than do, since a job writes after its start and before its end.
    let job = format!("echo + >> {0}; echo - >> {0}", log.path());
    let jobs: Vec<_> = (0..JOBS)
        .map(|_| {
            server.command(&["run", "a/x", "--", "sh", "-c", &job]).spawn().expect("the binary can be run")
        })
        .collect();
    for mut job in jobs {
        assert!(job.wait().expect("a child of ours").success());
    }
    let (mut running, mut most, mut ran) = (0_i32, 0, 0);
    for line in fs::read_to_string(&log.0).expect("written by the jobs").lines() {
        running += if line == "+" { 1 } else { -1 };
        most = most.max(running);
        ran += usize::from(line == "+");
    }
    assert_eq!((ran, running), (JOBS, 0));
    assert!(most <= 3, "{most} at once");
    let state = server.state("a/x");
    assert_eq!((&state["granted_total"], &state["in_flight"]), (&JOBS.into(), &0.into()));
}

/// Goal: signals reach the command, and what it makes of them counts.
#[test]
fn passes_signals_on() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "in_flight=1"]).well();
    let script = "trap 'echo told; exit 9' TERM; echo started; while :; do sleep 0.05; done";
    let mut run = server.command(&["run", "a/x", "--", "sh", "-c", script]);
    let mut run = run.stdout(Stdio::piped()).spawn().expect("the binary can be run");
    let mut lines = BufReader::new(run.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("not the end").expect("text");
    assert_eq!(next(), "started");
    signal(&run, "-TERM");
    assert_eq!(next(), "told");
    assert_eq!(run.wait().expect("a child of ours").code(), Some(9));

    let killed = server.say(&["run", "a/x", "--", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(killed.code, 128 + 9, "as shells have it");
    assert_eq!(server.state("a/x")["in_flight"], 0);
}

/// Goal: a permit lives for as long as its command does, however short its ttl.
#[test]
fn keeps_its_permit_alive() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "in_flight=1", "--permit-ttl", "3s"]).well();
    let mut run = server.command(&["run", "a/x", "--", "sh", "-c", "echo started; read line"]);
    let mut run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary can be run");
    let mut stdout = BufReader::new(run.stdout.take().expect("piped"));
    let mut started = String::new();
    stdout.read_line(&mut started).expect("text");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(4) {
        assert_eq!(server.state("a/x")["in_flight"], 1, "after {:?}", since.elapsed());
    }
    drop(run.stdin.take());
    run.wait().expect("a child of ours");
    assert_eq!(server.state("a/x")["in_flight"], 0);
    assert!(server.get("/metrics").contains("permitd_permits_expired_total{provider=\"a\",key=\"x\"} 0"));
}

/// Goal: a job that goes away while it waits leaves the queue.
#[test]
fn leaves_the_queue() {
    let server = Server::start();
    server.say(&["budgets", "set", "a/x", "--limit", "in_flight=1"]).well();
    server.say(&["budgets", "pause", "a/x"]).well();
    let mut run = server.command(&["run", "a/x", "--", "echo", "ran"]);
    let mut run = run.spawn().expect("the binary can be run");
    server.wait_for_waiting("a/x", 1);
    signal(&run, "-TERM");
    run.wait().expect("a child of ours");
    server.wait_for_waiting("a/x", 0);
}

/// Goal: a restart of the server costs those who wait nothing but time.
#[test]
fn waits_through_a_restart() {
    let budgets = TemporaryFile::new("[budgets.\"a/x\"]\nlimits = [\"in_flight=1\"]\n");
    let start = |listen: &str| {
        let arguments = ["--listen", listen, "--http", "off", "--config", budgets.path()];
        Server::start_with(&arguments, &[("PERMITD_SERVER__DRAIN", "0s")])
    };
    let mut server = start("127.0.0.1:0");
    let address = server.grpc().to_owned();
    server.say(&["budgets", "pause", "a/x"]).well();
    let mut run = server.command(&["run", "a/x", "--", "echo", "ran"]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary can be run");
    server.wait_for_waiting("a/x", 1);
    signal(&server.process, "-TERM");
    assert!(server.process.wait().expect("a child of ours").success());
    let _restarted = start(&address);
    let said = Said::of(run.wait_with_output().expect("a child of ours")).well();
    assert_eq!((&*said.stdout, &*said.stderr), ("ran\n", ""));
}
