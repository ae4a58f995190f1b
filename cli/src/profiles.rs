//! `permitd profiles`: what permitd knows of providers. It needs no server: the profiles are part of the binary.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Subcommand};
use permitd_budget::LimitSpec;
use permitd_server::{
    config::LimitText,
    profile::{Profile, Profiles},
};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    format::{print, print_json},
    table::{Align, Table},
};

const EXAMPLES: &str = "\
Examples:
  permitd profiles list
  permitd profiles show anthropic
  permitd profiles check acme.toml

A server takes files of your own by its configuration: [server], profiles = [\"acme.toml\"].";

/// See what is known of providers, and check what you teach it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProfilesCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the profiles, with their tiers.
    List(List),
    /// Print a profile's file.
    Show(Show),
    /// Say what is wrong with files of your own.
    Check(Check),
}

/// Profiles besides the built-in ones.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// A file with a profile of your own, over the built-in ones. Can be repeated.
    #[arg(long = "profile-file", value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    files: Files,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Show {
    /// The profile's name, for example anthropic.
    name: String,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
struct Check {
    /// The files, in TOML.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ProfilesCommand {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Show(show) => show.run(),
            Command::Check(check) => check.run(),
        }
    }

    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::List(list) => list.json,
            Command::Show(_) => false,
            Command::Check(check) => check.json,
        }
    }
}

impl Files {
    /// All profiles, those of the files included.
    pub(crate) fn load(&self) -> Result<Arc<Profiles>, Failure> {
        let loaded = Profiles::load(self.files.iter().map(PathBuf::as_path));
        loaded.map_err(|error| Failure::new("a profile is wrong").because(error).exit_code(2))
    }

    /// The limits of a provider's tier.
    pub(crate) fn tier(&self, provider: &str, tier: &str) -> Result<Vec<LimitSpec>, Failure> {
        let profiles = self.load()?;
        let tiers = &profiles.of(provider).tiers;
        let found = tiers.get(tier).map(|tier| tier.limits.clone());
        found.ok_or_else(|| {
            let known: Vec<&str> = tiers.keys().map(String::as_str).collect();
            let hint = match known.is_empty() {
                true => format!("the profile of {provider} has no tiers; give --limit"),
                false => format!("{provider} has: {}", known.join(", ")),
            };
            Failure::new(format!("no tier {tier:?} of {provider}")).hint(hint).exit_code(2)
        })
    }
}

impl List {
    fn run(self) -> Result<ExitCode, Failure> {
        let profiles = self.files.load()?;
        if self.json {
            print_json(profiles.iter().map(|profile| profile_json(profile)))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table =
            Table::new(&[("PROFILE", Align::Left), ("TIERS", Align::Left), ("WHAT IS LIMITED", Align::Left)]);
        for profile in profiles.iter() {
            let tiers: Vec<&str> = profile.tiers.keys().map(String::as_str).collect();
            table.row([profile.name.clone(), tiers.join(" "), profile.about.clone()]);
        }
        print(table.render().trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    fn run(self) -> Result<ExitCode, Failure> {
        let profiles = self.files.load()?;
        let Some(profile) = profiles.get(&self.name) else {
            let known: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
            let hint = format!("known: {}; any other provider has the profile generic", known.join(", "));
            return Err(Failure::new(format!("no profile {:?}", self.name)).hint(hint));
        };
        print(profile.text().trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Check {
    fn run(self) -> Result<ExitCode, Failure> {
        let loaded = Profiles::load(self.files.iter().map(PathBuf::as_path));
        if self.json {
            let problems = loaded.as_ref().err().map_or(&[][..], |error| &error.problems);
            let problems: Vec<Value> = problems.iter().map(crate::check::problem_json).collect();
            print(json!({ "right": loaded.is_ok(), "problems": problems }).to_string())?;
        } else if let Err(error) = &loaded {
            eprintln!("{error}");
        } else {
            let files: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
            eprintln!("# right: {}", files.join(", "));
        }
        Ok(if loaded.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn profile_json(profile: &Profile) -> Value {
    let tiers = profile.tiers.iter().map(|(name, tier)| {
        let limits: Vec<String> = tier.limits.iter().map(|limit| LimitText(limit).to_string()).collect();
        (name.clone(), json!({ "about": tier.about, "limits": limits }))
    });
    let tiers: serde_json::Map<String, Value> = tiers.collect();
    json!({ "name": profile.name, "about": profile.about, "tiers": tiers })
}
