//! A bounded table of names that callers make up (tenants, models): each has a small index while it is in use. When the table is full,
//! a name that is not in use makes room.

use hashbrown::HashMap;

#[derive(Debug)]
pub(crate) struct Names<T> {
    by_name: HashMap<Box<str>, u32, foldhash::fast::FixedState>,
    entries: Vec<Entry<T>>,
    /// Where the search for something to forget goes on.
    hand: usize,
    most: usize,
}

#[derive(Debug)]
struct Entry<T> {
    name: Box<str>,
    item: T,
}

/// Where a new name came to be.
pub(crate) struct Placed {
    pub(crate) at: u32,
    /// Whether it took the index of a name that is forgotten now.
    pub(crate) replaced: bool,
}

/// Entries that one insertion looks at before it gives up.
const LOOK: usize = 64;

impl<T> Names<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { by_name: HashMap::default(), entries: Vec::new(), hand: 0, most }
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// Adds a name that is not there; `None` if the table is full of names in use.
    pub(crate) fn add(
        &mut self,
        name: &str,
        item: T,
        forgettable: impl Fn(&mut T) -> bool,
    ) -> Option<Placed> {
        debug_assert!(self.find(name).is_none(), "names are added once");
        let entry = Entry { name: name.into(), item };
        if self.entries.len() < self.most {
            let at = self.entries.len() as u32;
            self.entries.push(entry);
            self.by_name.insert(name.into(), at);
            return Some(Placed { at, replaced: false });
        }
        for _ in 0..LOOK.min(self.most) {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.most;
            if forgettable(&mut self.entries[at].item) {
                self.by_name.remove(&self.entries[at].name);
                self.entries[at] = entry;
                self.by_name.insert(name.into(), at as u32);
                return Some(Placed { at: at as u32, replaced: true });
            }
        }
        None
    }

    pub(crate) fn name(&self, at: u32) -> &str {
        &self.entries[at as usize].name
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.entries.iter().map(|entry| (&*entry.name, &entry.item))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.entries.iter_mut().map(|entry| (&*entry.name, &mut entry.item))
    }
}

impl<T> std::ops::Index<u32> for Names<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.entries[at as usize].item
    }
}

impl<T> std::ops::IndexMut<u32> for Names<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.entries[at as usize].item
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    /// Goal: a full table forgets only what may be forgotten.
    #[test]
    fn forgets_only_what_is_not_in_use() {
        let mut names = Names::new(2);
        let idle = |in_use: &mut bool| !*in_use;
        assert!(names.add("a", true, idle).is_some());
        assert!(names.add("b", false, idle).is_some());
        let placed = names.add("c", true, idle).expect("b makes room");
        assert!(placed.replaced);
        assert_eq!((names.find("b"), names.find("c")), (None, Some(1)));
        assert!(names.add("d", true, idle).is_none());
        assert_eq!(names.find("a"), Some(0));
    }
}
