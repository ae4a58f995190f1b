//! A limit's amount on its way to another one: written, looked at by the server, confirmed, declared.

use permitd_proto::v1;
use permitd_server::shown::shown;

use super::{board::Name, steer::Errand};
use crate::{format::grouped, limits::amount};

/// Characters of an amount that can be written.
const AMOUNT_CHARACTERS: usize = 24;

/// A change of one limit.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) budget: Name,
    /// What is counted, in what window.
    pub(super) limit: String,
    pub(super) stage: Stage,
    /// The amount as it is written.
    pub(super) text: String,
    /// What is wrong with it.
    pub(super) complaint: Option<String>,
    before: v1::Budget,
    /// Which of the declared limits.
    at: usize,
}

/// How far a change is.
#[derive(Debug, PartialEq)]
pub(super) enum Stage {
    /// The amount is being written.
    Written,
    /// The server looks at it, or puts it in force.
    Asked,
    /// The server would take it.
    Previewed(Box<v1::Budget>),
}

impl Change {
    /// Begins to change a limit of `state`.
    ///
    /// # Errors
    /// Why that can't be.
    pub(super) fn begin(budget: Name, state: &v1::BudgetState, at: usize) -> Result<Self, String> {
        let Some(limit) = state.limits.get(at) else {
            return Err(format!("{budget} has no limits; declare some with `permitd budgets set`"));
        };
        let before = state.budget.clone().unwrap_or_default();
        let chosen = shown(&limit.configured.clone().unwrap_or_default()).name;
        let Some(at) = before.limits.iter().position(|declared| shown(declared).name == chosen) else {
            return Err(format!(
                "nobody declared {chosen}, so there is nothing to change; declare it with `permitd budgets set`"
            ));
        };
        let (stage, text) = (Stage::Written, String::new());
        Ok(Self { budget, limit: chosen, stage, text, complaint: None, before, at })
    }

    /// The amount as it stands.
    pub(super) fn amount(&self) -> u64 {
        self.before.limits[self.at].amount
    }

    /// Another character of the amount; what the server has looked at is then no longer what is written.
    pub(super) fn write(&mut self, character: char) {
        if self.stage == Stage::Asked {
            return;
        }
        self.stage = Stage::Written;
        if self.text.len() < AMOUNT_CHARACTERS && !character.is_control() {
            self.text.push(character);
        }
    }

    /// Takes the last character back.
    pub(super) fn erase(&mut self) {
        if self.stage != Stage::Asked {
            self.stage = Stage::Written;
            self.text.pop();
        }
    }

    /// What to do after Enter, if anything.
    pub(super) fn go_on(&mut self) -> Option<Errand> {
        self.complaint = None;
        let errand = match &self.stage {
            Stage::Asked => return None,
            Stage::Previewed(after) => Errand::Declare(after.clone()),
            Stage::Written => match amount(&self.text) {
                Ok(amount) => {
                    let mut after = self.before.clone();
                    after.limits[self.at].amount = amount;
                    Errand::Preview(Box::new(after))
                }
                Err(problem) => {
                    self.complaint = Some(problem);
                    return None;
                }
            },
        };
        self.stage = Stage::Asked;
        Some(errand)
    }

    /// The server would take the change.
    pub(super) fn previewed(&mut self, after: Box<v1::Budget>) {
        if self.stage == Stage::Asked {
            self.stage = Stage::Previewed(after);
        }
    }

    /// The server refused, or would.
    pub(super) fn refused(&mut self, why: String) {
        self.complaint = Some(why);
        self.stage = Stage::Written;
    }

    /// What the change does to what is there, and to those who wait.
    pub(super) fn effect(
        &self,
        after: &v1::Budget,
        explained: Option<&v1::ExplainBudgetResponse>,
    ) -> Vec<String> {
        let mut told = vec![format!(
            "declared  {} -> {}",
            grouped(self.amount()),
            grouped(after.limits[self.at].amount)
        )];
        if let Some(explained) = explained {
            let all: u32 = explained.lines.iter().map(|line| line.waiting).sum();
            let first =
                |line: &&v1::WaitingLine| line.first.as_ref().is_some_and(|first| first.limit == self.limit);
            let held: u32 = explained.lines.iter().filter(first).map(|line| line.waiting).sum();
            let all = all + explained.others_waiting;
            told.push(format!("waiting   {}, {} of them for this limit", grouped(all), grouped(held)));
        }
        told
    }
}
