//! Pages of lists that change while they are read: a token says behind what the next page begins, so nothing is shown twice or
//! left out because something else came or went. Pages are bounded in items and in bytes.

use std::{fmt::Display, hash::Hasher as _, str::FromStr};

use permitd_budget::{Glob, bounds};
use permitd_proto::v1;
use prost::Message;
use siphasher::sip::SipHasher13;

use super::state;
use crate::{auth::Caller, config::BudgetName, pool::Pool, registry::Registry, status::Fault};

/// Items of a page where nobody says how many.
const PAGE_DEFAULT: u32 = 100;
/// Items of a page.
const PAGE_MAX: u32 = 1_000;
/// A page ends once it has so many bytes: well below what clients take as one message (4 MiB).
const PAGE_BYTES: usize = 1024 * 1024;
/// Budgets that are looked at under one lock of the registry.
const STRIDE: usize = 256;
/// Bytes of a token's head: the hash of the question.
const HEAD: usize = 8;

/// Reads how many items a page may have.
pub(super) fn page_size(asked: u32) -> Result<usize, Fault> {
    let size = match asked {
        0 => PAGE_DEFAULT,
        1..=PAGE_MAX => asked,
        _ => return Err(Fault::invalid("page_size", format!("{asked} is more than {PAGE_MAX}"))),
    };
    Ok(size as usize)
}

/// Which budgets are asked for, a glob over `provider/key`, of those that the caller may see.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    text: String,
    filter: Glob,
    caller: Caller,
}

impl Wanted {
    /// Empty means all.
    pub(super) fn read(caller: Caller, filter: &str) -> Result<Self, Fault> {
        // Twice a glob over names, and the slash.
        let most = 2 * bounds::NAME_BYTES + 1;
        if filter.len() > most {
            return Err(Fault::invalid("filter", format!("{} bytes; at most {most}", filter.len())));
        }
        Ok(Self { text: filter.to_owned(), filter: Glob::new(filter), caller })
    }

    /// As it was asked.
    pub(super) fn filter(&self) -> &str {
        &self.text
    }

    /// Who asks.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(super) fn holds_for(&self, name: &BudgetName) -> bool {
        self.matches(name) && self.caller.may_see(name)
    }

    /// A pool's own name decides whether the caller may see it, and a member's is enough to find it by.
    pub(super) fn holds_for_pool(&self, pool: &Pool) -> bool {
        let named =
            || self.matches(pool.name()) || pool.members().any(|(member, _)| self.matches(&member.budget));
        self.caller.may_see(pool.name()) && named()
    }

    fn matches(&self, name: &BudgetName) -> bool {
        self.filter.matches_all() || self.filter.matches(&name.to_string())
    }
}

/// A page of budgets.
pub(super) struct Found {
    pub(super) states: Vec<v1::BudgetState>,
    /// The last budget on the page, if another page follows.
    pub(super) next: Option<BudgetName>,
}

/// A page of the budgets asked for, in order, beginning behind `after`.
pub(super) fn find(registry: &Registry, wanted: &Wanted, after: Option<BudgetName>, most: usize) -> Found {
    let mut after = after;
    let mut states = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    loop {
        let cells = registry.list_after(after.as_ref(), STRIDE);
        let Some(end) = cells.last() else { return Found { states, next: None } };
        after = Some(end.name().clone());
        for cell in cells.iter().filter(|cell| wanted.holds_for(cell.name())) {
            if states.len() >= most || bytes >= PAGE_BYTES {
                return Found { states, next: last };
            }
            let state = state(cell);
            bytes += state.encoded_len();
            states.push(state);
            last = Some(cell.name().clone());
        }
    }
}

/// Takes items until they fill a page's bytes; whether any are left.
pub(super) fn fill<T: Message>(items: impl Iterator<Item = T>) -> (Vec<T>, bool) {
    let mut items = items.peekable();
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(item) = items.next()
    {
        bytes += item.encoded_len();
        page.push(item);
    }
    (page, items.peek().is_some())
}

/// Page tokens for one question. They are opaque, and good for that question only.
#[derive(Debug)]
pub(super) struct Pages {
    question: [u8; HEAD],
}

impl Pages {
    /// For the list called `list`, asked with `filter`.
    pub(super) fn new(list: &str, filter: &str) -> Self {
        let mut hasher = SipHasher13::new();
        for part in [list, filter] {
            hasher.write(part.as_bytes());
            hasher.write_u8(0xff);
        }
        Self { question: hasher.finish().to_be_bytes() }
    }

    /// A token for what follows `last`.
    pub(super) fn write(&self, last: &impl Display) -> String {
        let last = last.to_string();
        let bytes = self.question.iter().chain(last.as_bytes());
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a token says; an empty one, that nothing was shown yet.
    pub(super) fn read<T: FromStr>(&self, token: &str) -> Result<Option<T>, Fault> {
        if token.is_empty() {
            return Ok(None);
        }
        let read = || {
            let bytes = from_hex(token)?;
            let (question, last) = bytes.split_at_checked(HEAD)?;
            let last = std::str::from_utf8(last).ok()?;
            if question == self.question { last.parse().ok() } else { None }
        };
        let problem = "is not from the page before, asked with the same filter; begin again without one";
        read().map(Some).ok_or_else(|| Fault::invalid("page_token", problem))
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    // A name is the longest that a token can hold.
    let longest = 2 * (HEAD + 2 * bounds::NAME_BYTES + 1);
    if text.len() > longest
        || !text.len().is_multiple_of(2)
        || !text.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return None;
    }
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a token says what it was given, for its own question only.
    #[test]
    fn tokens_belong_to_their_question() {
        let name: BudgetName = "anthropic/prod ü".parse().expect("a name");
        let pages = Pages::new("budgets", "a*");
        let token = pages.write(&name);
        assert_eq!(pages.read(&token), Ok(Some(name)));
        assert_eq!(pages.read::<BudgetName>(""), Ok(None));
        for other in [Pages::new("budgets", "b*"), Pages::new("changes", "a*"), Pages::new("budgetsa", "*")] {
            assert!(other.read::<BudgetName>(&token).is_err());
        }
    }

    /// Goal: rubbish is refused with the field named, and does no harm.
    #[test]
    fn rubbish_is_no_token() {
        let pages = Pages::new("budgets", "");
        let good = pages.write(&"a/b");
        for token in [
            "x",
            "zz",
            "00",
            "ü",
            &"0".repeat(1 << 20),
            &good[..good.len() - 2],
            &good[1..],
            &format!("{good}ff"),
        ] {
            let fault = pages.read::<u64>(token).expect_err(token);
            assert_eq!(fault.code(), tonic::Code::InvalidArgument);
        }
    }

    /// Goal: page sizes are bounded, and 0 is the default.
    #[test]
    fn sizes_are_bounded() {
        assert_eq!(page_size(0).ok(), Some(100));
        assert_eq!(page_size(1_000).ok(), Some(1_000));
        assert!(page_size(1_001).is_err());
        assert!(page_size(u32::MAX).is_err());
    }

    /// Goal: a page has at least one item and not many bytes more than it may.
    #[test]
    fn pages_are_bounded_in_bytes() {
        let item = || v1::Change { reason: "x".repeat(700 * 1024), ..v1::Change::default() };
        let (page, more) = fill((0..5).map(|_| item()));
        assert_eq!((page.len(), more), (2, true));
        assert_eq!(fill(std::iter::once(item())).0.len(), 1);
    }
}
