//! `permitd budgets watch`

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use jiff::Timestamp;
use permitd_proto::v1;
use permitd_server::shown::{name, state_json};

use super::show::table;
use crate::{
    failure::Failure,
    format::{on_terminal, print, print_json, wire_span},
    limits::duration,
    remote::Remote,
};

const EXAMPLES: &str = "\
Examples:
  permitd budgets watch
  permitd budgets watch 'anthropic/*' --interval 200ms
  permitd budgets watch --json | jq -r '[.budget, .waiting] | @tsv'

On a terminal the table is drawn anew in place; in a pipe, budgets are printed as they change.
Ctrl-C ends it. In JSON, a budget that was deleted comes once more with an empty etag.";

/// From the top left corner, with nothing of what stood there left over.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Shows budgets as they change.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Watch {
    /// A glob over PROVIDER/KEY.
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,
    /// How often to look, at least 100ms.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    interval: Duration,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Watch {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut admin = self.remote.admin().await?;
        let interval = Some(wire_span(self.interval));
        let request = v1::WatchBudgetsRequest { filter: self.filter.clone(), interval };
        let answer = admin.watch_budgets(request).await;
        let mut changes = answer.map_err(|status| self.remote.failure(&status))?.into_inner();
        let mut known = BTreeMap::new();
        while let Some(change) = changes.message().await.map_err(|status| self.remote.failure(&status))? {
            self.show(&mut known, change.states)?;
        }
        Ok(())
    }

    fn show(
        &self,
        known: &mut BTreeMap<String, v1::BudgetState>,
        changed: Vec<v1::BudgetState>,
    ) -> Result<(), Failure> {
        if self.remote.json {
            return print_json(changed.iter().map(state_json));
        }
        let in_place = on_terminal();
        let now = Timestamp::now().strftime("%H:%M:%SZ");
        let gone =
            |state: &v1::BudgetState| state.budget.as_ref().is_none_or(|budget| budget.etag.is_empty());
        if !in_place {
            for state in changed.iter().filter(|state| gone(state)) {
                print(format!("{now} {} was deleted", state.budget.as_ref().map(name).unwrap_or_default()))?;
            }
            let living: Vec<_> = changed.into_iter().filter(|state| !gone(state)).collect();
            return if living.is_empty() { Ok(()) } else { print(format!("{now}\n{}\n", table(&living))) };
        }
        for state in changed {
            let Some(budget) = &state.budget else { continue };
            match gone(&state) {
                true => drop(known.remove(&name(budget))),
                false => drop(known.insert(name(budget), state)),
            }
        }
        let states: Vec<v1::BudgetState> = known.values().cloned().collect();
        print(format!("{CLEAR}permitd at {}, {now}\n\n{}", self.remote.server, table(&states)))
    }
}
