//! Globs over names: `*` stands for any run of characters, `?` for one, everything else for itself. Matching takes
//! linear extra space of nothing and at most (pattern x name) steps, so no pattern is a trap.

use crate::spec::bounds;

/// What stands for others.
pub(crate) const WILD: [char; 2] = ['*', '?'];

/// A pattern over models, tenants or budget names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Box<str>);

impl Glob {
    /// A pattern; the empty one matches everything.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// What is wrong with a pattern, if anything.
    #[must_use]
    pub fn problem(pattern: &str) -> Option<String> {
        (pattern.len() > bounds::NAME_BYTES)
            .then(|| format!("{} bytes; a glob has at most {}", pattern.len(), bounds::NAME_BYTES))
    }

    /// Whether the pattern stands for the whole of `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if self.matches_all() {
            return true;
        }
        let (pattern, name): (Vec<char>, Vec<char>) = (self.0.chars().collect(), name.chars().collect());
        let (mut p, mut n) = (0, 0);
        // Where to go on after the latest `*` if what follows it does not fit: it then takes one character more.
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some('*') => {
                    retry = Some((p + 1, n + 1));
                    p += 1;
                }
                Some(c) if *c == '?' || *c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match retry {
                    Some((after_star, longer)) => {
                        (p, n) = (after_star, longer);
                        retry = Some((after_star, longer + 1));
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == '*')
    }

    /// Whether some name matches both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        if self.matches_all() || other.matches_all() {
            return true;
        }
        let (one, other): (Vec<char>, Vec<char>) = (self.0.chars().collect(), other.0.chars().collect());
        // For each rest of the other one: whether it meets what was seen of this one, from its end.
        let mut rests: Vec<bool> =
            (0..=other.len()).map(|at| other[at..].iter().all(|c| *c == '*')).collect();
        for c in one.iter().rev() {
            let mut longer = vec![false; other.len() + 1];
            for at in (0..=other.len()).rev() {
                longer[at] = match (c, other.get(at)) {
                    ('*', None) => rests[at],
                    ('*', Some(_)) | (_, Some('*')) => rests[at] || longer[at + 1],
                    (_, None) => false,
                    (c, Some(d)) => (c == d || *c == '?' || *d == '?') && rests[at + 1],
                };
            }
            rests = longer;
        }
        rests[0]
    }

    /// Whether it stands for nothing but itself.
    pub(crate) fn is_one_name(&self) -> bool {
        !self.0.is_empty() && !self.0.contains(WILD)
    }

    /// Whether every name matches.
    #[must_use]
    pub fn matches_all(&self) -> bool {
        self.0.is_empty() || &*self.0 == "*"
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    /// Goal: stars and question marks stand for what shells take them for, on characters, not bytes.
    #[test]
    fn matches_like_a_shell() {
        for (pattern, name, expected) in [
            ("", "anything", true),
            ("*", "", true),
            ("claude-*", "claude-opus-4", true),
            ("claude-*", "gpt-5", false),
            ("*-opus-*", "claude-opus-4", true),
            ("*opus", "claude-opus-4", false),
            ("gpt-?", "gpt-5", true),
            ("gpt-?", "gpt-55", false),
            ("g?t", "gµt", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} against {name}");
        }
    }

    /// Goal: two patterns meet if and only if there is a name for both.
    #[test]
    fn meets_what_shares_a_name() {
        for (one, other, expected) in [
            ("", "team-*", true),
            ("*", "", true),
            ("team-*", "team-a", true),
            ("team-*", "t*", true),
            ("team-*", "*-a", true),
            ("team-*", "secret-*", false),
            ("team-*", "tea?", false),
            ("team-?", "*m-b", true),
            ("a*c", "*b*", true),
            ("a*c", "ab", false),
            ("a?c", "?b?", true),
            ("a?c", "?b", false),
            ("desk", "desk", true),
            ("desk", "desks", false),
            ("*a", "b**", true),
        ] {
            let (one, other) = (Glob::new(one), Glob::new(other));
            assert_eq!((one.meets(&other), other.meets(&one)), (expected, expected), "{one:?}, {other:?}");
        }
    }
}
