//! Everything random about a call, as a function of (seed, client, number) and of nothing else.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution as _, LogNormal};

use super::config::Behaviour;

/// The longest latency; a lognormal distribution has a tail that no experiment wants to sit through.
const LATENCY_MAX_MS: f64 = 600_000.0;

/// How long a call takes and how much comes out. The same client's call of the same number is always the same.
pub(crate) fn work(seed: u64, client: &str, number: u64, behaviour: &Behaviour) -> (Duration, u64) {
    let mut random = stream(seed, "work", client, number);
    let mut lognormal = |mu: f64, sigma: f64| {
        LogNormal::new(mu, sigma).expect("a checked sigma is finite and not negative").sample(&mut random)
    };
    let latency = lognormal(logarithm(behaviour.latency_median_ms), behaviour.latency_sigma);
    let is_slow = stream(seed, "slow", client, number).random::<f64>() < behaviour.slow_share;
    let latency = if is_slow { latency * behaviour.slow_times } else { latency };
    let sigma = behaviour.output_sigma;
    let output = lognormal(logarithm(behaviour.output_mean) - sigma * sigma / 2.0, sigma);
    let latency = Duration::from_secs_f64(latency.min(LATENCY_MAX_MS) / 1_000.0);
    (if behaviour.latency_median_ms == 0 { Duration::ZERO } else { latency }, whole(output))
}

/// Whether the provider has no capacity for a call, by how many calls the client has made.
pub(crate) fn overloaded(seed: u64, client: &str, sequence: u64, share: f64) -> bool {
    stream(seed, "overloaded", client, sequence).random::<f64>() < share
}

/// A number without a meaning of its own.
pub(crate) fn number(seed: u64, purpose: &str, client: &str, number: u64) -> u64 {
    stream(seed, purpose, client, number).random()
}

/// FNV-1a over everything that a draw depends on: stable over versions and platforms, which a seed has to be.
pub(crate) fn stream(seed: u64, purpose: &str, client: &str, number: u64) -> Xoshiro256PlusPlus {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let separated = [purpose.as_bytes(), &[0xff], client.as_bytes(), &[0xff]];
    let parts = [&seed.to_le_bytes()[..], &number.to_le_bytes()[..]];
    for byte in separated.into_iter().chain(parts).flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    Xoshiro256PlusPlus::seed_from_u64(hash)
}

fn logarithm(of: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "checked to be at most a million")]
    let of = of.max(1) as f64;
    of.ln()
}

fn whole(tokens: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; a cast saturates")]
    let tokens = tokens.round() as u64;
    tokens.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_seed_client_and_number() {
        let behaviour = Behaviour::default();
        let first = work(1, "a", 1, &behaviour);
        assert_eq!(work(1, "a", 1, &behaviour), first);
        for (seed, client, number) in [(2, "a", 1), (1, "b", 1), (1, "a", 2)] {
            assert_ne!(work(seed, client, number, &behaviour), first);
        }
    }

    #[test]
    fn outputs_and_latencies_lie_around_what_was_configured() {
        let behaviour = Behaviour { output_mean: 300, latency_median_ms: 400, ..Behaviour::default() };
        let draws: Vec<_> = (0..10_000).map(|number| work(7, "client", number, &behaviour)).collect();
        let mean = draws.iter().map(|(_, output)| output).sum::<u64>() / 10_000;
        assert!((285..=315).contains(&mean), "mean output {mean}");
        let faster = draws.iter().filter(|(latency, _)| latency.as_millis() < 400).count();
        assert!((4_800..=5_200).contains(&faster), "{faster} of 10000 below the median");
    }

    #[test]
    fn no_share_means_never_and_all_means_always() {
        assert!((0..1_000).all(|sequence| !overloaded(1, "a", sequence, 0.0)));
        assert!((0..1_000).all(|sequence| overloaded(1, "a", sequence, 1.0)));
        let hits = (0..10_000).filter(|&sequence| overloaded(1, "a", sequence, 0.1)).count();
        assert!((900..=1_100).contains(&hits), "{hits} of 10000 at 10 %");
    }
}
