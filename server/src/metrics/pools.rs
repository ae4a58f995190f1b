//! What is told of pools: what each grants, by member, who waits in it, and which members it passes over and why. Whatever is past the bound
//! is added up.

use std::{collections::BTreeMap, fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::OTHER;
use crate::{
    config::BudgetName,
    explain::{PASSED_OVER, passed_over_for},
    pool::{MemberCounts, Pool},
    registry::Registry,
};

/// All pools. At most `members_max` of their members have series of their own.
#[derive(Debug)]
pub(super) struct Pools {
    pub(super) registry: Arc<Registry>,
    pub(super) members_max: usize,
}

/// A pool at one moment, or all those together that have no series of their own.
#[derive(Default)]
struct Figures {
    name: String,
    waiting: u64,
    refused: BTreeMap<&'static str, u64>,
    members: Vec<Member>,
}

/// Of the pools without series of their own, the sum has neither provider nor key.
#[derive(Default)]
struct Member {
    provider: String,
    key: String,
    counts: MemberCounts,
    /// Why it is passed over.
    whys: Vec<&'static str>,
}

/// A metric of members: its name, its meaning, and where it stands.
type Column = (&'static str, &'static str, fn(&MemberCounts) -> u64);

const COUNTERS: [Column; 2] = [
    ("pool_grants", "Permits of the member that were asked for through the pool.", |counts| counts.granted),
    (
        "pool_passed_over",
        "Requests to the pool that came to the member while it could not grant at once.",
        |counts| counts.passed_over,
    ),
];

impl Pools {
    /// Pools by name, with the others at the end.
    fn look(&self) -> Vec<Figures> {
        let (mut all, mut others, mut left) = (Vec::new(), None::<Figures>, self.members_max);
        for pool in self.registry.pools() {
            let members = pool.spec().members.len();
            if members <= left {
                left -= members;
                all.push(Figures::of(&self.registry, &pool));
            } else {
                // Those behind it are no more than it is, whatever their size.
                left = 0;
                others.get_or_insert_with(Figures::other).add(&pool);
            }
        }
        all.extend(others);
        all
    }
}

impl Figures {
    fn of(registry: &Registry, pool: &Pool) -> Self {
        let members = pool.members().map(|(member, counts)| Member {
            provider: member.budget.provider().to_owned(),
            key: member.budget.key().to_owned(),
            counts,
            whys: whys(registry, &member.budget),
        });
        Self {
            name: pool.name().to_string(),
            waiting: pool.counts().waiting(),
            refused: pool.counts().refusals(),
            members: members.collect(),
        }
    }

    fn other() -> Self {
        Self { name: OTHER.to_owned(), members: vec![Member::default()], ..Self::default() }
    }

    fn add(&mut self, pool: &Pool) {
        self.waiting += pool.counts().waiting();
        for (reason, times) in pool.counts().refusals() {
            *self.refused.entry(reason).or_default() += times;
        }
        for (_, counts) in pool.members() {
            for sum in &mut self.members {
                sum.counts.granted += counts.granted;
                sum.counts.passed_over += counts.passed_over;
            }
        }
    }
}

/// Why a pool passes the member over now.
fn whys(registry: &Registry, member: &BudgetName) -> Vec<&'static str> {
    match registry.find(member) {
        Ok(cell) => {
            let (snapshot, halts) = cell.halts();
            passed_over_for(&snapshot, &halts)
        }
        // Nobody asked for it yet: it is made from its provider's defaults.
        Err(_) if registry.is_made_on_use(member) => Vec::new(),
        Err(_) => vec!["gone"],
    }
}

impl Collector for Pools {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let pools = self.look();
        if pools.is_empty() {
            return Ok(());
        }
        for (name, help, figure) in COUNTERS {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            write_members(family, &pools, |family, labels, member| {
                ConstCounter::new(figure(&member.counts)).encode(family.encode_family(&labels)?)
            })?;
        }
        let help = "1 while the pool passes the member over for the reason.";
        let family = encoder.encode_descriptor("pool_member_passed_over", help, None, MetricType::Gauge)?;
        write_members(family, &pools, |family, [pool, provider, key], member| {
            // Of many together there is nothing to say.
            for why in PASSED_OVER.into_iter().filter(|_| !member.provider.is_empty()) {
                let labels = [pool, provider, key, ("reason", why)];
                ConstGauge::new(i64::from(member.whys.contains(&why)))
                    .encode(family.encode_family(&labels)?)?;
            }
            Ok(())
        })?;
        let help = "Requests to the pool that wait.";
        let mut family = encoder.encode_descriptor("pool_waiting", help, None, MetricType::Gauge)?;
        for pool in &pools {
            let labels = [("pool", pool.name.as_str())];
            ConstGauge::new(pool.waiting).encode(family.encode_family(&labels)?)?;
        }
        let help = "Requests to the pool that were refused, by reason.";
        let mut family = encoder.encode_descriptor("pool_refusals", help, None, MetricType::Counter)?;
        for pool in &pools {
            for (reason, times) in &pool.refused {
                let labels = [("pool", pool.name.as_str()), ("reason", *reason)];
                ConstCounter::new(*times).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Labels of a member.
type Labels<'a> = [(&'static str, &'a str); 3];

fn write_members(
    mut family: MetricEncoder<'_>,
    pools: &[Figures],
    write: impl Fn(&mut MetricEncoder<'_>, Labels<'_>, &Member) -> fmt::Result,
) -> fmt::Result {
    for pool in pools {
        for member in &pool.members {
            let labels = [
                ("pool", pool.name.as_str()),
                ("provider", member.provider.as_str()),
                ("key", member.key.as_str()),
            ];
            write(&mut family, labels, member)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{
        alarm::Alarms,
        cell::Footing,
        clock::Clock,
        config::Config,
        metrics::Metrics,
        registry::{File, Registry},
    };

    use super::*;

    const CONFIG: &str = "[budgets.\"p/a\"]\nlimits = [\"requests=60/1m\"]\n[budgets.\"p/b\"]\n[providers.made]\n\
                          [pools.\"p/one\"]\nmembers = [\"p/a\", \"p/b\", \"made/c\"]\n\
                          [pools.\"p/two\"]\nmembers = [\"p/a\"]\n\
                          [pools.\"p/zoo\"]\nmembers = [\"p/b\"]\n";

    fn registry() -> Arc<Registry> {
        let clock = Clock::start();
        let (alarms, _) = Alarms::start("test", clock).expect("a thread");
        let registry = Registry::new(Footing::in_memory(clock, alarms), 100);
        let config = Config::read(CONFIG, "permitd.toml", []).expect("a sound configuration");
        registry.follow(File::of(&config)).expect("room");
        Arc::new(registry)
    }

    /// The series of pools that begin so.
    fn series(metrics: &Metrics, start: &str) -> Vec<String> {
        let text = metrics.render();
        text.lines().filter_map(|line| line.strip_prefix(start)).map(str::to_owned).collect()
    }

    /// Goal: labels are bounded. Pools past the bound are added up, also small ones behind a large one.
    #[test]
    fn pools_past_the_bound_are_added_up() {
        let (registry, grants) = (registry(), "permitd_pool_grants_total{pool=");
        let all = series(&Metrics::new(Arc::clone(&registry), 5), grants);
        assert_eq!(all.len(), 5, "{all:?}");
        for (most, own) in [(4, 4), (3, 3), (2, 0)] {
            let some = series(&Metrics::new(Arc::clone(&registry), most), grants);
            assert_eq!(some.len(), own + 1, "{some:?}");
            assert_eq!(some[own], "\"other\",provider=\"\",key=\"\"} 0");
        }
    }

    /// Goal: a member that is gone is told as that, and one that is made when somebody asks for it is not passed over.
    #[test]
    fn members_that_are_not_there() {
        let registry = registry();
        registry.delete(&"p/b".parse().expect("a name"), "").expect("there");
        let metrics = Metrics::new(registry, 100);
        let gone = series(&metrics, "permitd_pool_member_passed_over{pool=\"p/one\",");
        let held: Vec<_> = gone.iter().filter(|series| series.ends_with(" 1")).collect();
        assert_eq!(held, ["provider=\"p\",key=\"b\",reason=\"gone\"} 1"]);
    }
}
