//! Pools that are looked at: a row for each member, under the cursor one of them.

use permitd_proto::v1;
use permitd_server::shown::member_name;

use super::board::Name;

/// All pools, in the order in which they were told.
#[derive(Debug, Default)]
pub(super) struct Pools {
    all: Vec<v1::Pool>,
    /// The row under the cursor.
    at: usize,
    /// Whether anything was told yet.
    pub(super) told: bool,
}

impl Pools {
    pub(super) fn take(&mut self, pools: Vec<v1::Pool>) {
        self.all = pools;
        self.told = true;
        self.go(self.at);
    }

    /// How many pools there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Members of all pools, each with its pool.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&v1::Pool, &v1::PoolMember)> {
        self.all.iter().flat_map(|pool| pool.members.iter().map(move |member| (pool, member)))
    }

    /// Where the cursor is.
    pub(super) fn cursor(&self) -> usize {
        self.at
    }

    /// Puts the cursor there, or on the last row if there are fewer.
    pub(super) fn go(&mut self, to: usize) {
        self.at = to.min(self.rows().count().saturating_sub(1));
    }

    /// The member under the cursor.
    pub(super) fn chosen(&self) -> Option<&v1::PoolMember> {
        self.rows().nth(self.at).map(|(_, member)| member)
    }

    /// The budget that it is.
    pub(super) fn chosen_name(&self) -> Option<Name> {
        self.chosen().map(|member| member_name(member).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(key: &str, members: &[&str]) -> v1::Pool {
        let member = |key: &&str| v1::PoolMember {
            provider: "p".to_owned(),
            key: (*key).to_owned(),
            ..Default::default()
        };
        v1::Pool {
            provider: "q".to_owned(),
            key: key.to_owned(),
            members: members.iter().map(member).collect(),
        }
    }

    /// Goal: the cursor goes over members of all pools, and stays on one when there are fewer.
    #[test]
    fn the_cursor_is_on_a_member() {
        let mut pools = Pools::default();
        assert_eq!(pools.chosen_name(), None);
        pools.take(vec![pool("x", &["a", "b"]), pool("y", &["a", "c"])]);
        pools.go(99);
        assert_eq!((pools.cursor(), pools.chosen_name().as_deref()), (3, Some("p/c")));
        pools.take(vec![pool("x", &["a", "b"])]);
        assert_eq!((pools.cursor(), pools.chosen_name().as_deref()), (1, Some("p/b")));
        pools.take(Vec::new());
        assert_eq!((pools.cursor(), pools.chosen_name()), (0, None));
    }
}
