//! Tokens, of which the server knows nothing but a hash: whoever reads its configuration can use none of them. One hash without salt
//! is enough for what nobody can guess; it would not be for passwords.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

/// What tokens made here begin with, so that people and scanners know what they have found.
const PREFIX: &str = "permitd_";
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// What hashes begin with.
const ALGORITHM: &str = "sha256:";
/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// The SHA-256 of a token, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; HASH_BYTES]);

/// That text is no hash of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no hash of a token: write sha256: and 64 hexadecimal digits, as `permitd token new` prints them, and never the token"
)]
pub struct TokenHashError;

impl TokenHash {
    /// Of this token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }

    /// Its first half, to look it up by: whoever learns it from how long that takes has learned nothing of any token.
    pub(super) fn prefix(&self) -> u128 {
        u128::from_be_bytes(self.0[..16].try_into().expect("half of 32 bytes"))
    }
}

/// In a time that says nothing about where they differ.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALGORITHM)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(not shown)")
    }
}

impl FromStr for TokenHash {
    type Err = TokenHashError;

    fn from_str(text: &str) -> Result<Self, TokenHashError> {
        let digits = text.strip_prefix(ALGORITHM).ok_or(TokenHashError)?;
        if digits.len() != 2 * HASH_BYTES || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(TokenHashError);
        }
        let mut hash = [0; HASH_BYTES];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| TokenHashError)?;
        }
        Ok(Self(hash))
    }
}

/// A new token, which nobody can guess.
#[must_use]
pub fn new_token() -> String {
    let bytes: [u8; TOKEN_BYTES] = rand::random();
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: hashes are those that everybody else computes, and are read as they are written.
    #[test]
    fn hashes_are_sha256() {
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenHash::of("abc").to_string(), abc);
        assert_eq!(abc.parse(), Ok(TokenHash::of("abc")));
        assert_ne!(TokenHash::of("abc"), TokenHash::of("abd"));
    }

    /// Goal: a token in the place of its hash is refused, as all else that is none, and not repeated.
    #[test]
    fn refuses_what_is_no_hash() {
        let token = new_token();
        let short = &TokenHash::of(&token).to_string()[..70];
        for text in ["", "sha256:", &token, short, &format!("sha256:{}", "é".repeat(32)), &"0".repeat(64)] {
            let error = text.parse::<TokenHash>().expect_err(text);
            assert!(text.is_empty() || text == "sha256:" || !error.to_string().contains(text), "{error}");
        }
    }

    /// Goal: no two tokens are the same, and each has its random bytes whole.
    #[test]
    fn tokens_are_new() {
        let (one, other) = (new_token(), new_token());
        assert_ne!(one, other);
        assert_eq!(one.len(), PREFIX.len() + 43, "{one}");
    }
}
