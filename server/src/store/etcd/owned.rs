//! The budgets that a server owns: what may be written, and what holds the claims that it is written under.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{ClaimedGroup, PAGE_SLOTS, Row, id_of, slot_of};
use crate::{config::BudgetName, store::Table};

/// The budgets that this server owns: what may be written, and under which claim.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    pub(super) claims: Mutex<Claims>,
    /// A write was refused since a budget is not owned any more.
    pub(crate) deposed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) by_name: HashMap<BudgetName, Claim>,
    pub(super) names: HashMap<u32, BudgetName>,
    pub(super) lost: Vec<BudgetName>,
}

/// What holds a claim.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    /// This server's name.
    pub(crate) owner: String,
    pub(crate) lease: i64,
    /// At which the claim was made: whoever claims later has another.
    pub(crate) revision: i64,
    /// At which it was written last.
    pub(crate) written: i64,
}

#[derive(Debug)]
pub(super) struct Claim {
    pub(super) hold: Hold,
    /// Whether a write under it was given up, and may still come.
    pub(super) is_doubted: bool,
    /// The budget that has the name now.
    pub(super) current: Option<u32>,
    pub(super) pages: BTreeMap<(u32, u32), BTreeMap<u32, Vec<u8>>>,
}

impl Owned {
    /// The budget is this server's from now on, with what was loaded of it. `is_doubted`: a write under the claim may still come.
    pub(crate) fn claimed(&self, name: BudgetName, hold: Hold, is_doubted: bool, rows: &[Row]) {
        let mut claim = Claim { hold, is_doubted, current: None, pages: BTreeMap::new() };
        let mut claims = self.claims.lock();
        for (table, key, value) in rows {
            match (table, id_of(key)) {
                (Table::Budgets, Some(id)) => {
                    claim.current = Some(id);
                    claims.names.insert(id, name.clone());
                }
                (Table::Permits, Some(id)) => {
                    if let Some(slot) = slot_of(key) {
                        claim.pages.entry((id, slot / PAGE_SLOTS)).or_default().insert(slot, value.clone());
                    }
                }
                _ => {}
            }
        }
        claims.by_name.insert(name, claim);
    }

    /// The claim on a budget, if there is one.
    pub(crate) fn revision(&self, name: &BudgetName) -> Option<i64> {
        Some(self.claims.lock().by_name.get(name)?.hold.revision)
    }

    /// These budgets are not this server's any more.
    pub(crate) fn released<'a>(&self, names: impl IntoIterator<Item = &'a BudgetName>) {
        let Claims { by_name, names: by_id, .. } = &mut *self.claims.lock();
        for name in names {
            by_name.remove(name);
        }
        by_id.retain(|_, of| by_name.contains_key(of));
    }

    /// Nothing is this server's any more.
    pub(crate) fn clear(&self) {
        *self.claims.lock() = Claims::default();
    }

    /// What holds the claims that these are written under; `None` if one of them is not this server's any more.
    pub(super) fn holds(&self, groups: &[ClaimedGroup]) -> Option<Vec<(BudgetName, Hold)>> {
        let claims = self.claims.lock();
        let named = groups.iter().filter_map(|(claim, _)| claim.as_ref());
        let hold = |(name, revision): &(BudgetName, i64)| {
            let claim = claims.by_name.get(name).filter(|claim| claim.hold.revision == *revision)?;
            Some((name.clone(), claim.hold.clone()))
        };
        named.map(hold).collect()
    }

    /// Those of them under which a write was given up.
    pub(super) fn doubted(&self, groups: &[ClaimedGroup]) -> Vec<(BudgetName, Hold)> {
        let holds = self.holds(groups).unwrap_or_default();
        let claims = self.claims.lock();
        holds
            .into_iter()
            .filter(|(name, _)| claims.by_name.get(name).is_some_and(|claim| claim.is_doubted))
            .collect()
    }

    pub(super) fn update(&self, held: &[(BudgetName, Hold)], change: impl Fn(&mut Claim)) {
        let mut claims = self.claims.lock();
        for (name, hold) in held {
            if let Some(claim) =
                claims.by_name.get_mut(name).filter(|claim| claim.hold.revision == hold.revision)
            {
                change(claim);
            }
        }
    }

    /// Budgets that turned out to be another's, told once.
    pub(crate) fn take_lost(&self) -> Vec<BudgetName> {
        std::mem::take(&mut self.claims.lock().lost)
    }
}
