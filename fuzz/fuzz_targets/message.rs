//! Any bytes, read as a client's message and as a declared budget: nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use permitd_server::fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::message(data));
