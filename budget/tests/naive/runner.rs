//! Proptest with a fixed seed: the same histories on every machine, unless the environment asks for more or for others.

use std::{env, str::FromStr};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};

/// Tries `cases` histories (or as many as `PERMITD_PROPTEST_CASES` says), those that once failed first.
pub(crate) fn try_all<S: Strategy>(
    failures: &'static str,
    cases: u32,
    strategy: &S,
    test: impl Fn(&S::Value) -> Result<(), String>,
) {
    let config = Config {
        cases: from_environment("PERMITD_PROPTEST_CASES").unwrap_or(cases),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(failures))),
        source_file: Some(file!()),
        max_shrink_iters: 4_000,
        max_shrink_time: 15_000,
        ..Config::default()
    };
    let mut seed = [0_u8; 32];
    let drawn: u64 = from_environment("PERMITD_PROPTEST_SEED").unwrap_or(0);
    seed[..8].copy_from_slice(&drawn.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let outcome = TestRunner::new_with_rng(config, random)
        .run(strategy, |plan| test(&plan).map_err(TestCaseError::fail));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var_os(name)?;
    let number = value.to_str().and_then(|value| value.parse().ok());
    Some(number.unwrap_or_else(|| panic!("{name} is {value:?}, not a number")))
}

/// A small reproducible source of numbers, for runs that are no proptest.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `end` (SplitMix64).
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    /// From `first` to `last`, both included.
    pub(crate) fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }
}
