//! Any text, read as a profile's file: it is right or refused, and nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use permitd_server::profile::Profiles;

fuzz_target!(|text: &str| {
    let _ = Profiles::read([("fuzzed.toml", text)]);
});
