//! Any text, read as a configuration: it is right or refused, and nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use permitd_server::fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::config(data));
