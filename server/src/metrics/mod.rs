//! What the server counts, for Prometheus. On the hot path reports that are answered alike cost one atomic addition and a grant nothing: whatever
//! the budgets count themselves is read from their snapshots when somebody asks.
//!
//! | room | what is there |
//! |---|---|
//! | `budgets` | what is told of each budget, and of those without series of their own together |
//! | `pools` | what is told of each pool and its members |
//! | `waits` | the histogram of waits, with a trace for each bucket |
//! | `busy` | what the server itself takes: waits for locks, and messages |
//! | `cluster` | which servers there are, and what this one owns |
//!
//! Labels are bounded: outcomes and reasons are the code's own words, and past `server.bounds.metric_budgets` budgets are added
//! up as `other`. A budget keeps its series for as long as it exists.

mod budgets;
mod busy;
mod cluster;
mod pools;
mod waits;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use permitd_budget::Outcome;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, EncodeMetric,
        text::{encode_eof, encode_registry},
    },
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
    },
    registry::Registry as Metered,
};

pub(crate) use self::busy::{Contention, MessageTimes, Stopwatch};
use self::{
    budgets::{Budgets, Looks},
    cluster::Membership,
    pools::Pools,
    waits::write_waits,
};
use crate::{cluster::Cluster, reading::Unreadable, registry::Registry, store::StoreCounts};

/// Stands for budgets, and pools, without series of their own.
const OTHER: &str = "other";

/// What an unreadable value would have been, by its place in [`Metrics::unreadable`].
const PARTS: [&str; 5] = ["wait", "limit", "remaining", "reset", "body"];

/// All that the server counts.
pub struct Metrics {
    /// Sessions, broken ones in their grace included.
    pub sessions: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// `WatchBudgets` calls.
    pub watches: Gauge,
    /// Calls turned away because of who made them.
    pub denied: Counter,
    reports: [Counter; Outcome::NAMES.len()],
    unsettled: Counter,
    refusals: Family<ReasonLabel, Counter>,
    unreadable: [Counter; PARTS.len()],
    /// How long messages of sessions take.
    pub(crate) messages: MessageTimes,
    metered: Metered,
    looks: Arc<Looks>,
    /// One at a time, so that impatient scrapers don't multiply the work. Bytes of the last text: a text that has to grow is there twice,
    /// and of a megabyte that is most of what a scrape takes.
    scraping: Mutex<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("sessions", &self.sessions.get()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Counts from 0. At most `budgets_max` budgets of `registry` get series of their own.
    #[must_use]
    pub fn new(registry: Arc<Registry>, budgets_max: usize) -> Self {
        let mut metered = Metered::with_prefix("permitd");
        let (sessions, connections, watches) = (Gauge::default(), Gauge::default(), Gauge::default());
        metered.register("sessions", "Sessions, with broken ones in their grace", sessions.clone());
        metered.register("connections", "Open connections", connections.clone());
        metered.register("watches", "WatchBudgets calls", watches.clone());
        let denied = Counter::default();
        metered.register("denied", "Calls turned away because of who made them", denied.clone());
        let refusals = Family::default();
        metered.register("refusals", "Acquires refused, by reason", refusals.clone());
        let unsettled = Counter::default();
        metered.register(
            "reports_unsettled",
            "Reports for permits that had expired, or that this server never issued",
            unsettled.clone(),
        );
        if let Some(keeper) = registry.keeper() {
            let StoreCounts { writes, failures, failing } = keeper.counts.clone();
            metered.register("store_writes", "Writes of the store, failed ones included", writes);
            metered.register("store_failures", "Writes of the store that failed", failures);
            metered.register("store_failing", "1 while the store can't be written", failing);
        }
        let reports: [Counter; Outcome::NAMES.len()] = Default::default();
        metered.register_collector(Box::new(Reports(reports.clone())));
        let unreadable: [Counter; PARTS.len()] = Default::default();
        metered.register_collector(Box::new(UnreadableValues(unreadable.clone())));
        let messages = MessageTimes::register(&mut metered);
        registry.contention().register(&mut metered);
        metered.register_collector(Box::new(Pools {
            registry: Arc::clone(&registry),
            members_max: budgets_max,
        }));
        let looks = Arc::new(Looks::new(registry, budgets_max));
        metered.register_collector(Box::new(Budgets(Arc::clone(&looks))));
        Self {
            sessions,
            connections,
            watches,
            denied,
            reports,
            unsettled,
            refusals,
            unreadable,
            messages,
            metered,
            looks,
            scraping: Mutex::default(),
        }
    }

    /// Tells of the cluster too.
    #[must_use]
    pub(crate) fn with_cluster(mut self, cluster: Option<Arc<Cluster>>) -> Self {
        if let Some(cluster) = cluster {
            self.metered.register_collector(Box::new(Membership(cluster)));
        }
        self
    }

    /// An acquire was refused. `reason` is one of the code's own words, which is what bounds the label.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// So many reports were answered alike.
    pub fn reported(&self, outcome: Outcome, settled: bool, times: u64) {
        if settled {
            self.reports[outcome.index()].inc_by(times);
        } else {
            self.unsettled.inc_by(times);
        }
    }

    /// Something in a report's headers or body made no sense.
    pub(crate) fn unreadable(&self, values: &Unreadable) {
        let Unreadable { waits, limits, remainings, resets, bodies } = *values;
        for (counter, values) in self.unreadable.iter().zip([waits, limits, remainings, resets, bodies]) {
            if values > 0 {
                counter.inc_by(values);
            }
        }
    }

    /// Everything in the OpenMetrics text format.
    #[must_use]
    pub fn render(&self) -> String {
        const WRITTEN: &str = "writing to a String does not fail";
        let mut usual = self.scraping.lock();
        self.looks.look();
        let mut text = String::with_capacity(*usual + *usual / 16);
        encode_registry(&mut text, &self.metered).expect(WRITTEN);
        write_waits(&mut text, &self.looks.seen()).expect(WRITTEN);
        encode_eof(&mut text).expect(WRITTEN);
        self.looks.forget();
        *usual = text.len();
        text
    }
}

/// Reports by outcome, all outcomes from the start.
#[derive(Debug)]
struct Reports([Counter; Outcome::NAMES.len()]);

impl Collector for Reports {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Reports that settled a permit, or repeated one that did, by outcome.";
        encode_by(encoder, ("reports", help), "outcome", Outcome::NAMES.into_iter().zip(&self.0))
    }
}

/// What could not be read, all parts from the start.
#[derive(Debug)]
struct UnreadableValues([Counter; PARTS.len()]);

impl Collector for UnreadableValues {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Values in reported headers and bodies that made no sense, by what they would have been.";
        encode_by(encoder, ("unreadable_values", help), "part", PARTS.into_iter().zip(&self.0))
    }
}

/// A counter for each value of one label.
fn encode_by<'a>(
    mut encoder: DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    label: &'static str,
    counters: impl Iterator<Item = (&'static str, &'a Counter)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, counter) in counters {
        let labels = [(label, value)];
        ConstCounter::new(counter.get()).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use permitd_budget::{BudgetSpec, LimitSpec};

    use super::*;
    use crate::{
        alarm::Alarms,
        cell::{Footing, Source},
        clock::Clock,
    };

    fn registry(budgets: &[&str]) -> Arc<Registry> {
        let clock = Clock::start();
        let (alarms, _) = Alarms::start("test", clock).expect("a thread");
        let registry = Registry::new(Footing::in_memory(clock, alarms), 100);
        budgets.iter().for_each(|name| set(&registry, name));
        Arc::new(registry)
    }

    fn set(registry: &Registry, name: &str) {
        let limits = vec![LimitSpec::rate("requests", 60, Duration::from_secs(60))];
        let spec = BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("makes sense");
        let name = name.parse().expect("a name");
        registry.set(&name, spec, Source::Admin, "", false).expect("room");
    }

    fn has(text: &str, line: &str) -> bool {
        text.lines().any(|known| known == line)
    }

    /// Goal: what is counted is told, and all outcomes are there before the first report.
    #[test]
    fn tells_what_it_counted() {
        let metrics = Metrics::new(registry(&["a/x"]), 10);
        metrics.sessions.inc();
        metrics.refused("QUEUE_FULL");
        metrics.reported(Outcome::Failed { retryable: true }, true, 1);
        metrics.reported(Outcome::Failed { retryable: false }, false, 1);
        let text = metrics.render();
        for line in [
            "permitd_sessions 1",
            "# HELP permitd_refusals Acquires refused, by reason.",
            "permitd_refusals_total{reason=\"QUEUE_FULL\"} 1",
            "permitd_reports_total{outcome=\"failed\"} 1",
            "permitd_reports_total{outcome=\"rate_limited\"} 0",
            "permitd_reports_unsettled_total 1",
            "permitd_budgets 1",
            "permitd_grants_total{provider=\"a\",key=\"x\"} 0",
            "permitd_limit_level{provider=\"a\",key=\"x\",limit=\"requests/1m\"} 60.0",
            "# EOF",
        ] {
            assert!(has(&text, line), "{line} is missing in\n{text}");
        }
    }

    /// Goal: labels are bounded. A budget keeps its series while it exists, whoever comes before it in the alphabet.
    #[test]
    fn budgets_past_the_bound_are_added_up() {
        let registry = registry(&["m/1", "m/2"]);
        let metrics = Metrics::new(Arc::clone(&registry), 2);
        let waiting = |text: &str, provider: &str, key: &str| {
            has(text, &format!("permitd_waiting{{provider=\"{provider}\",key=\"{key}\"}} 0"))
        };
        let text = metrics.render();
        assert!(waiting(&text, "m", "1") && waiting(&text, "m", "2") && !waiting(&text, "other", ""));
        for name in ["a/1", "a/2", "a/3"] {
            set(&registry, name);
        }
        let text = metrics.render();
        assert!(waiting(&text, "m", "1") && waiting(&text, "m", "2") && waiting(&text, "other", ""));
        assert!(!text.contains("provider=\"a\""), "{text}");
        registry.delete(&"m/1".parse().expect("a name"), "").expect("there");
        let text = metrics.render();
        assert!(waiting(&text, "a", "1") && !waiting(&text, "m", "1") && waiting(&text, "m", "2"));
    }

    /// Goal: names that people choose can't break the format.
    #[test]
    fn names_are_escaped() {
        let text = Metrics::new(registry(&["a\"b/x\\y"]), 10).render();
        assert!(has(&text, r#"permitd_waiting{provider="a\"b",key="x\\y"} 0"#), "{text}");
    }
}
