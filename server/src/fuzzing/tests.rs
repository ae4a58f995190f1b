//! A little fuzzing in every run of the tests: sound input of each kind, changed at random. `PERMITD_PROPTEST_CASES=20000` looks for
//! longer, `PERMITD_PROPTEST_SEED=7` elsewhere. What was found before is tried first: the files in `fuzz/found`.

use std::{env, fs, panic::catch_unwind, path::Path};

use permitd_proto::v1;
use prost::Message as _;

use super::{
    config, message,
    mutate::{Draws, mutate},
    profile, response, rows,
};
use crate::store::fuzz::{file, sound_file, sound_rows};

/// What reads bytes, its name, and sound input for it.
type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

const TARGETS: [Target; 6] = [
    ("config", config, || vec![include_bytes!("../../../permitd.example.toml").to_vec()]),
    ("file", file, || vec![sound_file()]),
    ("message", message, messages),
    ("profile", profile, profiles),
    ("response", response, responses),
    ("rows", rows, || vec![sound_rows()]),
];

fn profiles() -> Vec<Vec<u8>> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        text(include_str!("../../profiles/anthropic.toml")),
        text(include_str!("../../profiles/openai.toml")),
        text(include_str!("../../profiles/github.toml")),
    ]
}

fn responses() -> Vec<Vec<u8>> {
    let response = |status: u16, rest: &str| [&status.to_be_bytes()[..], rest.as_bytes()].concat();
    vec![
        response(
            429,
            "retry-after: 7\nanthropic-ratelimit-requests-limit: 50\nanthropic-ratelimit-requests-remaining: 0\n\
             anthropic-ratelimit-requests-reset: 2026-11-21T00:00:00Z\n\n{\"error\": {\"type\": \"rate_limit_error\"}}",
        ),
        response(
            200,
            "x-ratelimit-limit-tokens: 90000\nx-ratelimit-remaining-tokens: 10\nx-ratelimit-reset-tokens: 1m3s\n\n",
        ),
        response(429, "\n\n{\"error\": {\"message\": \"Rate limit reached. Please try again in 1.2s.\"}}"),
    ]
}

fn messages() -> Vec<Vec<u8>> {
    let acquire = v1::AcquireRequest {
        provider: "p".to_owned(),
        key: "k".to_owned(),
        tokens: 70_000,
        model: "m".to_owned(),
        max_wait: Some(prost_types::Duration { seconds: 5, nanos: 7 }),
        estimate: Some(v1::Usage { other: [("points".to_owned(), 3)].into(), ..v1::Usage::default() }),
        request_id: 300,
        ..v1::AcquireRequest::default()
    };
    let report = v1::ReportRequest {
        permit_id: "an id".to_owned(),
        outcome: 1,
        http_status: 429,
        headers: [("retry-after".to_owned(), "3".to_owned())].into(),
        ..v1::ReportRequest::default()
    };
    let message = v1::SessionRequest {
        hello: Some(v1::Hello { session_id: "s".to_owned(), ..v1::Hello::default() }),
        acquire: vec![acquire.clone(), v1::AcquireRequest::default()],
        report: vec![report],
        cancel: vec![1, 300, u64::MAX],
        extend: vec!["an id".to_owned()],
    };
    let limit = v1::Limit { unit: "requests".to_owned(), amount: 5, burst: 2, ..v1::Limit::default() };
    let budget = v1::Budget { provider: "p".to_owned(), limits: vec![limit], ..v1::Budget::default() };
    vec![message.encode_to_vec(), acquire.encode_to_vec(), budget.encode_to_vec()]
}

fn number(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")))
}

fn try_one(name: &str, read: fn(&[u8]), data: &[u8], from: &str) {
    let read = catch_unwind(|| read(data));
    assert!(read.is_ok(), "{name} panicked at {from}; keep it as a file in fuzz/found/{name}: {data:02x?}");
}

/// Goal: no bytes that others wrote make anything panic that reads them.
#[test]
fn any_bytes_can_be_read() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/found");
    let cases = number("PERMITD_PROPTEST_CASES").unwrap_or(300);
    let first = number("PERMITD_PROPTEST_SEED").unwrap_or(0) << 32;
    for (name, read, sound) in TARGETS {
        let mut inputs = sound();
        for input in &inputs {
            try_one(name, read, input, "sound input");
        }
        for entry in fs::read_dir(found.join(name)).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            inputs.push(fs::read(&path).expect("a readable file"));
            try_one(name, read, &inputs[inputs.len() - 1], &path.display().to_string());
        }
        for seed in first..first + cases {
            let data = mutate(&inputs, &mut Draws(seed));
            try_one(name, read, &data, &format!("seed {seed}"));
        }
    }
}
