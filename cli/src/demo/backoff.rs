//! What people do today: call; when refused, wait as long as the provider asks or longer, with exponential backoff and full
//! jitter, and try again. As courteous as the official SDKs are, and more patient: it never gives up.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

use super::{
    provider_call::ProviderClient,
    scenario::Call,
    worker::{Attempt, WorkerError},
};

/// The first backoff, which doubles with every refusal ...
const FIRST: Duration = Duration::from_millis(500);
/// ... up to this one: the SDKs' numbers.
const LONGEST: Duration = Duration::from_secs(8);

/// Makes one call however long it takes.
pub(crate) async fn make(
    provider: &ProviderClient,
    call: &Call,
    seed: u64,
    attempt: &mut Attempt<'_>,
) -> Result<(), WorkerError> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ call.number.rotate_left(32));
    for refusals in 0_u32.. {
        attempt.sets_out();
        let answer = provider.send(call).await?;
        attempt.is_answered(answer.status);
        if answer.is_success() {
            break;
        }
        if !answer.is_worth_repeating() {
            return Err(WorkerError::unexpected(&answer));
        }
        let wait = backoff(refusals, &mut random).max(answer.retry_after().unwrap_or_default());
        tokio::time::sleep(wait).await;
    }
    Ok(())
}

fn backoff(refusals: u32, random: &mut Xoshiro256PlusPlus) -> Duration {
    let ceiling = FIRST.saturating_mul(2_u32.saturating_pow(refusals)).min(LONGEST);
    ceiling.mul_f64(random.random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_ceiling_and_jitters_over_all_of_it() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut longest = |refusals| (0..1_000).map(|_| backoff(refusals, &mut random)).max().expect("some");
        assert!((450..=500).contains(&longest(0).as_millis()));
        assert!((900..=1_000).contains(&longest(1).as_millis()));
        assert!((7_500..=8_000).contains(&longest(40).as_millis()));
    }
}
