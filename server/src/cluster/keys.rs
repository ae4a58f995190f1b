//! Where everything of a cluster stands in etcd, and how a key is read back. The layout is told in docs/cluster.md.

use std::fmt::Display;

use crate::config::BudgetName;

/// The keys of one cluster, all below its prefix.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    root: String,
}

/// What a key that servers watch is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Live {
    /// A server that runs, by its name.
    Member(String),
    /// Who owns a budget.
    Owner(BudgetName),
    /// What is declared of a budget.
    Budget(BudgetName),
    /// Where a budget was moved to.
    Pin(BudgetName),
    /// An entry of the audit trail.
    Change(u64),
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { root: format!("{}/", prefix.trim_end_matches('/')) }
    }

    fn key(&self, room: &str, name: impl Display) -> Vec<u8> {
        format!("{}{room}{name}", self.root).into_bytes()
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[u8] {
        self.root.as_bytes()
    }

    /// What the layout is, and that this is a cluster of permitd's.
    pub(crate) fn format(&self) -> Vec<u8> {
        self.key("format", "")
    }

    /// The key that permit ids are sealed with.
    pub(crate) fn seal(&self) -> Vec<u8> {
        self.key("seal", "")
    }

    /// The largest id of a budget that is handed out.
    pub(crate) fn ids(&self) -> Vec<u8> {
        self.key("ids", "")
    }

    /// Everything that all servers watch.
    pub(crate) fn live(&self) -> Vec<u8> {
        self.key("live/", "")
    }

    pub(crate) fn member(&self, name: &str) -> Vec<u8> {
        self.key("live/members/", name)
    }

    pub(crate) fn owner(&self, budget: &BudgetName) -> Vec<u8> {
        self.key("live/owners/", budget)
    }

    pub(crate) fn budget(&self, budget: &BudgetName) -> Vec<u8> {
        self.key("live/budgets/", budget)
    }

    /// The server that a budget was moved to, which is to keep it.
    pub(crate) fn pin(&self, budget: &BudgetName) -> Vec<u8> {
        self.key("live/pins/", budget)
    }

    pub(crate) fn change(&self, number: u64) -> Vec<u8> {
        self.key("live/changes/", format_args!("{number:016x}"))
    }

    pub(crate) fn balance(&self, id: u32) -> Vec<u8> {
        self.key("kept/balances/", format_args!("{id:08x}"))
    }

    /// All pages of a budget's permits.
    pub(crate) fn permits(&self, id: u32) -> Vec<u8> {
        self.key("kept/permits/", format_args!("{id:08x}/"))
    }

    pub(crate) fn page(&self, id: u32, page: u32) -> Vec<u8> {
        self.key("kept/permits/", format_args!("{id:08x}/{page:08x}"))
    }

    /// What a live key is about; `None` for what a later version keeps beside.
    pub(crate) fn read(&self, key: &[u8]) -> Option<Live> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(&self.root)?.strip_prefix("live/")?;
        let (room, name) = key.split_once('/')?;
        Some(match room {
            "members" => Live::Member(name.to_owned()),
            "owners" => Live::Owner(name.parse().ok()?),
            "budgets" => Live::Budget(name.parse().ok()?),
            "pins" => Live::Pin(name.parse().ok()?),
            "changes" => Live::Change(u64::from_str_radix(name, 16).ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is written is read back, names with slashes too, and another cluster's keys are nothing.
    #[test]
    fn keys_are_read_back() {
        let (keys, other) = (Keys::new("permitd/eu/"), Keys::new("permitd/us"));
        let name: BudgetName = "openai/team/a".parse().expect("a name");
        for (key, live) in [
            (keys.member("10.0.0.1:7110"), Live::Member("10.0.0.1:7110".to_owned())),
            (keys.owner(&name), Live::Owner(name.clone())),
            (keys.budget(&name), Live::Budget(name.clone())),
            (keys.pin(&name), Live::Pin(name.clone())),
            (keys.change(7), Live::Change(7)),
        ] {
            assert!(key.starts_with(&keys.live()) && key.starts_with(keys.all()));
            assert_eq!((keys.read(&key), other.read(&key)), (Some(live), None));
        }
        assert_eq!(keys.read(&keys.balance(1)), None);
        assert!(keys.page(1, 2).starts_with(&keys.permits(1)));
    }
}
