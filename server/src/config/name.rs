//! A budget's name, `provider/key`: the provider ends at the first slash, so it has none itself.

use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

use permitd_budget::{SpecError, check_name};

/// The key where nobody named one.
pub const DEFAULT_KEY: &str = "default";

/// Names a budget: `provider/key`. Clones share the text. In order of the provider, then of the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BudgetName {
    text: Arc<str>,
    /// Where the first slash is.
    slash: u16,
}

/// What is wrong with a name, and with which part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} {problem}")]
pub struct BudgetNameError {
    /// `provider` or `key`.
    pub part: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl BudgetName {
    /// An empty key means `default`.
    ///
    /// # Errors
    /// A part that is too long or has control characters, or a provider that is empty or has a slash.
    pub fn new(provider: &str, key: &str) -> Result<Self, BudgetNameError> {
        let wrong =
            |part: &'static str| move |error: SpecError| BudgetNameError { part, problem: error.problem };
        check_name("provider", provider, false).map_err(wrong("provider"))?;
        check_name("key", key, true).map_err(wrong("key"))?;
        if provider.contains('/') {
            let problem = "has a slash; only keys may have one".to_owned();
            return Err(BudgetNameError { part: "provider", problem });
        }
        let key = if key.is_empty() { DEFAULT_KEY } else { key };
        let slash = u16::try_from(provider.len()).expect("a name is at most 256 bytes");
        Ok(Self { text: format!("{provider}/{key}").into(), slash })
    }

    /// The API being called.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.text[..usize::from(self.slash)]
    }

    /// The alias of the credential in use.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.text[usize::from(self.slash) + 1..]
    }
}

impl Ord for BudgetName {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.provider(), self.key()).cmp(&(other.provider(), other.key()))
    }
}

impl PartialOrd for BudgetName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for BudgetName {
    type Err = BudgetNameError;

    /// `provider/key`, or `provider` alone for its key `default`.
    fn from_str(text: &str) -> Result<Self, BudgetNameError> {
        let (provider, key) = text.split_once('/').unwrap_or((text, ""));
        Self::new(provider, key)
    }
}

impl fmt::Display for BudgetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One `pad`, so that columns can be aligned.
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::BudgetName;

    /// Goal: what is printed can be typed again, and the provider ends at the first slash.
    #[test]
    fn reads_what_it_prints() {
        for text in ["anthropic/prod", "github/team/ci", "a/b c"] {
            assert_eq!(text.parse::<BudgetName>().expect("a name").to_string(), text);
        }
        assert_eq!("openai".parse::<BudgetName>().expect("a name").to_string(), "openai/default");
        assert_eq!("openai/".parse::<BudgetName>().expect("a name").key(), "default");
    }

    /// Goal: the part that is wrong is named.
    #[test]
    fn names_the_wrong_part() {
        let long = "x".repeat(257);
        for (provider, key, part) in [
            ("", "k", "provider"),
            ("a/b", "k", "provider"),
            (&long, "k", "provider"),
            ("p", &long, "key"),
            ("p", "a\nb", "key"),
        ] {
            assert_eq!(
                BudgetName::new(provider, key).expect_err("refused").part,
                part,
                "{provider:?}/{key:?}"
            );
        }
    }
}
