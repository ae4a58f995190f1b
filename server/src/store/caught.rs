//! Panics that are answers: where a library trips over a damaged file, that is told as damage, and nothing of the panic goes to stderr.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
};

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Calls it; `None` if it panicked.
pub(super) fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if !IS_QUIET.get() {
                told(panicked);
            }
        }));
    });
    IS_QUIET.set(true);
    let answer = catch_unwind(AssertUnwindSafe(call));
    IS_QUIET.set(false);
    answer.ok()
}
