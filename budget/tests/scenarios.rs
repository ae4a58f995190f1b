//! Scenarios that read as prose: `scenarios/*.txt`, each a question that a user might ask, answered step by step.
//!
//! A block is commands, one a line, then `----`, then what they answer, then an empty line. Lines that start with `#` are for
//! the reader. `PERMITD_BLESS=1 cargo test -p permitd-budget --test scenarios` writes down what the heart now answers; read the
//! difference before you commit it.
//!
//! ```text
//! limits tokens=1000/1m,burst=50 requests=10/1m,models=gpt-*,tenants=each in_flight=5
//! queue max_waiting=3 max_wait=10s overflow=reject
//! tenant web weight=3 max_waiting=2
//! ttl 30s
//! at 90s                      time passes, and the budget is polled whenever it asks to be
//! skip 90s                    to that time, and nobody polls
//! acquire NAME tokens=100 input= output= max_output= requests= points= tenant= model= priority= count= max_wait= gives_up=
//! report p1 success|rate_limited|cancelled|... tokens=50 input= output= requests= points= retry_after=
//! cancel NAME   extend p1   show p1   place NAME   levels   state   poll   next   pause   resume   refuse deleted
//! ```

#[path = "scenarios/driver.rs"]
mod driver;

use std::{env, fs, path::PathBuf};

use driver::Driver;

/// Goal: every scenario answers as written.
#[test]
fn scenarios_answer_as_written() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = fs::read_dir(&folder).expect("the folder is beside this file");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 15, "only {} scenarios in {}", files.len(), folder.display());
    let bless = env::var_os("PERMITD_BLESS").is_some();
    let mut wrong = String::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("readable");
        let answered = play(&text);
        if bless {
            fs::write(&file, &answered).expect("writable");
        } else if answered != text {
            wrong += &format!("{}\n{}", file.display(), difference(&text, &answered));
        }
    }
    assert!(wrong.is_empty(), "scenarios answer otherwise (PERMITD_BLESS=1 writes it down):\n{wrong}");
}

/// The scenario with what the heart answers in place of what was written.
fn play(text: &str) -> String {
    let mut driver = Driver::new();
    let mut played = String::new();
    for block in text.trim_end().split("\n\n") {
        let commands: Vec<&str> = block.lines().take_while(|line| *line != "----").collect();
        let mut answers = String::new();
        for command in commands.iter().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            answers += &driver.command(command);
        }
        played += &format!("{}\n", commands.join("\n"));
        if commands.iter().any(|line| !line.starts_with('#')) {
            played += &format!("----\n{}", if answers.is_empty() { "ok\n" } else { &answers });
        }
        played.push('\n');
    }
    played.truncate(played.trim_end().len());
    played + "\n"
}

fn difference(written: &str, answered: &str) -> String {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (written, answered) = (lines(written), lines(answered));
    let mut told = String::new();
    for at in 0..written.len().max(answered.len()) {
        let (before, after) = (written.get(at), answered.get(at));
        if before != after {
            told += &format!(
                "  line {}: {:?}\n  answers: {:?}\n",
                at + 1,
                before.map_or("", |s| s),
                after.map_or("", |s| s)
            );
        }
    }
    told
}
