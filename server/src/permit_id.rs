//! What callers know a permit by: opaque, and signed, so that only ids which this server issued can reach a budget, and only for
//! whom it issued them. The key is kept with the budgets, so that ids outlast the process.
//!
//! Version (1 byte), cell (4), permit (8) and a keyed hash over them and the holder (8), as 28 characters of base64url.

mod base64url;

use permitd_budget::PermitKey;
use siphasher::sip::SipHasher24;

use self::base64url::{BYTES, CHARACTERS};
use crate::auth::Holder;

const VERSION: u8 = 1;
const SIGNED: usize = 13;

/// Writes and reads ids.
#[derive(Clone, Debug)]
pub(crate) struct PermitIds {
    seal: Seal,
}

/// An id, where it takes no allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PermitId([u8; CHARACTERS]);

impl PermitId {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64url is ASCII")
    }

    /// The same, without a look at whether it is text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The secret behind the signatures: whoever has it can issue ids.
#[derive(Clone)]
pub(crate) struct Seal([u8; 16]);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(secret)")
    }
}

impl Seal {
    /// A new one, which nobody can guess.
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    /// One that was kept.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// To be kept where nobody else can read it.
    pub(crate) fn to_bytes(&self) -> [u8; 16] {
        self.0
    }

    /// Over all bytes at once: in parts it takes longer.
    fn sign(&self, bytes: &[u8; SIGNED], holder: Holder) -> [u8; 8] {
        let mut all = [0; SIGNED + 8];
        all[..SIGNED].copy_from_slice(bytes);
        all[SIGNED..].copy_from_slice(&holder.0.to_be_bytes());
        SipHasher24::new_with_key(&self.0).hash(&all).to_be_bytes()
    }
}

impl PermitIds {
    pub(crate) fn new(seal: Seal) -> Self {
        Self { seal }
    }

    /// The id by which this holder knows a permit of a cell.
    pub(crate) fn write(&self, cell: u32, permit: PermitKey, holder: Holder) -> PermitId {
        let mut signed = [0; SIGNED];
        signed[0] = VERSION;
        signed[1..5].copy_from_slice(&cell.to_be_bytes());
        signed[5..].copy_from_slice(&permit.as_u64().to_be_bytes());
        let mut bytes = [0; BYTES];
        bytes[..SIGNED].copy_from_slice(&signed);
        bytes[SIGNED..].copy_from_slice(&self.seal.sign(&signed, holder));
        PermitId(base64url::write(&bytes))
    }

    /// The cell that an id names, whoever issued it to whomever.
    pub(crate) fn cell_of(text: &str) -> Option<u32> {
        let (cell, _) = parts(bytes_of(text)?.first_chunk()?);
        Some(cell)
    }

    /// The cell and permit of an id that this process issued to this holder; `None` for every other text.
    pub(crate) fn read(&self, text: &str, holder: Holder) -> Option<(u32, PermitKey)> {
        let bytes = bytes_of(text)?;
        let (signed, signature) = bytes.split_first_chunk::<SIGNED>()?;
        // Compared as numbers: one comparison, whose time says nothing about where they differ.
        let given = u64::from_be_bytes(signature.try_into().expect("8 bytes are left"));
        if given != u64::from_be_bytes(self.seal.sign(signed, holder)) {
            return None;
        }
        Some(parts(signed))
    }
}

/// What a text of this version stands for, whoever wrote it.
fn bytes_of(text: &str) -> Option<[u8; BYTES]> {
    let bytes = base64url::read(text.as_bytes().try_into().ok()?)?;
    (bytes[0] == VERSION).then_some(bytes)
}

/// The cell and the permit.
fn parts(signed: &[u8; SIGNED]) -> (u32, PermitKey) {
    let cell = u32::from_be_bytes(signed[1..5].try_into().expect("4 bytes"));
    let permit = u64::from_be_bytes(signed[5..].try_into().expect("8 bytes"));
    (cell, PermitKey::from_u64(permit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Holder = Holder(5);

    /// Goal: an id can be read by who wrote it for whom it was written for, and by nobody else.
    #[test]
    fn round_trip() {
        let ids = PermitIds::new(Seal::random());
        for (cell, permit) in [(0, 0), (7, 42), (u32::MAX, u64::MAX)] {
            let id = ids.write(cell, PermitKey::from_u64(permit), MINE);
            let text = id.as_str();
            assert_eq!(ids.read(text, MINE), Some((cell, PermitKey::from_u64(permit))));
            assert_eq!(ids.read(text, Holder(6)), None, "another holder");
            assert_eq!(PermitIds::new(Seal::random()).read(text, MINE), None, "another process");
        }
    }

    /// Goal: no single changed character, and no garbage, passes.
    #[test]
    fn forgeries_are_nothing() {
        let ids = PermitIds::new(Seal::random());
        let text = ids.write(7, PermitKey::from_u64(42), MINE).as_str().to_owned();
        for at in 0..CHARACTERS {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(ids.read(std::str::from_utf8(&forged).expect("ASCII"), MINE), None, "changed at {at}");
        }
        for garbage in ["", "x", &text[1..], &format!("{text}A"), &"=".repeat(CHARACTERS), "ééééééééééééééé"]
        {
            assert_eq!(ids.read(garbage, MINE), None, "{garbage:?}");
        }
    }
}
