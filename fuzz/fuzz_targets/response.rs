//! Any response, read by every built-in profile: nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use permitd_server::fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::response(data));
