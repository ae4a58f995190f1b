//! Everybody who is known, by what they show: a token, or the name in a certificate or a JWT. Names are found literally before they
//! are found by a glob, and of several globs the first identity's counts, by its name.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use permitd_budget::Glob;

use super::{
    Caller, TokenHash,
    caller::{Rules, is_glob},
};
use crate::{
    config::{AuthConfig, IdentityConfig},
    tls::Certificate,
};

/// Everybody who is known.
#[derive(Debug, Default)]
pub(super) struct Directory {
    rules: BTreeMap<String, Arc<Rules>>,
    /// By the first half of the hash; the whole is compared in constant time.
    tokens: HashMap<u128, (TokenHash, Arc<Rules>)>,
    certificates: Names,
    subjects: Names,
}

/// Whose a name is.
#[derive(Debug, Default)]
struct Names {
    literal: HashMap<String, Arc<Rules>>,
    globs: Vec<(Glob, Arc<Rules>)>,
}

impl Directory {
    /// Everybody whom the configuration knows. Who was known before, and is known alike, stays the same.
    pub(super) fn new(config: &AuthConfig, before: &Self) -> Self {
        let rules_of = |name: &String, of: &IdentityConfig| {
            let same = before.rules.get(name).filter(|rules| rules.are(of));
            same.cloned().unwrap_or_else(|| Arc::new(Rules::new(name, of)))
        };
        let rules: Vec<_> = config.identities.iter().map(|(name, of)| (of, rules_of(name, of))).collect();
        let tokens = rules.iter().flat_map(|(of, rules)| {
            of.tokens.iter().map(move |hash| (hash.prefix(), (*hash, Arc::clone(rules))))
        });
        Self {
            rules: rules.iter().map(|(_, rules)| (rules.identity().to_owned(), Arc::clone(rules))).collect(),
            tokens: tokens.collect(),
            certificates: Names::new(&rules, |of| &of.certificates),
            subjects: Names::new(&rules, |of| &of.subjects),
        }
    }

    /// This one is in force now: streams of those end who are not known any more, or not alike.
    pub(super) fn replaced_by(&self, next: &Self) {
        for (name, rules) in &self.rules {
            if !next.rules.get(name).is_some_and(|next| Arc::ptr_eq(next, rules)) {
                rules.end();
            }
        }
    }

    /// Whose token it is.
    pub(super) fn by_token(&self, token: &str) -> Option<Caller> {
        let hash = TokenHash::of(token);
        let (known, rules) = self.tokens.get(&hash.prefix())?;
        (*known == hash).then(|| Caller::identified(rules.identity().to_owned(), Arc::clone(rules), None))
    }

    /// Whose certificate it is; its first name that anybody has.
    pub(super) fn by_certificate(&self, certificate: &Certificate) -> Option<Caller> {
        let until = Some(certificate.until);
        certificate.names.iter().find_map(|name| self.certificates.find(name, until))
    }

    /// Whose JWT it is.
    pub(super) fn by_subject(&self, subject: &str, until: SystemTime) -> Option<Caller> {
        self.subjects.find(subject, Some(until))
    }
}

impl Names {
    fn new(rules: &[(&IdentityConfig, Arc<Rules>)], patterns: fn(&IdentityConfig) -> &[String]) -> Self {
        let mut names = Self::default();
        for (of, rules) in rules {
            for pattern in patterns(of) {
                if is_glob(pattern) {
                    names.globs.push((Glob::new(pattern), Arc::clone(rules)));
                } else {
                    names.literal.entry(pattern.clone()).or_insert_with(|| Arc::clone(rules));
                }
            }
        }
        names
    }

    /// One identity may be many callers, who then are `identity/name`: no identity's name has a slash, so they can't be taken for
    /// another.
    fn find(&self, name: &str, until: Option<SystemTime>) -> Option<Caller> {
        if let Some(rules) = self.literal.get(name) {
            return Some(Caller::identified(rules.identity().to_owned(), Arc::clone(rules), until));
        }
        let (_, rules) = self.globs.iter().find(|(glob, _)| glob.matches(name))?;
        Some(Caller::identified(format!("{}/{name}", rules.identity()), Arc::clone(rules), until))
    }
}
