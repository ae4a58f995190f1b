//! Ways in for fuzzers, which see nothing of the library's inside otherwise. Whatever reads bytes that others wrote has one: it takes
//! any bytes, and all that it promises is to come back. Not part of the interface.

#[cfg(test)]
mod mutate;
#[cfg(test)]
mod tests;

use permitd_budget::Time;

use crate::{
    config::Config,
    profile::Profiles,
    reading::{Parts, read},
};
pub use crate::{session::fuzz as message, store::fuzz::rows};

/// Any text, as a configuration.
pub fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Config::read(text, "fuzzed.toml", []);
    }
}

/// Any text, as a profile's file.
pub fn profile(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Profiles::read([("fuzzed.toml", text)]);
    }
}

/// Any bytes as a response, by every built-in profile: a status in two bytes, lines `name: value`, an empty line, a body.
pub fn response(data: &[u8]) {
    let (status, rest) = data.split_at(data.len().min(2));
    let status = status.iter().fold(0, |status, byte| status << 8 | u32::from(*byte)) % 1_000;
    let end = rest.windows(2).position(|pair| pair == b"\n\n").unwrap_or(rest.len());
    let body = rest.get(end + 2..).unwrap_or_default();
    let head = String::from_utf8_lossy(&rest[..end]);
    let named = head.lines().filter_map(|line| line.split_once(": "));
    let headers = named.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let parts = Parts { status, headers: &headers, body };
    for profile in Profiles::built_in().iter() {
        let _ = read(profile, None, &parts, Time::from_nanos(1_700_000_000_000_000_000));
    }
}
