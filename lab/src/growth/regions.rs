//! A limit that regions share, in virtual time. Either every request goes to the one server that owns the budget, however far it is; or each
//! region grants from a share of the limit, which the owner measures anew as demand moves. A share grows only once those that shrink are
//! known to have shrunk, so that all shares together are never more than the limit.

use std::{collections::VecDeque, f64::consts::TAU, fmt, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Of virtual time.
const STEP: Duration = Duration::from_millis(10);
/// Of the limit, what every region keeps whatever it asks for, all of them together: so that one that was idle can begin at once.
const KEPT_PART: f64 = 0.1;
/// What a share may save up, in seconds of it.
const BURST_SECONDS: f64 = 1.0;
/// A region's demand swings between nothing and twice its mean in that time, each region at another moment.
const SWING: Duration = Duration::from_secs(120);

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub struct Regions {
    /// Regions, of which the owner is in one.
    pub regions: usize,
    /// The limit: requests a second.
    pub limit: f64,
    /// What all ask for together, as a part of the limit, on average.
    pub demand: f64,
    /// From one region to another, one way.
    pub trip: Duration,
    /// How much virtual time passes.
    pub time: Duration,
    /// Decides when requests come.
    pub seed: u64,
}

/// How the limit is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Not at all: every request goes to the owner.
    Central,
    /// In equal parts, for ever.
    Equal,
    /// By what was asked for of late, anew after so long.
    Leased(Duration),
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// How it was shared.
    pub sharing: Sharing,
    /// Granted, of what the limit could have granted of what was asked for, in percent.
    pub used: f64,
    /// From asking to the grant: the median, and the 99th percentile.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

/// A region: who waits in it, and what it may grant.
#[derive(Clone, Debug, Default)]
struct Region {
    /// The steps at which those came who wait.
    waiting: VecDeque<u64>,
    /// Requests that may be granted at once.
    level: f64,
    /// Of the limit.
    share: f64,
    /// Asked for since shares were measured last.
    asked: f64,
}

/// Shares on their way: what each will be, and from which steps on those that shrink and those that grow.
#[derive(Clone, Debug)]
struct Shares {
    of: Vec<f64>,
    shrink_at: u64,
    grow_at: u64,
}

impl Regions {
    /// Tries it.
    #[must_use]
    pub fn run(&self, sharing: Sharing) -> Shared {
        let mut random = StdRng::seed_from_u64(self.seed);
        let places = if sharing == Sharing::Central { 1 } else { self.regions };
        let mut regions = vec![Region { share: 1.0 / places as f64, ..Region::default() }; places];
        let (mut ideal, mut backlog, mut granted) = (self.limit * BURST_SECONDS, 0.0, 0_u64);
        let (mut possible, mut waits, mut next) = (0.0, Vec::new(), None);
        regions.iter_mut().for_each(|region| region.level = self.limit * BURST_SECONDS * region.share);
        for step in 0..steps(self.time) {
            for from in 0..self.regions {
                let came = self.arrivals(from, step, &mut random);
                let region = &mut regions[from % places];
                region.waiting.extend(std::iter::repeat_n(step, came));
                region.asked += came as f64;
                backlog += came as f64;
            }
            // What one bucket for all would have granted.
            ideal = (ideal + self.limit * STEP.as_secs_f64()).min(self.limit * BURST_SECONDS);
            let taken = backlog.min(ideal.floor());
            (ideal, backlog, possible) = (ideal - taken, backlog - taken, possible + taken);
            for region in &mut regions {
                let rate = self.limit * region.share;
                region.level = (region.level + rate * STEP.as_secs_f64()).min(rate * BURST_SECONDS);
                while region.level >= 1.0
                    && let Some(came) = region.waiting.pop_front()
                {
                    region.level -= 1.0;
                    granted += 1;
                    waits.push(step - came);
                }
            }
            if let Sharing::Leased(every) = sharing {
                self.measure(&mut regions, &mut next, step, steps(every));
            }
        }
        // All but the owner's own region are a trip away from it, and back.
        let far =
            if sharing == Sharing::Central && self.regions > 1 { self.trip * 2 } else { Duration::ZERO };
        waits.sort_unstable();
        let at = |part: usize| {
            let steps = waits.get(waits.len() * part / 100).copied().unwrap_or_default();
            STEP * u32::try_from(steps).unwrap_or(u32::MAX) + far
        };
        Shared { sharing, used: 100.0 * granted as f64 / f64::max(possible, 1.0), p50: at(50), p99: at(99) }
    }

    /// The owner hears what was asked for a trip ago, and says what each has from now on: those that shrink do so when they hear it, and
    /// those that grow may when the owner has heard that from all of them, and they from the owner.
    fn measure(&self, regions: &mut [Region], next: &mut Option<Shares>, step: u64, every: u64) {
        if let Some(shares) = next {
            for (region, share) in regions.iter_mut().zip(&shares.of) {
                let due = if *share < region.share { shares.shrink_at } else { shares.grow_at };
                if step == due {
                    // What was saved up by a larger share is given back with it.
                    region.level = region.level.min(self.limit * share * BURST_SECONDS);
                    region.share = *share;
                }
            }
            if step >= shares.grow_at {
                *next = None;
            }
        }
        if next.is_some() || !step.is_multiple_of(every.max(1)) {
            return;
        }
        let wanted: Vec<f64> =
            regions.iter().map(|region| region.asked + region.waiting.len() as f64).collect();
        let (all, kept) = (wanted.iter().sum::<f64>(), KEPT_PART / regions.len() as f64);
        regions.iter_mut().for_each(|region| region.asked = 0.0);
        if all > 0.0 {
            let of = wanted.iter().map(|wanted| kept + (1.0 - KEPT_PART) * wanted / all).collect();
            let trip = steps(self.trip);
            *next = Some(Shares { of, shrink_at: step + 2 * trip, grow_at: step + 4 * trip });
        }
    }

    /// Requests that come in one step: at random, about a rate that swings.
    fn arrivals(&self, region: usize, step: u64, random: &mut StdRng) -> usize {
        let phase = region as f64 / self.regions as f64 + step as f64 / steps(SWING) as f64;
        let mean = self.limit * self.demand / self.regions as f64 * (1.0 + (TAU * phase).sin());
        let due = mean * STEP.as_secs_f64();
        // As many as there are in a step that is cut into many, each with one or none.
        const PARTS: u32 = 64;
        let chance = (due / f64::from(PARTS)).clamp(0.0, 1.0);
        (0..PARTS).filter(|_| random.random_bool(chance)).count()
    }
}

fn steps(span: Duration) -> u64 {
    u64::try_from(span.as_nanos() / STEP.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Central => f.pad("every request goes to the owner"),
            Self::Equal => f.pad("equal shares"),
            Self::Leased(every) => f.pad(&format!("shares by demand, each {every:?}")),
        }
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<34} {:>6.1} % {:>10.0?} {:>10.0?}", self.sharing, self.used, self.p50, self.p99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIED: Regions = Regions {
        regions: 3,
        limit: 500.0,
        demand: 0.9,
        trip: Duration::from_millis(50),
        time: Duration::from_secs(240),
        seed: 1,
    };

    /// Goal: one bucket uses all, equal shares lose what the others leave idle, and shares that follow demand lose less than those.
    #[test]
    fn shares_that_follow_demand_lose_less() {
        let [central, equal, leased] =
            [Sharing::Central, Sharing::Equal, Sharing::Leased(Duration::from_secs(1))]
                .map(|how| TRIED.run(how));
        assert!(central.used > 99.9, "{central}");
        assert!(equal.used < leased.used - 5.0 && leased.used <= 100.0, "{equal}\n{leased}");
        assert!(central.p50 >= TRIED.trip * 2 && leased.p50 < TRIED.trip * 2, "{central}\n{leased}");
    }

    /// Goal (invariant 1): however shares move, all of them together are never more than the limit.
    #[test]
    fn shares_are_never_more_than_the_limit() {
        let mut random = StdRng::seed_from_u64(7);
        let mut regions = vec![Region { share: 1.0 / 3.0, ..Region::default() }; 3];
        let mut next = None;
        for step in 0..10_000 {
            for (from, region) in regions.iter_mut().enumerate() {
                region.asked += TRIED.arrivals(from, step, &mut random) as f64;
            }
            TRIED.measure(&mut regions, &mut next, step, 30);
            let all: f64 = regions.iter().map(|region| region.share).sum();
            assert!(all < 1.0 + 1e-9, "{all} at {step}");
        }
    }
}
