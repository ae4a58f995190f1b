//! The files of a run: torn, locked, full, or not what they should be.

use std::process::Command;

use super::{
    bench::{Bench, until},
    scripted::{Reply, Scripted},
};
use crate::support::say;

/// Goal: a last line that was torn is cut off and its request called again; one that only lacks its end is kept.
#[test]
fn mends_a_torn_line() {
    let provider = Scripted::start(Reply::to);
    let bench = Bench::new(&provider.url);
    bench.requests(["a", "b"]);
    bench.say(&[]).well();
    let results = bench.read("results.jsonl");
    let (first, last) = results.split_at(results.find('\n').expect("two lines") + 1);
    let mut calls = 2;
    for kept in 0..last.len() {
        // Everything but every tenth is the same again.
        if !kept.is_multiple_of(10) && kept + 2 < last.len() {
            continue;
        }
        bench.write("results.jsonl", &format!("{first}{}", &last[..kept]));
        let said = bench.say(&[]).well();
        assert_eq!(bench.answered(), ["a", "b"], "cut after {kept}");
        assert!(bench.read("results.jsonl").starts_with(first));
        let is_whole = kept == last.len() - 1;
        calls += usize::from(!is_whole);
        assert_eq!(provider.calls().len(), calls, "cut after {kept}");
        assert_eq!(said.stderr.contains("was torn"), kept > 0 && !is_whole, "cut after {kept}: {said:#?}");
        assert_eq!(said.stderr.contains("end of its last line was missing"), is_whole, "{said:#?}");
    }
}

/// Goal: a file that holds something else is not touched.
#[test]
fn foreign_files_are_left_alone() {
    let provider = Scripted::start(Reply::to);
    let bench = Bench::new(&provider.url);
    bench.requests(["a"]);
    bench.write("results.jsonl", "my notes\nand more\n");
    bench.write("results.errors.jsonl", "errors of an earlier run\n");
    let said = bench.say(&[]);
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.stderr.contains("results.jsonl:1 is no result"), "{said:#?}");
    assert_eq!(bench.read("results.jsonl"), "my notes\nand more\n");
    assert_eq!(bench.read("results.errors.jsonl"), "errors of an earlier run\n");
    let run = |out: &str, base: &str| {
        let arguments =
            ["batch", "requests.jsonl", "--out", out, "--base-url", base, "--budget", "p/k", "--local"];
        say(crate::support::permitd(&arguments).current_dir(bench.path("")))
    };
    for (out, problem) in [
        ("requests.jsonl", "is the input"),
        ("/dev/null", "is no file"),
        ("no/such/folder", "can't open no/such/folder"),
    ] {
        let said = run(out, &provider.url);
        assert!(said.code != 0 && said.stderr.contains(problem), "{out}: {said:#?}");
    }
    assert_eq!(bench.read("requests.jsonl").lines().count(), 1);
    assert_eq!(provider.calls().len(), 0);
}

/// Goal: two runs never write the same file.
#[test]
fn keeps_other_runs_out() {
    let provider = Scripted::start(Reply::to);
    provider.shut(true);
    let bench = Bench::new(&provider.url);
    bench.requests(["a"]);
    let run = bench.start(&[]);
    provider.wait_for_calls(1);
    let said = bench.say(&[]);
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.stderr.contains("another run writes results.jsonl"), "{said:#?}");
    provider.shut(false);
    assert_eq!(run.end().code, 0);
    assert_eq!(bench.answered(), ["a"]);
    assert_eq!(provider.calls().len(), 1);
}

/// Goal: a disk that is full ends the run with what to do, and with whole lines only; with room again, the run goes on.
#[cfg(unix)]
#[test]
fn a_full_disk_loses_nothing() {
    let provider = Scripted::start(Reply::to);
    let bench = Bench::new(&provider.url);
    let ids: Vec<String> = (0..50).map(|id| format!("{id:02}")).collect();
    bench.requests(ids.iter().map(String::as_str));
    let run = bench.command(&["--local", "--concurrency", "1"]);
    let mut limited = Command::new("sh");
    // Of blocks of 512 bytes, or of 1,024 by other shells.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\""]).arg(run.get_program());
    limited.args(run.get_args()).current_dir(bench.path(""));
    let said = say(&mut limited);
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.stderr.contains("can't write results"), "{said:#?}");
    let results = bench.read("results.jsonl");
    assert!(results.ends_with('\n') && results.lines().count() < 50, "{results}");
    bench.say(&[]).well();
    assert!(bench.read("results.jsonl").starts_with(&results));
    assert_eq!(bench.answered(), ids);
}

/// Goal: results are on the disk while the run still goes on.
#[test]
fn results_are_written_as_they_come() {
    let provider = Scripted::start(Reply::to);
    let bench = Bench::new(&provider.url);
    bench.requests(["a", "b"]);
    let mut run = bench.start(&["--limit", "requests=1/1d"]);
    until("a result", || bench.read("results.jsonl").ends_with('\n'));
    assert!(run.process.try_wait().expect("a child of ours").is_none(), "the other one waits for a day");
    assert_eq!(bench.answered().len(), 1);
}
