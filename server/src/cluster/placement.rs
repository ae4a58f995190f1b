//! Which server a budget should be owned by: rendezvous hashing, so that a server that comes or goes moves its own share and
//! nothing else; and nobody takes much more than an equal part.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::config::BudgetName;

/// Above an equal part, in eighths, before a server is passed over.
const SPARE_EIGHTHS: usize = 2;

/// A server, and how many budgets it owns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) name: &'a str,
    pub(crate) owned: usize,
}

/// The server for a budget that nobody owns, of those that there are.
pub(crate) fn place<'a>(budget: &BudgetName, candidates: &[Candidate<'a>]) -> Option<&'a str> {
    let owned: usize = candidates.iter().map(|candidate| candidate.owned).sum();
    let most = most(owned + 1, candidates.len());
    let with_room = candidates.iter().filter(|candidate| candidate.owned < most);
    with_room.max_by_key(|candidate| (score(budget, candidate.name), candidate.name)).map(|found| found.name)
}

/// The server that a budget should move to from `owner`, if it would be better off there: one that is first in the order for it, and
/// has less to do.
pub(crate) fn better<'a>(budget: &BudgetName, owner: &str, candidates: &[Candidate<'a>]) -> Option<&'a str> {
    let loaded = candidates.iter().find(|candidate| candidate.name == owner)?.owned;
    let first = candidates.iter().max_by_key(|candidate| (score(budget, candidate.name), candidate.name))?;
    (first.name != owner && first.owned < loaded).then_some(first.name)
}

/// The most that one of so many servers takes of so many budgets.
fn most(budgets: usize, servers: usize) -> usize {
    let servers = servers.max(1);
    (budgets * (8 + SPARE_EIGHTHS)).div_ceil(8 * servers)
}

fn score(budget: &BudgetName, server: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    for part in [budget.provider(), budget.key(), server] {
        hasher.write(part.as_bytes());
        // Else two names that meet elsewhere would be the same.
        hasher.write_u8(0xff);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn fill(servers: &[&'static str], budgets: usize) -> BTreeMap<usize, &'static str> {
        let mut owned: BTreeMap<&str, usize> = servers.iter().map(|server| (*server, 0)).collect();
        let mut placed = BTreeMap::new();
        for number in 0..budgets {
            let candidates: Vec<_> =
                servers.iter().map(|name| Candidate { name, owned: owned[name] }).collect();
            let found = place(&name(number), &candidates).expect("there are servers");
            *owned.get_mut(found).expect("one of them") += 1;
            placed.insert(number, found);
        }
        placed
    }

    fn name(number: usize) -> BudgetName {
        BudgetName::new("p", &format!("k{number}")).expect("a name")
    }

    /// Goal: nobody takes more than its bounded part, however many there are, and everybody takes some.
    #[test]
    fn parts_are_bounded() {
        for servers in [&["a"][..], &["a", "b"], &["a", "b", "c"], &["a", "b", "c", "d", "e"]] {
            let placed = fill(servers, 1_000);
            for server in servers {
                let part = placed.values().filter(|owner| *owner == server).count();
                assert!(part <= most(1_000, servers.len()), "{server} of {servers:?} has {part}");
                assert!(part >= 500 / servers.len(), "{server} of {servers:?} has {part}");
            }
        }
        assert_eq!(place(&name(0), &[]), None);
    }

    /// Goal: a server that goes moves its own budgets and few others.
    #[test]
    fn few_move() {
        let (before, after) = (fill(&["a", "b", "c"], 1_000), fill(&["a", "b"], 1_000));
        let moved =
            before.iter().filter(|(number, owner)| **owner != "c" && after[number] != **owner).count();
        assert!(moved < 100, "{moved} moved though their server stayed");
    }

    /// Goal: moves go from who has more to who has less, and end.
    #[test]
    fn moves_end() {
        let servers = ["a", "b", "c"];
        let mut owner: BTreeMap<usize, &str> = (0..300).map(|number| (number, "a")).collect();
        for round in 0.. {
            let mut moved = 0;
            for number in 0..300 {
                let owned = |server| owner.values().filter(|owner| **owner == server).count();
                let candidates = servers.map(|name| Candidate { name, owned: owned(name) });
                if let Some(to) = better(&name(number), owner[&number], &candidates) {
                    owner.insert(number, to);
                    moved += 1;
                }
            }
            if moved == 0 {
                break;
            }
            assert!(round < 10, "still moving");
        }
        for server in servers {
            let part = owner.values().filter(|owner| **owner == server).count();
            assert!((60..=160).contains(&part), "{server} has {part}");
        }
    }
}
