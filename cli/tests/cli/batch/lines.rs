//! Bad lines, doubles, and what else an input can be.

use std::{io::Write as _, process::Stdio};

use super::{
    bench::{Bench, Started, request},
    scripted::{Reply, Scripted},
};
use crate::support::say;

/// Goal: bad lines are told by their numbers, and the rest runs; mended, only they are called.
#[test]
fn bad_lines_are_told_and_the_rest_runs() {
    let provider = Scripted::start(Reply::to);
    let bench = Bench::new(&provider.url);
    let bad = [
        "nonsense\n".to_owned(),
        "{\"method\":\"POST\"}\n".to_owned(),
        "{\"custom_id\":\"host\",\"url\":\"https://elsewhere\",\"body\":{}}\n".to_owned(),
        "\n".to_owned(),
        request("a"),
        "{\"custom_id\":\"torn\",\"url\":\"/v1".to_owned(),
    ];
    bench.write("requests.jsonl", &format!("{}{}{}", request("a"), request("b"), bad.join("")));
    let said = bench.say(&[]);
    assert_eq!(said.code, 1, "{said:#?}");
    assert_eq!(bench.answered(), ["a", "b"]);
    assert_eq!(provider.prompts(), ["a", "b"]);
    let errors = bench.read("results.errors.jsonl");
    for told in [
        "line 3: is no JSON object",
        "line 4: custom_id: missing",
        "line 5: url: is no path",
        "line 7: custom_id: stands on line 1 already",
        "line 8: is not valid JSON",
    ] {
        assert_eq!(errors.matches(told).count(), 1, "{told}: {errors}");
    }
    assert_eq!(errors.lines().count(), 5, "{errors}");
    assert!(said.stdout.contains("answered   2 of 7"), "{said:#?}");
    assert!(said.stdout.contains("failed     5  results.errors.jsonl"), "{said:#?}");

    bench.requests(["a", "b", "host", "torn"]);
    bench.say(&[]).well();
    assert_eq!(bench.answered(), ["a", "b", "host", "torn"]);
    assert_eq!(provider.prompts(), ["a", "b", "host", "torn"], "what has a result is not called again");
    assert_eq!(bench.read("results.errors.jsonl"), "", "what failed before has not failed now");
}

/// Goal: results are in OpenAI's form, with the answer to the byte.
#[test]
fn results_are_in_openais_form() {
    let body = "{\n \"n\": 1.0,\n \"big\": 123456789012345678901234567890\n}";
    let provider =
        Scripted::start(move |_| Reply { headers: "x-request-id: req_7\r\n", ..Reply::new(200, body) });
    let bench = Bench::new(&provider.url);
    bench.requests(["a"]);
    bench.say(&[]).well();
    let line = bench.read("results.jsonl");
    let end = format!(
        ",\"custom_id\":\"a\",\"response\":{{\"status_code\":200,\"request_id\":\"req_7\",\"body\":{}}},\"error\":null}}\n",
        body.replace('\n', " ")
    );
    assert!(line.starts_with("{\"id\":\"batch_req_") && line.ends_with(&end), "{line}");
}

/// Goal: an input can come from a pipe.
#[test]
fn reads_stdin() {
    let provider = Scripted::start(Reply::to);
    let bench = Bench::new(&provider.url);
    let mut run = Started::new(bench.stdin_command().stdin(Stdio::piped()));
    let mut stdin = run.process.stdin.take().expect("piped");
    stdin.write_all(request("a").as_bytes()).expect("it reads");
    provider.wait_for_calls(1);
    stdin.write_all(request("b").as_bytes()).expect("it reads");
    drop(stdin);
    let said = run.end().well();
    assert!(said.stdout.contains("answered   2: 2 now, 0 before  results.jsonl"), "{said:#?}");
    assert_eq!(bench.answered(), ["a", "b"]);
}

/// Goal: Anthropic's lines go where Anthropic wants them, with its headers.
#[test]
fn runs_anthropics_lines() {
    let provider = Scripted::start(Reply::to);
    let bench = Bench::new(&provider.url);
    bench.write("requests.jsonl", "{\"custom_id\":\"a\",\"params\":{\"model\":\"m\",\"max_tokens\":1}}\n");
    let mut command = bench.command_for("anthropic/k", &["--local", "--auth-env", "KEY"]);
    say(command.env("KEY", "sk-1")).well();
    let call = provider.calls().pop().expect("one call");
    assert_eq!(call.line, "POST /v1/messages HTTP/1.1");
    assert_eq!((call.header("x-api-key"), call.header("authorization")), (Some("sk-1"), None));
    assert_eq!(call.header("anthropic-version"), Some("2023-06-01"));
}
