//! Any response, read by every built-in profile: nothing panics.
//!
//! The input is a status in two bytes, then lines `name: value`, an empty line, and the body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use permitd_server::fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::read_response(data));
