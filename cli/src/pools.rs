//! `permitd pools`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use permitd_proto::v1;
use permitd_server::{
    config::BudgetName,
    shown::{member_name, member_now, pool_json, pool_name, shown},
    status::IS_POOL,
    words::grouped,
};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::{
    failure::Failure,
    format::{print, print_json},
    limits::budget,
    remote::{Remote, block_on},
    table::{Align, Table},
};

const EXAMPLES: &str = "\
Examples:
  permitd pools list
  permitd pools list anthropic/prod
  permitd pools get claude/any
  permitd pools get claude/any --json | jq -r '.members[] | select(.passed_over != []) | .budget'

FREE is what is left of the limit of which least is left. NOW says which member grants whoever comes next and fits, and why others \
do not. GRANTED counts the permits that the pool handed out of a member since the server began or the pool was declared.";

/// See pools: names that stand for several budgets. The configuration declares them, under `[pools]`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Pools {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List pools with their members.
    List(List),
    /// Show one pool, and why any of its members is passed over.
    Get(Get),
}

/// Lists pools with their members.
#[derive(Debug, Args)]
struct List {
    /// A glob over the name of a pool or of any of its members, PROVIDER/KEY.
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,
    #[command(flatten)]
    remote: Remote,
}

/// Shows one pool, and why any of its members is passed over.
#[derive(Debug, Args)]
struct Get {
    /// PROVIDER/KEY, or PROVIDER alone for its key `default`.
    #[arg(value_parser = budget)]
    pool: BudgetName,
    #[command(flatten)]
    remote: Remote,
}

impl Pools {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            match self.command {
                Command::List(list) => list.run().await,
                Command::Get(get) => show(&get.remote, &get.pool).await,
            }?;
            Ok(ExitCode::SUCCESS)
        })
    }

    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::List(list) => list.remote.json,
            Command::Get(get) => get.remote.json,
        }
    }
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let mut admin = self.remote.admin().await?;
        let (mut pools, mut page_token) = (Vec::new(), String::new());
        loop {
            let answer = admin
                .list_pools(v1::ListPoolsRequest { page_size: 0, page_token, filter: self.filter.clone() })
                .await;
            let page = answer.map_err(|status| self.remote.failure(&status))?.into_inner();
            pools.extend(page.pools);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        if self.remote.json {
            return print_json(pools.iter().map(pool_json));
        }
        if pools.is_empty() {
            let none = if self.filter.is_empty() { "no pools" } else { "no pool matches" };
            eprintln!("{none}; declare one in the server's configuration, under [pools]");
            return Ok(());
        }
        print(pools.iter().map(as_text).collect::<Vec<_>>().join("\n\n"))
    }
}

/// Shows a pool.
pub(crate) async fn show(remote: &Remote, name: &BudgetName) -> Result<(), Failure> {
    let (provider, key) = (name.provider().to_owned(), name.key().to_owned());
    let answer = remote.admin().await?.get_pool(v1::GetPoolRequest { provider, key }).await;
    let pool = answer.map_err(|status| remote.failure(&status))?.into_inner().pool.unwrap_or_default();
    print(if remote.json { pool_json(&pool).to_string() } else { as_text(&pool) })
}

/// Whether a budget was asked for that is a pool.
pub(crate) fn is_pool(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.reason == IS_POOL)
}

fn as_text(pool: &v1::Pool) -> String {
    let mut table = Table::new(&[
        ("MEMBER", Align::Left),
        ("PREFER", Align::Right),
        ("WEIGHT", Align::Right),
        ("GRANTED", Align::Right),
        ("WAITING", Align::Right),
        ("IN FLIGHT", Align::Right),
        ("TIGHTEST LIMIT", Align::Left),
        ("FREE", Align::Right),
        ("OF", Align::Right),
        ("NOW", Align::Left),
    ]);
    for member in &pool.members {
        let now = match member.passed_over.as_slice() {
            [] => member_now(member).to_owned(),
            why => format!("{}: {}", member_now(member), why.join(" ")),
        };
        let tightest = member.tightest.as_ref();
        let limit = tightest.and_then(|limit| limit.configured.as_ref());
        table.row([
            member_name(member),
            member.prefer.to_string(),
            member.weight.to_string(),
            grouped(member.granted),
            grouped(member.waiting),
            grouped(member.in_flight),
            limit.map_or_else(String::new, |limit| shown(limit).name),
            tightest.map_or_else(String::new, |limit| grouped(limit.level)),
            tightest.map_or_else(String::new, |limit| grouped(limit.effective_amount)),
            now,
        ]);
    }
    format!("{}\n{}", pool_name(pool), table.render())
}
