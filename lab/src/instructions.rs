//! How many instructions a thing takes: counted by valgrind, and so the same on a busy machine as on a quiet one. A baseline is kept
//! in the repository, so that whatever makes the hot path slower shows before it lands.
//!
//! Counted are servers and client together, without the kernel. What does not repeat (start, stop, tables that grow) is taken
//! out by counting a short run and a long one.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    process::{Command, Stdio},
};

use crate::bench::{Error, Steps};

/// Acquires with their reports, in the short run and in the long one.
const SHORT: u64 = 1_600;
const LONG: u64 = 8_000;

/// How much more than the baseline is still the same, in percent: wake-ups fall differently from run to run, and the C library has other
/// ways to copy on another processor.
const TOLERANCE_PERCENT: u64 = 5;

/// Instructions for one acquire with its report, by what is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instructions(BTreeMap<String, u64>);

impl Instructions {
    /// Counts everything. Tells `progress` what it is at.
    ///
    /// # Errors
    /// If valgrind is not there, or a run fails.
    pub fn count(mut progress: impl FnMut(&str)) -> Result<Self, Error> {
        let mut counted = BTreeMap::new();
        for steps in Steps::ALL {
            let name = name(steps);
            progress(&name);
            let (short, long) = (run(&name, SHORT)?, run(&name, LONG)?);
            counted.insert(name, long.saturating_sub(short) / (LONG - SHORT));
        }
        Ok(Self(counted))
    }

    /// Reads a baseline: a line for each, its name, an equals sign and the number.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(baseline: &str) -> Result<Self, Error> {
        Ok(Self(toml::from_str(baseline).map_err(|error| format!("no baseline: {error}"))?))
    }

    /// As a baseline.
    #[must_use]
    pub fn write(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (name, number)| {
            writeln!(text, "{name} = {number}").expect("a String grows");
            text
        })
    }

    /// What takes more than the baseline says, each in words. What the baseline does not know counts as more.
    #[must_use]
    pub fn more_than(&self, baseline: &Self) -> Vec<String> {
        let mut more = Vec::new();
        for (name, &number) in &self.0 {
            let allowed = baseline.0.get(name).map_or(0, |known| known + known * TOLERANCE_PERCENT / 100);
            if number > allowed {
                let known = baseline.0.get(name).map_or("nothing".to_owned(), u64::to_string);
                more.push(format!("{name} takes {number} instructions; the baseline says {known}"));
            }
        }
        more
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instructions for one acquire with its report")?;
        for (name, number) in &self.0 {
            write!(f, "\n{name:<24} {number:>8}")?;
        }
        Ok(())
    }
}

fn name(steps: Steps) -> String {
    let value = clap::ValueEnum::to_possible_value(&steps).expect("no step is hidden");
    value.get_name().to_owned()
}

/// Instructions of this very program while it does so many.
fn run(name: &str, pairs: u64) -> Result<u64, Error> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["steps", name, &pairs.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind does not run ({error}); install the package valgrind"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{name} failed under valgrind:\n{told}").into());
    }
    collected(&told).ok_or_else(|| format!("valgrind told no number of instructions:\n{told}").into())
}

/// The number on the line `==1234== Collected : 56789`.
fn collected(told: &str) -> Option<u64> {
    told.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is written is read, and a baseline that is none is said to be none.
    #[test]
    fn baselines() {
        let text = "echo = 7\nheart = 1200\n";
        let read = Instructions::read(text).expect("a baseline");
        assert_eq!(read.write(), text);
        Instructions::read("heart = soon").expect_err("no number");
    }

    /// Goal: a little more is the same, more than that is told, and so is what nobody wrote down.
    #[test]
    fn tells_what_takes_more() {
        let counted =
            |heart, echo| Instructions(BTreeMap::from([("heart".into(), heart), ("echo".into(), echo)]));
        let baseline = counted(1_000, 500);
        assert_eq!(counted(1_050, 400).more_than(&baseline), [] as [String; 0]);
        let more = counted(1_051, 500).more_than(&baseline);
        assert_eq!(more, ["heart takes 1051 instructions; the baseline says 1000"]);
        assert_eq!(baseline.more_than(&Instructions::default()).len(), 2);
    }

    /// Goal: valgrind's last words are understood.
    #[test]
    fn reads_valgrind() {
        assert_eq!(collected("==9== \n==9== Collected : 383758493\n==9== \n"), Some(383_758_493));
        assert_eq!(collected("valgrind: no such tool"), None);
    }
}
