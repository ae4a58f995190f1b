//! Numbers that spread waits, the same for the same budget every time (Steele et al., "Fast splittable pseudorandom number
//! generators", 2014).

#[derive(Clone, Debug, Default)]
pub(crate) struct Jitter(u64);

impl Jitter {
    /// One of `least` to `most`.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        least + (z ^ (z >> 31)) % (most - least + 1)
    }
}
