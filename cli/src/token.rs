//! `permitd token`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use permitd_server::auth::{TokenHash, new_token};
use serde_json::json;

use crate::{failure::Failure, format::print};

const EXAMPLES: &str = "\
Examples:
  permitd token new checkout                          the token on stdout, its hash on stderr
  permitd token new checkout --json | jq -r .hash
  (umask 077; permitd token new checkout > token)     and then: permitd budgets list --token-file token

The server's configuration gets the hash, whoever is to be known by it the token. Nothing stores the \
token: it is shown this once.";

/// Makes tokens, by which callers prove who they are.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token, and the hash of it that the server's configuration takes.
    New(New),
}

#[derive(Debug, Args)]
struct New {
    /// For whom: the identity's name in the configuration.
    #[arg(value_name = "IDENTITY", default_value = "NAME")]
    identity: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Token {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let Command::New(new) = self.command;
        let token = new_token();
        let hash = TokenHash::of(&token);
        if new.json {
            print(json!({ "identity": new.identity, "token": token, "hash": hash.to_string() }).to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        print(&token)?;
        eprintln!(
            "[auth.identities.{:?}]\ntokens = [\"{hash}\"]\nroles = [\"acquire\", \"report\"]",
            new.identity
        );
        Ok(ExitCode::SUCCESS)
    }

    /// Whether failures are for machines.
    pub(crate) fn json(&self) -> bool {
        let Command::New(new) = &self.command;
        new.json
    }
}
