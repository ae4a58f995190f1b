//! Changes to sound input, as fuzzers make them, the same for the same seed.

/// Numbers by SplitMix64.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.below(len + 1);
        let end = (from + 1 + self.below(32)).min(len);
        from.min(end)..end
    }
}

/// A few changes of one of these inputs.
pub(super) fn mutate(inputs: &[Vec<u8>], draws: &mut Draws) -> Vec<u8> {
    const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b'9'];
    let mut data = inputs[draws.below(inputs.len())].clone();
    for _ in 0..=draws.below(6) {
        let at = draws.below(data.len() + 1);
        let range = draws.range(data.len());
        match draws.below(7) {
            0 => data.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << draws.below(8)),
            1 => data.iter_mut().skip(at).take(1).for_each(|byte| *byte = TELLING[draws.below(8)]),
            2 => drop(data.drain(range)),
            3 => {
                let twice = data[range].to_vec();
                data.splice(at..at, twice);
            }
            4 => data.insert(at, TELLING[draws.below(8)]),
            5 => {
                let other = &inputs[draws.below(inputs.len())];
                let part = draws.range(other.len());
                data.splice(at..at, other[part].iter().copied());
            }
            _ => data[range].fill(TELLING[draws.below(8)]),
        }
    }
    data
}
