//! Start-time fair queueing's bound: between tenants (and between classes) that both have work waiting, service received per weight
//! never drifts apart by more than one largest request of each, plus what was mis-estimated in flight.

use std::time::Duration;

use permitd_budget::{LimitSpec, Priority};
use proptest::prelude::*;

use crate::{
    race::{Rival, Served, race, tokens_per_minute},
    runner::try_all,
};

/// One party to a comparison: which rivals it is made of, its weight, its largest cost and how far estimates in flight may be off.
struct Party {
    rivals: Vec<usize>,
    weight: i128,
    largest: i128,
    error: i128,
}

/// Checks every stretch of the race at once: the difference of service per weight moves within a band no wider than the bound.
fn fair(served: &[Served], cost: impl Fn(&Served) -> i128, parties: &[Party]) -> Result<(), String> {
    for (at, one) in parties.iter().enumerate() {
        for other in &parties[at + 1..] {
            let bound = (one.largest + one.error) * other.weight + (other.largest + other.error) * one.weight;
            let (mut apart, mut least, mut most) = (0_i128, 0_i128, 0_i128);
            for (turn, service) in served.iter().enumerate() {
                if one.rivals.contains(&service.rival) {
                    apart += cost(service) * other.weight;
                } else if other.rivals.contains(&service.rival) {
                    apart -= cost(service) * one.weight;
                }
                (least, most) = (least.min(apart), most.max(apart));
                if most - least > bound {
                    let (one, other) = (&one.rivals, &other.rivals);
                    return Err(format!(
                        "after {turn}: {one:?} and {other:?} drift {} apart, bound {bound}; {:?}",
                        most - least,
                        &served[..=turn.min(20)]
                    ));
                }
            }
        }
    }
    Ok(())
}

fn each_by_itself(rivals: &[Rival], in_flight: u64) -> Vec<Party> {
    let party = |(at, rival): (usize, &Rival)| Party {
        rivals: vec![at],
        weight: i128::from(rival.weight.max(1)),
        largest: i128::from(rival.tokens.1),
        error: i128::from(rival.error() * in_flight),
    };
    rivals.iter().enumerate().map(party).collect()
}

fn rivals(
    largest: impl Strategy<Value = u64> + Clone,
    errors: impl Strategy<Value = u64> + Clone,
) -> impl Strategy<Value = Vec<Rival>> {
    let rival = (0_u32..9, largest, errors);
    prop::collection::vec(rival, 2..6).prop_map(|drawn| {
        let rival = |(at, (weight, most, error_percent)): (usize, (u32, u64, u64))| Rival {
            error_percent,
            ..Rival::new(&format!("tenant-{at}"), weight, most)
        };
        drawn.into_iter().enumerate().map(rival).collect()
    })
}

fn sizes() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![1_u64..20, 100_u64..2_000]
}

/// Goal: random weights and request sizes on one shared limit stay within the bound in every stretch.
#[test]
fn tenants_share_by_weight() {
    try_all(
        "proptest-regressions/fair.txt",
        60,
        &(rivals(sizes(), Just(0)), any::<u64>()),
        |(rivals, seed)| {
            let served = race(vec![tokens_per_minute(600_000, 3_000)], rivals, 500, 1, *seed);
            fair(&served, |service| service.tokens, &each_by_itself(rivals, 0))
        },
    );
}

/// Goal: who estimates wrongly, up or down, gains nothing in the long run: the bound grows by what is in flight, not with time.
#[test]
fn wrong_estimates_buy_nothing() {
    let rivals = rivals(300_u64..2_000, prop::sample::select(vec![0_u64, 30, 95, 300]));
    try_all("proptest-regressions/fair-errors.txt", 40, &(rivals, any::<u64>()), |(rivals, seed)| {
        let served = race(vec![tokens_per_minute(600_000, 9_000)], rivals, 900, 6, *seed);
        fair(&served, |service| service.tokens, &each_by_itself(rivals, 6))
    });
}

/// Goal: a tenant that always asks for ten times what it uses is served as much as one that asks for what it uses.
#[test]
fn honest_and_fearful_tenants_get_the_same() {
    let fearful = Rival { tokens: (1_000, 1_000), error_percent: 90, ..Rival::new("fearful", 1, 1_000) };
    let honest = Rival { tokens: (500, 500), ..Rival::new("honest", 1, 500) };
    let rivals = [fearful, honest];
    let served = race(vec![tokens_per_minute(600_000, 4_000)], &rivals, 6_000, 2, 7);
    let parties = each_by_itself(&rivals, 2);
    fair(&served, |service| service.tokens, &parties).expect("fair");
}

/// Goal: with two shared limits the cost that counts is the one at the limit that binds.
#[test]
fn the_dominant_cost_counts() {
    let limits = || {
        vec![
            tokens_per_minute(60_000, 2_000),
            LimitSpec { burst: 10_000, ..LimitSpec::rate("requests", 600, Duration::from_secs(60)) },
        ]
    };
    let drawn = (rivals(sizes(), Just(0)), prop::collection::vec(1_u64..9, 6), any::<u64>());
    try_all("proptest-regressions/fair-dominant.txt", 40, &drawn, |(drawn, requests, seed)| {
        let with = |(rival, most): (&Rival, &u64)| Rival { requests: (1, *most), ..rival.clone() };
        let rivals: Vec<Rival> = drawn.iter().zip(requests).map(with).collect();
        let served = race(limits(), &rivals, 500, 1, *seed);
        // In milliseconds of the limit that binds: 1 token a millisecond, 1 request in 100 milliseconds.
        let parties: Vec<Party> = each_by_itself(&rivals, 0)
            .into_iter()
            .zip(&rivals)
            .map(|(party, rival)| Party {
                largest: party.largest.max(i128::from(rival.requests.1) * 100),
                ..party
            })
            .collect();
        fair(&served, |service| service.tokens.max(service.requests * 100), &parties)
    });
}

/// Goal: classes share 16 : 4 : 1 whatever their tenants weigh, and the tenants of a class share what the class gets by weight.
#[test]
fn classes_share_sixteen_to_four_to_one() {
    try_all(
        "proptest-regressions/fair-classes.txt",
        40,
        &(rivals(sizes(), Just(0)), any::<u64>()),
        |(drawn, seed)| {
            let mut rivals = Vec::new();
            for priority in Priority::ALL {
                rivals.extend(drawn.iter().take(2).cloned().map(|rival| Rival { priority, ..rival }));
            }
            let served = race(vec![tokens_per_minute(600_000, 3_000)], &rivals, 900, 1, *seed);
            let largest = i128::from(drawn.iter().take(2).map(|rival| rival.tokens.1).max().expect("two"));
            let class = |at: usize| Party {
                rivals: vec![2 * at, 2 * at + 1],
                weight: i128::from(Priority::ALL[at].weight()),
                largest,
                error: 0,
            };
            fair(&served, |service| service.tokens, &[class(0), class(1), class(2)])?;
            let parties = each_by_itself(&rivals, 0);
            parties.chunks(2).try_for_each(|pair| fair(&served, |service| service.tokens, pair))
        },
    );
}

/// Goal: the classes' shares come out as declared, not only within a bound.
#[test]
fn classes_get_their_parts() {
    let rival = |priority| Rival { priority, tokens: (100, 100), ..Rival::new("all", 1, 100) };
    let rivals = Priority::ALL.map(rival);
    let served = race(vec![tokens_per_minute(600_000, 1_000)], &rivals, 2_100, 1, 3);
    let share = |at: usize| served.iter().filter(|service| service.rival == at).count();
    let shares = [share(0), share(1), share(2)];
    let close = |share: usize, expected: usize| share.abs_diff(expected) <= 17;
    assert!(close(shares[0], 1_600) && close(shares[1], 400) && close(shares[2], 100), "{shares:?}");
}
