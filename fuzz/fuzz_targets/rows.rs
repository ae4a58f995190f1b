//! Any rows of a store, which a budget goes on from: they make sense or are refused, and nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use permitd_server::fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::rows(data));
