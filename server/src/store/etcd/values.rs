//! How rows stand in etcd, and how those of one budget are read back.

use std::collections::BTreeMap;

use prost::Message;

use super::Row;
use crate::{
    clock::Pulse,
    store::{Table, rows::read_pulse},
};

/// A budget's declaration, with its id.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BudgetValue {
    #[prost(fixed32, tag = "1")]
    pub(crate) id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) row: Vec<u8>,
}

/// A balance, with whose clock it was written by, and when.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BalanceValue {
    /// The process.
    #[prost(string, tag = "1")]
    pub(super) writer: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) pulse: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) row: Vec<u8>,
}

/// A page of permits.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PageValue {
    #[prost(btree_map = "uint32, bytes", tag = "1")]
    pub(super) slots: BTreeMap<u32, Vec<u8>>,
}

/// What etcd has of one budget.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) rows: Vec<Row>,
    /// Which process wrote the balance, and when that was by its clock.
    pub(crate) written_by: Option<(String, Pulse)>,
}

impl Loaded {
    /// The budget's declaration.
    pub(crate) fn declared(&mut self, value: &[u8]) -> Option<u32> {
        let BudgetValue { id, row } = BudgetValue::decode(value).ok()?;
        self.rows.push((Table::Budgets, id.to_be_bytes().to_vec(), row));
        Some(id)
    }

    /// What is left of it.
    pub(crate) fn balance(&mut self, id: u32, value: &[u8]) -> Option<()> {
        let BalanceValue { writer, pulse, row } = BalanceValue::decode(value).ok()?;
        self.written_by = Some((writer, read_pulse(&pulse)?));
        self.rows.push((Table::Balances, id.to_be_bytes().to_vec(), row));
        Some(())
    }

    /// A page of its permits.
    pub(crate) fn page(&mut self, id: u32, value: &[u8]) -> Option<()> {
        for (slot, row) in PageValue::decode(value).ok()?.slots {
            self.rows.push((Table::Permits, [id.to_be_bytes(), slot.to_be_bytes()].concat(), row));
        }
        Some(())
    }
}
