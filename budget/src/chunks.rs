//! A vector that never moves what it holds: growing by one item costs one item, not a copy of all, so that the longest step
//! under a budget's lock does not grow with its queue.

const CHUNK: usize = 256;

/// Items by index, in chunks of 256.
#[derive(Debug)]
pub(crate) struct Chunks<T> {
    chunks: Vec<Box<[T]>>,
    len: usize,
}

impl<T: Default> Chunks<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Makes room for one item more, which is `T::default()` until it is written.
    pub(crate) fn grow(&mut self) -> usize {
        // The first chunk grows by doubling: most budgets hold a handful.
        let capacity = self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len());
        if self.len == capacity {
            match self.chunks.last_mut() {
                Some(only) if self.len < CHUNK => {
                    let mut items = std::mem::take(only).into_vec();
                    items.resize_with(self.len * 2, T::default);
                    *only = items.into_boxed_slice();
                }
                last => {
                    let size = if last.is_none() { 4 } else { CHUNK };
                    self.chunks.push((0..size).map(|_| T::default()).collect());
                }
            }
        }
        self.len += 1;
        self.len - 1
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        (at < self.len).then(|| &self.chunks[at / CHUNK][at % CHUNK])
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        (at < self.len).then(|| &mut self.chunks[at / CHUNK][at % CHUNK])
    }
}

impl<T: Default> std::ops::Index<usize> for Chunks<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        self.get(at).expect("an index that `grow` gave out")
    }
}

impl<T: Default> std::ops::IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        self.get_mut(at).expect("an index that `grow` gave out")
    }
}

#[cfg(test)]
mod tests {
    use super::Chunks;

    /// Goal: every index given out stays good while the vector grows through its first chunk and beyond.
    #[test]
    fn keeps_what_it_holds_while_it_grows() {
        let mut chunks = Chunks::new();
        for n in 0..2000_usize {
            let at = chunks.grow();
            assert_eq!(at, n);
            chunks[at] = n;
        }
        assert!((0..2000).all(|n| chunks[n] == n));
        assert!(chunks.get(2000).is_none());
    }
}
