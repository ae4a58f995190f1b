//! What providers and permitd answer, and what becomes of the request.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::json;

use super::{
    bench::{Bench, until},
    scripted::{Reply, Scripted},
};
use crate::support::{Server, TemporaryFile, say, signal};

/// Goal: what the provider refuses for good stands in the errors with its answer; the next run tries it again.
#[test]
fn refused_requests_stand_in_the_errors() {
    let provider = Scripted::start(|call| match call.prompt() {
        "bad" => Reply::new(400, r#"{"error":"no"}"#),
        "moved" => Reply { headers: "location: http://127.0.0.1:1/\r\n", ..Reply::new(307, "") },
        _ => Reply::to(call),
    });
    let bench = Bench::new(&provider.url);
    bench.requests(["bad", "good", "moved"]);
    for calls in [3, 5] {
        let said = bench.say(&[]);
        assert_eq!(said.code, 1, "{said:#?}");
        assert_eq!(bench.answered(), ["good"]);
        let errors = bench.lines("results.errors.jsonl");
        assert_eq!(errors.keys().collect::<Vec<_>>(), ["bad", "moved"]);
        assert_eq!(errors["bad"]["response"]["status_code"], 400);
        assert_eq!(errors["bad"]["response"]["body"], json!({"error": "no"}));
        assert_eq!(errors["moved"]["response"]["status_code"], 307, "a secret is not carried elsewhere");
        assert_eq!(provider.calls().len(), calls, "none is called twice in a run");
    }
}

/// Goal: what may succeed is called again, until it does or its attempts are used up.
#[test]
fn calls_again_what_may_succeed() {
    let provider = Scripted::start(|call| match call.prompt() {
        "never" => Reply::new(500, "broken"),
        // The first of its calls: the other request has no more than two.
        "later" if call.number < 2 => Reply { headers: "retry-after: 1\r\n", ..Reply::new(429, "{}") },
        _ => Reply::to(call),
    });
    let bench = Bench::new(&provider.url);
    bench.requests(["later", "never"]);
    let said = bench.say(&["--attempts", "2", "--limit", "requests=1000/1m", "--json"]);
    assert_eq!(said.code, 1, "{said:#?}");
    assert_eq!(bench.answered(), ["later"]);
    assert_eq!(bench.errors(), [("never".to_owned(), "500".to_owned())].into());
    assert_eq!(bench.lines("results.errors.jsonl")["never"]["response"]["body"], "broken");
    let prompts = provider.prompts();
    assert_eq!(prompts.iter().filter(|prompt| *prompt == "never").count(), 2, "{prompts:?}");
    let figures = said.json().pop().expect("one value");
    let of = |name: &str| figures[name].as_u64().expect("a count");
    assert_eq!((of("answered"), of("failed"), of("rate_limited")), (1, 1, 1));
    assert_eq!((of("input_tokens"), of("output_tokens"), of("repeated")), (3, 2, 2));
}

/// Goal: a refusal is not a request's own fault while others get through, however few attempts it has.
#[test]
fn refusals_do_not_count_while_others_get_through() {
    const REFUSALS: usize = 4;
    let (refused, others) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let provider = Scripted::start(move |call| {
        if call.prompt() != "refused" {
            others.fetch_add(1, SeqCst);
            return Reply::to(call);
        }
        let before = refused.fetch_add(1, SeqCst);
        if before == REFUSALS {
            return Reply::to(call);
        }
        // They come one after the other beside this one: when the second is here, the answer to the first was heard.
        until("two other calls", || others.load(SeqCst) >= 2 * (before + 1));
        Reply { headers: "retry-after-ms: 1\r\n", ..Reply::new(429, "{}") }
    });
    let bench = Bench::new(&provider.url);
    let ids = ["refused", "a", "b", "c", "d", "e", "f", "g", "h", "i"];
    bench.requests(ids);
    bench.say(&["--concurrency", "2", "--attempts", "2"]).well();
    assert_eq!(bench.answered().len(), ids.len());
    let calls = provider.prompts().iter().filter(|prompt| *prompt == "refused").count();
    assert_eq!(calls, REFUSALS + 1);
}

/// Goal: a credential that the provider does not know stops the run: no request is to blame for it.
#[test]
fn an_unknown_credential_stops_the_run() {
    let provider = Scripted::start(|call| match call.header("authorization") {
        Some("Bearer right") => Reply::to(call),
        other => Reply::new(401, format!("{{\"error\":\"you sent {}\"}}", other.unwrap_or("nothing"))),
    });
    let bench = Bench::new(&provider.url);
    bench.requests(["a", "b", "c"]);
    let arguments = ["--local", "--auth-env", "KEY", "--concurrency", "1"];
    let said = say(bench.command(&arguments).env("KEY", "sk-wrong-123"));
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.stderr.contains("401") && said.stderr.contains("--auth-env"), "{said:#?}");
    assert_eq!(provider.calls().len(), 1);
    assert_eq!(bench.read("results.errors.jsonl"), "");
    let everything = format!("{said:?}{}", bench.read("results.errors.jsonl"));
    assert!(!everything.contains("sk-wrong"), "the secret is nowhere: {everything}");
    say(bench.command(&arguments).env("KEY", " right\n")).well();
    assert_eq!(bench.answered(), ["a", "b", "c"]);
}

/// Goal: an answer that repeats the secret does not put it into a file.
#[test]
fn no_file_has_the_secret() {
    let provider = Scripted::start(|call| {
        let sent = call.header("authorization").unwrap_or_default();
        Reply::new(if call.prompt() == "a" { 200 } else { 400 }, format!("you sent {sent}"))
    });
    let bench = Bench::new(&provider.url);
    bench.requests(["a", "b"]);
    let said = say(bench.command(&["--local", "--auth-env", "KEY"]).env("KEY", "sk-quite-secret"));
    let files = bench.read("results.jsonl") + &bench.read("results.errors.jsonl");
    assert_eq!(files.matches("you sent Bearer [secret]").count(), 2, "{files}");
    assert!(!files.contains("quite") && !format!("{said:?}").contains("quite"));
}

/// Goal: what can never be granted is told for its line, and the rest runs.
#[test]
fn a_request_larger_than_the_limit_is_one_error() {
    let provider = Scripted::start(Reply::to);
    let bench = Bench::new(&provider.url);
    let long = "x".repeat(500);
    bench.requests([&*long, "short"]);
    let said = bench.say(&["--limit", "input_tokens=100/1m"]);
    assert_eq!(said.code, 1, "{said:#?}");
    assert_eq!(bench.answered(), ["short"]);
    assert!(bench.errors()[&long].starts_with("larger_than_limit: "), "{:?}", bench.errors());
    assert_eq!(provider.prompts(), ["short"]);
}

/// Goal: an answer that can't be kept is one error, and is not paid for again.
#[test]
fn an_answer_without_end_is_one_error() {
    let provider = Scripted::start(|call| match call.prompt() {
        "long" => Reply::new(200, "x".repeat(16 * 1024 * 1024 + 1)),
        _ => Reply::to(call),
    });
    let bench = Bench::new(&provider.url);
    bench.requests(["long", "short"]);
    assert_eq!(bench.say(&[]).code, 1);
    assert_eq!(bench.answered(), ["short"]);
    assert!(bench.errors()["long"].starts_with("answer_too_large: "), "{:?}", bench.errors());
    assert_eq!(provider.calls().len(), 2);
}

/// Goal: permits come from a running server, and their budget sees what the calls used.
#[test]
fn takes_permits_from_a_server() {
    let provider = Scripted::start(Reply::to);
    let server = Server::start();
    server.say(&["budgets", "set", "p/k", "--limit", "tokens=1000/1d", "--limit", "in_flight=2"]).well();
    let bench = Bench::new(&provider.url);
    bench.requests(["a", "b", "c", "d"]);
    say(bench.command(&["--tenant", "t"]).env("PERMITD_SERVER", format!("http://{}", server.grpc()))).well();
    let state = server.state("p/k");
    assert_eq!((&state["granted_total"], &state["in_flight"]), (&4.into(), &0.into()));
    let level = state["limits"][0]["level"].as_i64().expect("a number");
    assert!((980..=981).contains(&level), "4 calls of 3 + 2 tokens each: {state:#}");
}

/// Goal: a server that is killed or drained, and comes back, costs a run nothing but time, calls in flight included.
#[test]
fn goes_on_through_a_restart_of_the_server() {
    let budgets = TemporaryFile::new("[budgets.\"p/k\"]\nlimits = [\"in_flight=2\"]\n");
    let start = |listen: &str| {
        let arguments = ["--listen", listen, "--http", "off", "--config", budgets.path()];
        Server::start_with(&arguments, &[("PERMITD_SERVER__DRAIN", "0s")])
    };
    for name in ["-KILL", "-TERM"] {
        let provider = Scripted::start(Reply::to);
        provider.shut(true);
        let mut server = start("127.0.0.1:0");
        let address = server.grpc().to_owned();
        let bench = Bench::new(&provider.url);
        bench.requests(["a", "b", "c", "d"]);
        let run = bench.start_at(&format!("http://{address}"));
        provider.wait_for_calls(2);
        server.wait_for_waiting("p/k", 2);
        signal(&server.process, name);
        server.process.wait().expect("a child of ours");
        let _restarted = start(&address);
        provider.shut(false);
        let said = run.end().well();
        assert!(said.stdout.contains("answered   4 of 4"), "{name}: {said:#?}");
        assert_eq!(bench.answered(), ["a", "b", "c", "d"]);
        assert_eq!(provider.calls().len(), 4, "{name}");
    }
}

/// Goal: each way in which there can be no permits says what to do, and loses nothing.
#[test]
fn no_permits_no_calls() {
    let provider = Scripted::start(Reply::to);
    let server = Server::start();
    let bench = Bench::new(&provider.url);
    bench.requests(["a"]);
    let run = || say(bench.command(&[]).env("PERMITD_SERVER", format!("http://{}", server.grpc())));
    let said = run();
    assert_eq!(said.code, 1, "no such budget: {said:#?}");
    assert!(said.stderr.contains("p/k"), "{said:#?}");
    server.say(&["budgets", "set", "p/k", "--limit", "requests=10/1d"]).well();
    let permit = server.say(&["acquire", "p/k"]).well().stdout;
    server.say(&["report", permit.trim(), "--outcome", "quota-exhausted"]).well();
    let said = run();
    assert_eq!(said.code, 75, "used up: {said:#?}");
    assert!(said.stdout.contains("left       1"), "{said:#?}");
    assert_eq!(provider.calls().len(), 0);
    server.say(&["budgets", "resume", "p/k"]).well();
    assert_eq!(run().well().code, 0);

    let said = say(&mut bench.command(&["--server", "http://127.0.0.1:1"]));
    assert_eq!(said.code, 69, "no server: {said:#?}");
    let nowhere = Bench::new("http://127.0.0.1:1");
    nowhere.requests(["a", "b"]);
    let said = nowhere.say(&[]);
    assert_eq!(said.code, 69, "no provider: {said:#?}");
    assert!(said.stderr.contains("can't reach http://127.0.0.1:1"), "{said:#?}");
    assert_eq!(nowhere.read("results.errors.jsonl"), "", "no request is to blame");
}

/// Goal: a run without a server takes its budget from its flags, or from a server's configuration.
#[test]
fn takes_a_budget_along() {
    let provider = Scripted::start(Reply::to);
    let bench = Bench::new(&provider.url);
    bench.requests(["a", "b", "c"]);
    let config = TemporaryFile::new("[budgets.\"p/k\"]\nlimits = [\"in_flight=1\"]\n");
    bench.say(&["--config", config.path()]).well();
    assert_eq!(bench.answered(), ["a", "b", "c"]);

    let other = TemporaryFile::new("[budgets.\"p/other\"]\nlimits = [\"in_flight=1\"]\n");
    bench.requests(["d"]);
    let said = bench.say(&["--config", other.path()]);
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.stderr.contains("p/k"), "{said:#?}");
}
