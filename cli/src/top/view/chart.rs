//! Figures as characters: what a budget did of late, and how much of a limit is taken.

/// From nothing to the most.
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last `width` values, the newest at the right, in proportion to the largest of them. Whatever is more than nothing is seen.
pub(super) fn spark(values: impl ExactSizeIterator<Item = u64> + Clone, width: usize) -> String {
    let skipped = values.len().saturating_sub(width);
    let values = values.skip(skipped);
    let most = values.clone().max().unwrap_or(0).max(1);
    let padding = std::iter::repeat_n(' ', width - values.len());
    let steps = LEVELS.len() as u128 - 1;
    let level = |value: u64| LEVELS[(u128::from(value) * steps).div_ceil(u128::from(most)) as usize];
    padding.chain(values.map(level)).collect()
}

/// A bar of `width` characters that is filled in thousandths.
pub(super) fn bar(thousandths: u32, width: usize) -> String {
    let filled = (thousandths as usize * width).div_ceil(1_000).min(width);
    format!("{}{}", "█".repeat(filled), "░".repeat(width - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: charts are as wide as they should be whatever is in them, and little is not nothing.
    #[test]
    fn charts_keep_their_width() {
        assert_eq!(spark([0, 1, 8, 1_000].into_iter(), 4), " ▁▁█");
        assert_eq!(spark([5, 10].into_iter(), 4), "  ▄█");
        assert_eq!(spark([9, 9, 9, 0, u64::MAX].into_iter(), 2), " █");
        assert_eq!(spark(std::iter::empty::<u64>().collect::<Vec<_>>().into_iter(), 3), "   ");
        for (thousandths, expected) in
            [(0, "░░░░"), (1, "█░░░"), (500, "██░░"), (1_000, "████"), (9_990, "████")]
        {
            assert_eq!(bar(thousandths, 4), expected);
        }
    }
}
