//! Sound input for fuzzing.

use std::time::Duration;

use permitd_budget::{Acquired, Budget, BudgetSpec, LimitSpec, Window};

use super::{
    super::{Store as _, StoredBudget, Table, Write, embedded::create_on, rows},
    NOW, Ram, one,
};
use crate::{
    cell::{Declared, Source},
    config::BudgetName,
};

/// What a server with a busy budget writes.
fn sound_writes() -> Vec<Write> {
    let minute = Duration::from_secs(60);
    let limits = vec![
        LimitSpec::rate("requests", 60, minute),
        LimitSpec { window: Window::Sliding, ..LimitSpec::rate("tokens", 9_000, minute) },
        LimitSpec { tenants: "each".to_owned(), ..LimitSpec::in_flight(5) },
    ];
    let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense");
    let mut heart = Budget::new(&spec, NOW);
    heart.keep();
    let _ = heart.save(NOW, false);
    heart.saved(NOW, &mut Vec::new());
    for _ in 0..3 {
        let asked = heart.acquire(NOW, one(), &mut Vec::new());
        assert!(matches!(asked, Ok(Acquired::Granted(_) | Acquired::Waiting(_))), "{asked:?}");
    }
    let (balance, permits) = heart.save(NOW, false);
    let name: BudgetName = "p/k".parse().expect("a name");
    let declared = Declared { spec, etag: "e".to_owned(), source: Source::Admin };
    let stored = StoredBudget { name, declared, paused: false, deleted: false };
    let mut writes = vec![rows::put_budget(1, &stored), rows::write_balance(1, &balance)];
    writes.extend(permits.iter().map(|(slot, permit)| rows::put_permit(1, *slot, permit.as_ref())));
    writes
}

/// Input for [`file`] that is sound.
pub(crate) fn sound_file() -> Vec<u8> {
    let ram = Ram::default();
    create_on(Box::new(ram.clone())).expect("room");
    ram.open().expect("sound").write(&sound_writes()).expect("room");
    ram.0.lock().clone()
}

/// Input for [`rows`] that is sound.
pub(crate) fn sound_rows() -> Vec<u8> {
    let mut data = Vec::new();
    for write in sound_writes() {
        let Write::Put(table, key, value) = write else { panic!("a row, not {write:?}") };
        let place = Table::ALL.iter().position(|other| *other == table).expect("all are there");
        data.extend([place as u8, key.len() as u8]);
        data.extend(key);
        data.extend((value.len() as u16).to_be_bytes());
        data.extend(value);
    }
    data
}
