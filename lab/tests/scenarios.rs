//! The scenarios' promises, and the laboratory that they are judged by.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use permitd_lab::scenario::{Clients, Fate, Record, Scenario, judge_all, run, trace};

/// Scenarios whose promises the heart does not keep yet. Whoever makes one hold takes it from this list; none that held is ever added.
const NOT_YET: &[&str] = &["compared-halves", "compared-quantised", "concurrency-unnamed"];

/// Each scenario is played with each of these.
const SEEDS: [u64; 1] = [1];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn named(name: &str) -> Scenario {
    Scenario::load(&folder().join(format!("{name}.toml"))).expect("the scenario makes sense")
}

/// Goal: every scenario keeps its promises, whatever the seed, but for those listed; and those listed really do not.
#[test]
fn promises_are_kept() {
    let scenarios = Scenario::load_all(&folder()).expect("every file makes sense");
    assert!(scenarios.len() >= 20, "only {} scenarios in {}", scenarios.len(), folder().display());
    for name in NOT_YET {
        assert!(scenarios.iter().any(|scenario| scenario.name == *name), "NOT_YET: there is no {name}");
    }
    let mut wrong = String::new();
    for verdict in judge_all(&scenarios, &SEEDS) {
        match (verdict.holds(), NOT_YET.contains(&verdict.name.as_str())) {
            (false, false) => wrong += &format!("{verdict}\n"),
            (true, true) => wrong += &format!("{} holds: take it from NOT_YET\n", verdict.name),
            _ => {}
        }
    }
    assert!(
        wrong.is_empty(),
        "seeds {SEEDS:?}; look closer with permitd-lab scenarios --trace NAME\n{wrong}"
    );
}

/// Goal: a failing seed can be played again: the same seed gives the same run, another seed another one.
#[test]
fn a_seed_decides_everything() {
    let scenario = named("jittery-network");
    let told = |seed| trace(&scenario, &run(&scenario, Clients::Managed, seed));
    assert_eq!(told(7), told(7));
    assert_ne!(told(7), told(8));
}

/// Goal: the oracle, which every share is measured by, gets exactly what the true limit provides.
#[test]
fn the_oracle_gets_what_the_true_limit_provides() {
    let started = |record: &Record| record.attempts.iter().filter(|call| call.fate == Fate::Started).count();
    let scenario = named("halves-and-returns");
    let oracle = run(&scenario, Clients::Oracle, 1);
    // A burst, then ten minutes at 600, ten at 300, ten at 600; the very last one would come at the end.
    let provided = 600 + 6_000 + 3_000 + 6_000;
    assert!((provided - 2..=provided).contains(&started(&oracle)), "{} of {provided}", started(&oracle));
    assert!(oracle.attempts.iter().all(|call| !call.is_limited()), "nobody is refused at the door");
}

/// Goal: a file that makes no sense is refused, and the message names the file and what is wrong in it.
#[test]
fn bad_files_are_refused_by_field() {
    let good = fs::read_to_string(folder().join("known-limit.toml")).expect("it is there");
    let cases = [
        ("lasts = \"20m\"", "lasts = \"20\"", "no unit"),
        ("lasts = \"20m\"", "lasts = \"9 days\"", "lasts"),
        ("requests=600/1m", "requests=600", "declared"),
        ("per_minute = 600", "per_minute = 0", "pool[0]"),
        ("workers = 50", "workers = 50\ncalls = 1", "exactly one of workers, per_minute and calls"),
        ("workers = 50", "workers = 50\nmodle = \"x\"", "modle"),
        ("at_least = 0.99", "", "it can't fail"),
        ("from = \"1m\"", "from = \"21m\"", "expect[0]"),
        ("what = \"share\"", "what = \"luck\"", "luck"),
    ];
    let file = env::temp_dir().join(format!("permitd-scenario-{}.toml", std::process::id()));
    for (right, wrong, named) in cases {
        assert!(good.contains(right), "the scenario says {right}");
        fs::write(&file, good.replacen(right, wrong, 1)).expect("a temporary file");
        let error = Scenario::load(&file).expect_err(wrong).to_string();
        assert!(error.contains(named), "{wrong}: {error}");
        assert!(error.contains("permitd-scenario-"), "{wrong}: {error}");
    }
    fs::remove_file(&file).expect("it was written");
}
