//! How long the screen takes to be drawn.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::format::rough;

/// Draws that are remembered: the last ones.
const DRAWS: usize = 4_096;

/// What drawing took.
#[derive(Debug, Default)]
pub(super) struct Timing {
    draws: usize,
    /// Of the last [`DRAWS`].
    took: Vec<Duration>,
}

impl Timing {
    /// Times one draw.
    pub(super) fn measure<T>(&mut self, draw: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let drawn = draw();
        let took = begin.elapsed();
        match self.took.get_mut(self.draws % DRAWS) {
            Some(oldest) => *oldest = took,
            None => self.took.push(took),
        }
        self.draws += 1;
        drawn
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut took = self.took.clone();
        took.sort_unstable();
        let at = |part: usize| took.get((took.len() * part / 100).min(took.len().saturating_sub(1)));
        let [median, most, worst] = [50, 99, 100].map(|part| at(part).copied().unwrap_or_default());
        let (median, most, worst) = (rough(median), rough(most), rough(worst));
        write!(f, "drawn {} times: median {median}, 99th percentile {most}, worst {worst}", self.draws)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is said is about the last draws, however many there were, and never about none.
    #[test]
    fn tells_of_the_last() {
        let timing = Timing { draws: 3, took: [1, 90, 2].map(Duration::from_millis).to_vec() };
        assert_eq!(timing.to_string(), "drawn 3 times: median 2ms, 99th percentile 90ms, worst 90ms");
        assert_eq!(Timing::default().to_string(), "drawn 0 times: median 0s, 99th percentile 0s, worst 0s");
        let mut timing = Timing::default();
        for _ in 0..DRAWS + 1 {
            timing.measure(|| ());
        }
        assert_eq!((timing.draws, timing.took.len()), (DRAWS + 1, DRAWS));
    }
}
