//! Items under keys that are never used twice: a key is a slot and the number of its use, so that a stale key finds nothing.

use crate::chunks::Chunks;

const SLOT_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// Items that may be held at once.
pub(crate) const SLAB_MAX: usize = 1 << SLOT_BITS;

/// A slab whose keys are `serial << 24 | slot`. Serials count insertions; they wrap after 2^40 of them.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Chunks<Slot<T>>,
    free: Vec<u32>,
    serial: u64,
    len: usize,
}

#[derive(Debug)]
struct Slot<T> {
    key: u64,
    item: Option<T>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { key: 0, item: None }
    }
}

/// The slot of a key: a small index that is unique among the items held now.
pub(crate) const fn slot_of(key: u64) -> u32 {
    (key & SLOT_MASK) as u32
}

/// How many items were inserted before the one of this key.
pub(crate) const fn serial_of(key: u64) -> u64 {
    key >> SLOT_BITS
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        // Serials start at 1, so that no key is 0.
        Self { slots: Chunks::new(), free: Vec::new(), serial: 1, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.len == SLAB_MAX
    }

    /// The serial that the next item gets.
    pub(crate) const fn next_serial(&self) -> u64 {
        self.serial
    }

    /// Callers see to it that the slab is not full.
    pub(crate) fn insert(&mut self, item: T) -> u64 {
        let slot = match self.free.pop() {
            Some(slot) => slot as usize,
            None => self.slots.grow(),
        };
        debug_assert!(slot < SLAB_MAX, "the caller checked is_full");
        let key = (self.serial << SLOT_BITS) | slot as u64;
        self.serial = (self.serial + 1).max(1) & (u64::MAX >> SLOT_BITS);
        self.slots[slot] = Slot { key, item: Some(item) };
        self.len += 1;
        key
    }

    pub(crate) fn get(&self, key: u64) -> Option<&T> {
        let slot = self.slots.get(slot_of(key) as usize)?;
        if slot.key == key { slot.item.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let slot = self.slots.get_mut(slot_of(key) as usize)?;
        if slot.key == key { slot.item.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let at = slot_of(key);
        let slot = self.slots.get_mut(at as usize)?;
        if slot.key != key {
            return None;
        }
        let item = slot.item.take()?;
        self.free.push(at);
        self.len -= 1;
        Some(item)
    }

    /// The key of the item that is in a slot now.
    pub(crate) fn key_at(&self, slot: u32) -> Option<u64> {
        let slot = self.slots.get(slot as usize)?;
        slot.item.is_some().then_some(slot.key)
    }

    /// Puts back what was there before, each under its key; the next item gets `serial`. For an empty slab. Of two with the same
    /// slot, the first stays.
    pub(crate) fn restore(&mut self, items: impl Iterator<Item = (u64, T)>, serial: u64) {
        self.serial = serial.max(1) & (u64::MAX >> SLOT_BITS);
        for (key, item) in items {
            while self.slots.len() <= slot_of(key) as usize {
                self.slots.grow();
            }
            let slot = &mut self.slots[slot_of(key) as usize];
            if slot.item.is_none() {
                *slot = Slot { key, item: Some(item) };
                self.len += 1;
            }
        }
        self.free = (0..self.slots.len() as u32).rev().filter(|slot| self.key_at(*slot).is_none()).collect();
    }

    /// By slot: for links between items that are known to be there.
    pub(crate) fn at(&self, slot: u32) -> &T {
        self.slots[slot as usize].item.as_ref().expect("links only name items that are held")
    }

    /// By slot: for links between items that are known to be there.
    pub(crate) fn at_mut(&mut self, slot: u32) -> &mut T {
        self.slots[slot as usize].item.as_mut().expect("links only name items that are held")
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> {
        (0..self.slots.len()).filter_map(|slot| self.key_at(slot as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::Slab;

    /// Goal: a key of something removed never finds what came into its slot later.
    #[test]
    fn stale_keys_find_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(super::slot_of(first), super::slot_of(second));
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.keys().collect::<Vec<_>>(), [second]);
    }

    /// Goal: what is put back is found under its key, and what is new comes into no slot that is taken.
    #[test]
    fn puts_back() {
        let mut before = Slab::new();
        let keys: Vec<u64> = (0..5).map(|n| before.insert(n)).collect();
        let mut slab = Slab::new();
        let kept = [keys[3], keys[1]];
        slab.restore(kept.iter().map(|key| (*key, *before.get(*key).expect("there"))), 100);
        let new: Vec<u64> = (5..9).map(|n| slab.insert(n)).collect();
        assert_eq!((slab.get(keys[1]), slab.get(keys[3]), slab.get(keys[0])), (Some(&1), Some(&3), None));
        assert_eq!(new.iter().map(|key| super::serial_of(*key)).collect::<Vec<_>>(), [100, 101, 102, 103]);
        assert_eq!(slab.len(), 6);
        assert_eq!(new.iter().map(|key| slab.get(*key).copied()).collect::<Vec<_>>(), [5, 6, 7, 8].map(Some));
    }
}
