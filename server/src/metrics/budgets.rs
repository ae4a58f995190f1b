//! What is told of budgets: each column of figures is one metric, read from snapshots. Budgets without series of their own are added up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;
use permitd_budget::{LimitSnapshot, Outcome, Priority, ShadowSnapshot, Snapshot, Time, Waits};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::OTHER;
use crate::{cell::Exemplars, config::BudgetName, registry::Registry};

/// Looks at all budgets, once for everything that is told of them.
pub(super) struct Looks {
    registry: Arc<Registry>,
    budgets_max: usize,
    /// Budgets with series of their own.
    shown: Mutex<BTreeSet<BudgetName>>,
    seen: Mutex<Arc<Seen>>,
}

/// All budgets at one moment.
#[derive(Default)]
pub(super) struct Seen {
    budgets: usize,
    /// By provider and key. The sum of the others has an empty key, which no budget has.
    pub(super) figures: BTreeMap<(String, String), Figures>,
}

/// What is told of one budget, or of all the others together.
#[derive(Default)]
pub(super) struct Figures {
    granted: u64,
    refused: BTreeMap<&'static str, u64>,
    outcomes: [u64; Outcome::NAMES.len()],
    expired: u64,
    freezes: u64,
    waiting: u64,
    in_flight: u64,
    paused: u64,
    exhausted: u64,
    /// By class.
    pub(super) waits: [Waits; Priority::ALL.len()],
    pub(super) exemplars: Option<Exemplars>,
    limits: Vec<LimitFigures>,
    /// What limits would have done, where some are tried out.
    pub(super) shadow: Option<Would>,
}

/// What limits in shadow mode would have done.
#[derive(Default)]
pub(super) struct Would {
    granted: u64,
    refused: BTreeMap<&'static str, u64>,
    waiting: u64,
    /// By class.
    pub(super) waits: [Waits; Priority::ALL.len()],
}

struct LimitFigures {
    name: String,
    /// Nanoseconds until it grants again.
    frozen_nanos: u64,
    of: LimitSnapshot,
}

/// A metric of budgets: its name, its meaning, and where it stands.
type Column = (&'static str, &'static str, fn(&Figures) -> u64);
/// A metric of budgets in shadow mode.
type ShadowColumn = (&'static str, &'static str, MetricType, fn(&Would) -> u64);
/// A metric of limits.
type LimitColumn<N> = (&'static str, &'static str, fn(&LimitFigures) -> N);

const COUNTERS: [Column; 3] = [
    ("grants", "Permits granted.", |figures| figures.granted),
    ("rate_limited", "Calls that the provider refused for rate.", |figures| {
        figures.outcomes[Outcome::RateLimited.index()]
    }),
    ("permits_expired", "Permits that ended without a report.", |figures| figures.expired),
];

const GAUGES: [Column; 4] = [
    ("waiting", "Requests in the queue.", |figures| figures.waiting),
    ("in_flight", "Unreported permits.", |figures| figures.in_flight),
    ("paused", "1 while an administrator paused the budget.", |figures| figures.paused),
    ("quota_exhausted", "1 while the provider's quota is used up.", |figures| figures.exhausted),
];

const SHADOW: [ShadowColumn; 2] = [
    (
        "shadow_grants",
        "Permits that limits in shadow mode would have granted.",
        MetricType::Counter,
        |would| would.granted,
    ),
    (
        "shadow_waiting",
        "Requests that limits in shadow mode would keep waiting.",
        MetricType::Gauge,
        |would| would.waiting,
    ),
];

const LIMIT_GAUGES: [LimitColumn<f64>; 6] = [
    ("limit_level", "What could be granted of the limit now; negative means in debt.", |limit| {
        limit.of.level as f64
    }),
    ("limit_capacity", "What the limit's level is when nothing is taken.", |limit| limit.of.capacity as f64),
    ("limit_amount", "The limit's effective amount per window.", |limit| limit.of.effective_amount as f64),
    ("limit_configured_amount", "The limit's amount per window as its authority has it.", |limit| {
        limit.of.configured.amount as f64
    }),
    ("limit_cushion", "Units of the limit that are kept back of a burst.", |limit| limit.of.cushion as f64),
    (
        "limit_frozen_seconds",
        "How long the limit grants nothing yet after a refusal; 0 if it does.",
        |limit| limit.frozen_nanos as f64 / 1e9,
    ),
];

const LIMIT_COUNTERS: [LimitColumn<u64>; 4] = [
    ("limit_charged", "Units that permits took of the limit, as estimated.", |limit| limit.of.tally.charged),
    ("limit_refunded", "Units that came back since less was used than estimated.", |limit| {
        limit.of.tally.refunded
    }),
    ("limit_debited", "Units taken afterwards since more was used than estimated.", |limit| {
        limit.of.tally.debited
    }),
    (
        "limit_forfeited",
        "Units given up after a crash, since they may have been granted unwritten.",
        |limit| limit.of.tally.forfeited,
    ),
];

impl Looks {
    pub(super) fn new(registry: Arc<Registry>, budgets_max: usize) -> Self {
        Self { registry, budgets_max, shown: Mutex::default(), seen: Mutex::default() }
    }

    /// Looks anew. The registry lists budgets by name.
    pub(super) fn look(&self) {
        let cells = self.registry.list();
        let mut shown = self.shown.lock();
        shown.retain(|name| cells.binary_search_by(|cell| cell.name().cmp(name)).is_ok());
        let (mut figures, mut others) = (BTreeMap::new(), Figures::default());
        for cell in &cells {
            let name = cell.name();
            if shown.contains(name) || shown.len() < self.budgets_max && shown.insert(name.clone()) {
                let (snapshot, exemplars, now) = cell.figures();
                let mut own = Figures { exemplars: Some(exemplars), ..Figures::default() };
                own.add(&snapshot);
                own.limits = snapshot.limits.into_iter().map(|limit| LimitFigures::of(limit, now)).collect();
                figures.insert((name.provider().to_owned(), name.key().to_owned()), own);
            } else if let Some(outline) = cell.outline() {
                // There may be a great many of them.
                others.add(&outline);
            }
        }
        if cells.len() > shown.len() {
            figures.insert((OTHER.to_owned(), String::new()), others);
        }
        let seen = Seen { budgets: cells.len(), figures };
        *self.seen.lock() = Arc::new(seen);
    }

    /// Until the next look.
    pub(super) fn forget(&self) {
        *self.seen.lock() = Arc::default();
    }

    /// What was seen last.
    pub(super) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen.lock())
    }
}

impl LimitFigures {
    fn of(of: LimitSnapshot, now: Time) -> Self {
        let frozen = of.frozen_until.map_or(0, |until| until.since(now).as_nanos());
        Self { name: of.configured.to_string(), frozen_nanos: u64::try_from(frozen).unwrap_or(u64::MAX), of }
    }

    fn freezes(&self) -> u64 {
        self.of.freezes_total
    }
}

impl Figures {
    fn add(&mut self, snapshot: &Snapshot) {
        self.granted += snapshot.granted_total;
        for (reason, times) in &snapshot.refused {
            *self.refused.entry(reason).or_default() += times;
        }
        add_each(&mut self.outcomes, &snapshot.outcomes);
        self.expired += snapshot.expired_total;
        self.freezes += snapshot.freezes_total;
        self.waiting += u64::from(snapshot.waiting);
        self.in_flight += u64::from(snapshot.in_flight);
        self.paused += u64::from(snapshot.paused);
        self.exhausted += u64::from(snapshot.exhausted);
        add_waits(&mut self.waits, &snapshot.waits);
        if let Some(shadow) = &snapshot.shadow {
            self.shadow.get_or_insert_default().add(shadow);
        }
    }
}

impl Would {
    fn add(&mut self, shadow: &ShadowSnapshot) {
        self.granted += shadow.granted_total;
        for (reason, times) in &shadow.refused {
            *self.refused.entry(reason).or_default() += times;
        }
        self.waiting += u64::from(shadow.waiting);
        add_waits(&mut self.waits, &shadow.waits);
    }
}

fn add_waits(sums: &mut [Waits], more: &[Waits]) {
    for (waits, more) in sums.iter_mut().zip(more) {
        add_each(&mut waits.counts, &more.counts);
        waits.sum_nanos = waits.sum_nanos.saturating_add(more.sum_nanos);
    }
}

fn add_each(sums: &mut [u64], more: &[u64]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// Writes what was seen.
pub(super) struct Budgets(pub(super) Arc<Looks>);

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budgets").field("registry", &self.0.registry).finish_non_exhaustive()
    }
}

impl Collector for Budgets {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let seen = self.0.seen();
        let help = "Budgets, declared and made on first use.";
        ConstGauge::new(i64::try_from(seen.budgets).unwrap_or(i64::MAX))
            .encode(encoder.encode_descriptor("budgets", help, None, MetricType::Gauge)?)?;
        for (name, help, figure) in COUNTERS {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            write_all(family, &seen, |labelled, of| ConstCounter::new(figure(of)).encode(labelled))?;
        }
        for (name, help, figure) in GAUGES {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            write_all(family, &seen, |labelled, of| ConstGauge::new(figure(of)).encode(labelled))?;
        }
        let help = "Acquires refused by the budget, by reason.";
        let family = encoder.encode_descriptor("budget_refusals", help, None, MetricType::Counter)?;
        write_by(family, &seen, "reason", |figures| {
            figures.refused.iter().map(|(reason, times)| (*reason, *times))
        })?;
        write_shadow(&mut encoder, &seen)?;
        let help = "Reports of the budget's permits, by how the call went.";
        let family = encoder.encode_descriptor("outcomes", help, None, MetricType::Counter)?;
        write_by(family, &seen, "outcome", |figures| Outcome::NAMES.into_iter().zip(figures.outcomes))?;
        write_freezes(&mut encoder, &seen)?;
        for (name, help, figure) in LIMIT_GAUGES {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            write_limits(family, &seen, |labelled, of| ConstGauge::new(figure(of)).encode(labelled))?;
        }
        for (name, help, figure) in LIMIT_COUNTERS {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            write_limits(family, &seen, |labelled, of| ConstCounter::new(figure(of)).encode(labelled))?;
        }
        Ok(())
    }
}

/// Of budgets in shadow mode, and of no others.
fn write_shadow(encoder: &mut DescriptorEncoder<'_>, seen: &Seen) -> fmt::Result {
    for (name, help, kind, figure) in SHADOW {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for ((provider, key), figures) in &seen.figures {
            let Some(would) = &figures.shadow else { continue };
            let labels = [("provider", provider.as_str()), ("key", key.as_str())];
            let labelled = family.encode_family(&labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(figure(would)).encode(labelled)?,
                _ => ConstGauge::new(figure(would)).encode(labelled)?,
            }
        }
    }
    let help = "Acquires that limits in shadow mode would have refused, by reason.";
    let family = encoder.encode_descriptor("shadow_refusals", help, None, MetricType::Counter)?;
    write_by(family, seen, "reason", |figures| {
        let would = figures.shadow.iter();
        would.flat_map(|would| would.refused.iter().map(|(reason, times)| (*reason, *times)))
    })
}

/// Of each limit, and under an empty name of the budget as a whole.
fn write_freezes(encoder: &mut DescriptorEncoder<'_>, seen: &Seen) -> fmt::Result {
    let help =
        "How often a refusal froze the limit, or with an empty limit the whole budget; a burst counts once.";
    let mut family = encoder.encode_descriptor("freezes", help, None, MetricType::Counter)?;
    for ((provider, key), figures) in &seen.figures {
        let limits = figures.limits.iter().map(|limit| (limit.name.as_str(), limit.freezes()));
        for (limit, freezes) in [("", figures.freezes)].into_iter().chain(limits) {
            let labels = [("provider", provider.as_str()), ("key", key.as_str()), ("limit", limit)];
            ConstCounter::new(freezes).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn write_all(
    mut family: MetricEncoder<'_>,
    seen: &Seen,
    write: impl Fn(MetricEncoder<'_>, &Figures) -> fmt::Result,
) -> fmt::Result {
    for ((provider, key), of) in &seen.figures {
        let labels = [("provider", provider.as_str()), ("key", key.as_str())];
        write(family.encode_family(&labels)?, of)?;
    }
    Ok(())
}

/// A counter for each value of one more label.
fn write_by<'a, I: Iterator<Item = (&'static str, u64)>>(
    mut family: MetricEncoder<'_>,
    seen: &'a Seen,
    label: &'static str,
    values: impl Fn(&'a Figures) -> I,
) -> fmt::Result {
    for ((provider, key), of) in &seen.figures {
        for (value, times) in values(of) {
            let labels = [("provider", provider.as_str()), ("key", key.as_str()), (label, value)];
            ConstCounter::new(times).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn write_limits(
    mut family: MetricEncoder<'_>,
    seen: &Seen,
    write: impl Fn(MetricEncoder<'_>, &LimitFigures) -> fmt::Result,
) -> fmt::Result {
    for ((provider, key), of) in &seen.figures {
        for limit in &of.limits {
            let labels =
                [("provider", provider.as_str()), ("key", key.as_str()), ("limit", limit.name.as_str())];
            write(family.encode_family(&labels)?, limit)?;
        }
    }
    Ok(())
}
