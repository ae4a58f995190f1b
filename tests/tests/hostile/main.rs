//! Peers that are wrong, careless or malicious, against the real process: each gets a fitting answer with the field named, a polite client
//! beside it keeps being served, and nothing panics.

mod bytes;
mod calls;
mod fields;
mod floods;
mod sessions;
mod support;
