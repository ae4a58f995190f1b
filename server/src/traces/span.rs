//! One acquire under way. It ends once: with its last permit, its refusal, or with the last who knows of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use permitd_budget::{Priority, Time};

use super::{Exporter, context::TraceParent};
use crate::{config::priority_name, wire::decode::Ask};

/// What every span is called.
const NAME: &str = "permitd.acquire";
/// Attributes of a span.
const ATTRIBUTES_MAX: usize = 9;

/// A sampled acquire.
#[derive(Debug)]
pub(crate) struct Trace {
    exporter: Arc<Exporter>,
    asked: Arc<Asked>,
    has_ended: AtomicBool,
}

/// What was asked for, and when.
#[derive(Debug)]
struct Asked {
    trace_id: u128,
    parent: Option<u64>,
    began: Time,
    budget: Box<str>,
    tenant: Box<str>,
    model: Box<str>,
    priority: Priority,
    permits: u32,
}

/// An acquire that has ended, on its way to the collector. A tenth of what it is written as, which is put off until it is sent.
#[derive(Debug)]
pub(super) struct Span {
    asked: Arc<Asked>,
    at: Time,
    ended: Ended,
}

/// How an acquire ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With its last permit.
    Granted {
        waited: Duration,
        /// What it waited for last: a limit, or what held back the whole budget.
        held_by: Option<String>,
        /// That limit, if it was one.
        limit: Option<String>,
    },
    Refused {
        reason: &'static str,
        limit: Option<String>,
    },
    /// The caller took it back, or went away.
    Cancelled,
}

impl Trace {
    pub(super) fn begin(
        exporter: Arc<Exporter>,
        parent: Option<TraceParent>,
        (provider, key): (&str, &str),
        ask: &Ask<'_>,
    ) -> Self {
        let key = if key.is_empty() { crate::config::DEFAULT_KEY } else { key };
        let asked = Asked {
            trace_id: parent.map_or_else(rand::random, |parent| parent.trace_id),
            parent: parent.map(|parent| parent.span_id),
            began: exporter.clock.now(),
            budget: format!("{provider}/{key}").into(),
            tenant: ask.tenant.into(),
            model: ask.model.into(),
            priority: ask.priority,
            permits: ask.count.max(1),
        };
        Self { exporter, asked: Arc::new(asked), has_ended: AtomicBool::new(false) }
    }

    /// Of the whole trace.
    pub(crate) fn trace_id(&self) -> u128 {
        self.asked.trace_id
    }

    pub(crate) fn priority(&self) -> Priority {
        self.asked.priority
    }

    /// Sends the span, the first time.
    pub(crate) fn end(&self, at: Time, ended: Ended) {
        if !self.has_ended.swap(true, Ordering::AcqRel) {
            // A budget reads its clock before it takes what was begun meanwhile.
            let at = at.max(self.asked.began);
            self.exporter.queue.put(Span { asked: Arc::clone(&self.asked), at, ended });
        }
    }

    /// Sends nothing: it is another one's to tell.
    pub(crate) fn forget(&self) {
        self.has_ended.store(true, Ordering::Release);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.end(self.exporter.clock.now(), Ended::Cancelled);
    }
}

impl Span {
    /// As the collector gets it.
    pub(super) fn write(self, scope: &InstrumentationScope) -> SpanData {
        let Self { asked, at, ended } = self;
        let mut attributes = Vec::with_capacity(ATTRIBUTES_MAX);
        attributes.extend([
            KeyValue::new("permitd.budget", asked.budget.to_string()),
            KeyValue::new("permitd.tenant", asked.tenant.to_string()),
            KeyValue::new("permitd.priority", priority_name(asked.priority)),
            KeyValue::new("permitd.permits", i64::from(asked.permits)),
        ]);
        if !asked.model.is_empty() {
            attributes.push(KeyValue::new("permitd.model", asked.model.to_string()));
        }
        let status = tell(ended, &mut attributes);
        let (trace_id, span_id) = (TraceId::from(asked.trace_id), SpanId::from(rand::random::<u64>()));
        SpanData {
            span_context: SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: asked.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: asked.parent.is_some(),
            span_kind: SpanKind::Server,
            name: NAME.into(),
            start_time: wall(asked.began),
            end_time: wall(at),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: scope.clone(),
        }
    }
}

fn tell(ended: Ended, attributes: &mut Vec<KeyValue>) -> Status {
    let mut add = |name: &'static str, value: Option<String>| {
        attributes.extend(value.map(|value| KeyValue::new(name, value)));
    };
    match ended {
        Ended::Granted { waited, held_by, limit } => {
            add("permitd.outcome", Some("granted".to_owned()));
            add("permitd.held_by", held_by);
            add("permitd.limit", limit);
            attributes.push(KeyValue::new("permitd.queue_time", waited.as_secs_f64()));
            Status::Ok
        }
        Ended::Refused { reason, limit } => {
            add("permitd.outcome", Some("refused".to_owned()));
            add("permitd.reason", Some(reason.to_owned()));
            add("permitd.limit", limit);
            Status::error(reason)
        }
        Ended::Cancelled => {
            add("permitd.outcome", Some("cancelled".to_owned()));
            Status::Unset
        }
    }
}

fn wall(time: Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(time.as_nanos())
}

#[cfg(test)]
impl Span {
    /// One that says nothing.
    pub(super) fn nothing() -> Self {
        let asked = Asked {
            trace_id: 1,
            parent: None,
            began: Time::ZERO,
            budget: "p/k".into(),
            tenant: "".into(),
            model: "".into(),
            priority: Priority::Standard,
            permits: 1,
        };
        Self { asked: Arc::new(asked), at: Time::ZERO, ended: Ended::Cancelled }
    }
}
