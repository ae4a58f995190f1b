//! `permitd check`

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use permitd_server::{
    config::{Config, Problem},
    words::counted,
};
use serde_json::{Value, json};

use crate::{failure::Failure, format::print};

const EXAMPLES: &str = "\
Examples:
  permitd check permitd.toml
  permitd check permitd.toml --json | jq .config.server.listen
  PERMITD_SERVER__LISTEN=127.0.0.1:7200 permitd check permitd.toml

Prints what would be in force: defaults, over them the file, over it PERMITD_* variables.
Exit codes: 0 right; 1 wrong, with every problem on a line of its own.";

/// Says everything that is wrong with a configuration file, or prints what it would put in force.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    /// The file, in TOML.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Check {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let config = match Config::load(Some(&self.file), environment()) {
            Ok(config) => config,
            Err(error) if self.json => {
                let problems: Vec<Value> = error.problems.iter().map(problem_json).collect();
                print(json!({ "right": false, "problems": problems }).to_string())?;
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => {
                eprintln!("{error}");
                return Ok(ExitCode::FAILURE);
            }
        };
        if let Some(tls) = &config.server.tls {
            permitd_server::tls::check(tls).map_err(|error| Failure::new(error.to_string()))?;
        }
        permitd_server::auth::check(&config.auth).map_err(|error| Failure::new(error.to_string()))?;
        let rendered = config.to_string();
        if self.json {
            let table: toml::Table =
                rendered.parse().map_err(|error| Failure::new("can't print it").because(error))?;
            print(json!({ "right": true, "config": table }).to_string())?;
        } else {
            print(rendered.trim_end())?;
            let count = |number: usize, one, many| counted(number as u64, one, many);
            let budgets = count(config.budgets.len(), "budget", "budgets");
            let providers = count(config.providers.len(), "provider", "providers");
            let pools = match config.pools.len() {
                0 => String::new(),
                pools => format!(", {}", count(pools, "pool", "pools")),
            };
            let file = self.file.display();
            if let Some(exposed) = config.exposed() {
                eprintln!("# {exposed}; `permitd serve` wants --insecure for that");
            }
            eprintln!("# {file} is right: {budgets}, defaults for {providers}{pools}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A problem of a configuration or of a profile.
pub(crate) fn problem_json(problem: &Problem) -> Value {
    json!({ "place": problem.place, "path": problem.path, "message": problem.message })
}

/// The process's environment, as far as it is text.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    let variables = std::env::vars_os();
    variables.filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()))
}
