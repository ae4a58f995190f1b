//! What is told of a cluster: which servers there are, as this one knows them, and what this one owns.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::cluster::{Cluster, Standings};

/// A metric: its name, its meaning, and where it stands.
type Column = (&'static str, &'static str, fn(&Standings) -> usize);

const GAUGES: [Column; 5] = [
    ("cluster_members", "Servers that have a lease, as this one knows.", |seen| seen.members),
    ("cluster_drained_members", "Those of them that take no budgets.", |seen| seen.drained),
    ("cluster_leased", "1 while this server has a lease; without one it grants nothing.", |seen| {
        usize::from(seen.is_leased)
    }),
    ("cluster_owned_budgets", "Budgets that this server owns.", |seen| seen.owned),
    ("cluster_ownerless_budgets", "Budgets that no server owns, as this one knows.", |seen| seen.ownerless),
];

/// Writes what this server knows of its cluster.
#[derive(Debug)]
pub(super) struct Membership(pub(super) Arc<Cluster>);

impl Collector for Membership {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let seen = self.0.standings();
        for (name, help, figure) in GAUGES {
            let figure = i64::try_from(figure(&seen)).unwrap_or(i64::MAX);
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(figure).encode(family)?;
        }
        Ok(())
    }
}
