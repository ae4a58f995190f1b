//! `permitd budgets schedule`

use std::{sync::Arc, time::Duration};

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use permitd_budget::CheckedSpec;
use permitd_proto::v1;
use permitd_server::{
    admin::read_budget,
    config::{BudgetName, LimitText},
    schedule::{ScheduledText, course},
    shown::{in_force_json, scheduled},
};

use crate::{
    failure::Failure,
    format::{print, print_json},
    limits::{budget, duration},
    remote::Remote,
    table::{Align, Table},
};

/// Changes that are shown at most.
const SHOWN_MAX: usize = 1_000;

const EXAMPLES: &str = "\
Examples:
  permitd budgets schedule zhipu/prod
  permitd budgets schedule zhipu/prod --within 1d --json

Times are those of the place that the schedule's first entry names.";

/// Shows which limits are in force from now on, and from when to when.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Schedule {
    /// PROVIDER/KEY
    #[arg(value_parser = budget)]
    budget: BudgetName,
    /// How far to look ahead.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "7d")]
    within: Duration,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Schedule {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let spec = Arc::new(self.fetch().await?);
        let now = Timestamp::now();
        let until = now.saturating_add(self.within).unwrap_or(Timestamp::MAX);
        let course = course(&spec, now, until, SHOWN_MAX);
        if self.remote.json {
            return print_json(course.iter().map(|in_force| in_force_json(&spec, in_force)));
        }
        let Some(first) = spec.schedule.first() else {
            eprintln!("{} has no schedule: its limits are the same at all hours", self.budget);
            return Ok(());
        };
        let zone = TimeZone::get(&first.hours.zone).unwrap_or(TimeZone::UTC);
        let told = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string();
        let mut table = Table::new(&["FROM", "UNTIL", "LIMITS"].map(|column| (column, Align::Left)));
        for (at, in_force) in course.iter().enumerate() {
            let from = if at == 0 { "now".to_owned() } else { told(in_force.from) };
            let limits: Vec<String> =
                scheduled(&spec, in_force).map(|limit| LimitText(limit).to_string()).collect();
            table.row([from, told(in_force.until), limits.join(" ")]);
        }
        let entries: Vec<String> =
            spec.schedule.iter().map(|entry| ScheduledText(entry).to_string()).collect();
        print(format!("{}\n\nschedule  {}", table.render(), entries.join("\n          ")))
    }

    async fn fetch(&self) -> Result<CheckedSpec, Failure> {
        let mut admin = self.remote.admin().await?;
        let (provider, key) = (self.budget.provider().to_owned(), self.budget.key().to_owned());
        let answer = admin.get_budget(v1::GetBudgetRequest { provider, key }).await;
        let answer = answer.map_err(|status| self.remote.failure(&status))?.into_inner();
        let declared = answer.state.and_then(|state| state.budget).unwrap_or_default();
        let (_, spec) = read_budget(&declared).map_err(|fault| {
            let newer = "the server may be newer than this command";
            Failure::new(format!("what is declared of {} makes no sense here", self.budget))
                .because(fault.into_status().message().to_owned())
                .hint(newer)
        })?;
        Ok(spec)
    }
}
