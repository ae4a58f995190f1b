//! Traces: one span for each acquire that is sampled, from its request to its permit or refusal, sent by OTLP. A request that is not
//! sampled costs one look at its context.
//!
//! The caller decides for requests that carry a W3C trace context; of the others, one in so many is sampled. Spans are put together
//! here rather than through a tracer: what ends them is an event of a budget, on whichever thread it comes up.

mod context;
mod queue;
mod span;

use std::{sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{Resource, trace::SpanExporter as _};
use parking_lot::Mutex;

pub(crate) use self::span::{Ended, Trace};
use self::{
    context::TraceParent,
    queue::{Queue, Sending},
};
use crate::{clock::Clock, config::TelemetryConfig, wire::decode::Ask};

/// What one batch may take on its way to the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where spans begin; clones share everything. Off unless a collector is configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces(Option<Arc<Exporter>>);

/// What sends spans.
#[derive(Debug)]
pub(super) struct Exporter {
    queue: Arc<Queue>,
    /// Until it is told to finish.
    sending: Mutex<Option<Sending>>,
    clock: Clock,
    /// Of requests that carry no context, one in so many is sampled; 0 for none.
    sample_one_in: u32,
}

impl Traces {
    /// Sends to the configured collector, if there is one. To be called within the runtime that is to talk to it.
    ///
    /// # Errors
    /// If nothing can be sent to that address.
    pub(crate) fn start(config: &TelemetryConfig, clock: Clock) -> Result<Self, ExporterBuildError> {
        let Some(collector) = &config.otlp else { return Ok(Self::default()) };
        let exporter =
            SpanExporter::builder().with_tonic().with_endpoint(collector).with_timeout(EXPORT_TIMEOUT);
        let exporter = match collector.starts_with("https://") {
            true => exporter.with_tls_config(ClientTlsConfig::new().with_native_roots()),
            false => exporter,
        };
        let mut exporter = exporter.build()?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        exporter
            .set_resource(&Resource::builder().with_service_name("permitd").with_attribute(version).build());
        let (queue, sending) = Queue::start(exporter);
        let sample_one_in = config.sample_one_in;
        let exporter = Exporter { queue, sending: Mutex::new(Some(sending)), clock, sample_one_in };
        Ok(Self(Some(Arc::new(exporter))))
    }

    /// The span of a request, if it is sampled: by its context, else by chance.
    pub(crate) fn begin(&self, traceparent: &str, budget: (&str, &str), ask: &Ask<'_>) -> Option<Arc<Trace>> {
        let exporter = self.0.as_ref()?;
        let parent = TraceParent::read(traceparent);
        let sampled = match parent {
            Some(parent) => parent.sampled,
            None => exporter.sample_one_in > 0 && rand::random_range(0..exporter.sample_one_in) == 0,
        };
        sampled.then(|| Arc::new(Trace::begin(Arc::clone(exporter), parent, budget, ask)))
    }

    /// Sends what is left.
    pub(crate) async fn finish(self) {
        let sending = self.0.and_then(|exporter| exporter.sending.lock().take());
        if let Some(sending) = sending {
            sending.finish().await;
        }
    }
}
