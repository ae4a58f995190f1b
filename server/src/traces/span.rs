//! One acquire under way. It ends once: with its last permit, its refusal, or with the last who knows of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use permitd_budget::{Priority, Time};

use super::{Exporter, context::TraceParent};
use crate::{config::priority_name, wire::decode::Ask};

/// What every span is called.
const NAME: &str = "permitd.acquire";

/// A sampled acquire.
#[derive(Debug)]
pub(crate) struct Trace {
    exporter: Arc<Exporter>,
    trace_id: u128,
    parent: Option<u64>,
    began: Time,
    budget: String,
    tenant: Box<str>,
    model: Box<str>,
    priority: Priority,
    permits: u32,
    has_ended: AtomicBool,
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
        Self {
            trace_id: parent.map_or_else(rand::random, |parent| parent.trace_id),
            parent: parent.map(|parent| parent.span_id),
            began: exporter.clock.now(),
            exporter,
            budget: format!("{provider}/{key}"),
            tenant: ask.tenant.into(),
            model: ask.model.into(),
            priority: ask.priority,
            permits: ask.count.max(1),
            has_ended: AtomicBool::new(false),
        }
    }

    /// Of the whole trace.
    pub(crate) fn trace_id(&self) -> u128 {
        self.trace_id
    }

    pub(crate) fn priority(&self) -> Priority {
        self.priority
    }

    /// Sends the span, the first time.
    pub(crate) fn end(&self, at: Time, ended: Ended) {
        if !self.has_ended.swap(true, Ordering::AcqRel) {
            // A budget reads its clock before it takes what was begun meanwhile.
            self.exporter.send(self.span(at.max(self.began), ended));
        }
    }

    /// Sends nothing: it is another one's to tell.
    pub(crate) fn forget(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    fn span(&self, at: Time, ended: Ended) -> SpanData {
        let mut attributes = vec![
            KeyValue::new("permitd.budget", self.budget.clone()),
            KeyValue::new("permitd.tenant", self.tenant.to_string()),
            KeyValue::new("permitd.priority", priority_name(self.priority)),
            KeyValue::new("permitd.permits", i64::from(self.permits)),
        ];
        if !self.model.is_empty() {
            attributes.push(KeyValue::new("permitd.model", self.model.to_string()));
        }
        let status = tell(ended, &mut attributes);
        let (trace_id, span_id) = (TraceId::from(self.trace_id), SpanId::from(rand::random::<u64>()));
        SpanData {
            span_context: SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: self.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: self.parent.is_some(),
            span_kind: SpanKind::Server,
            name: NAME.into(),
            start_time: wall(self.began),
            end_time: wall(at),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.exporter.scope.clone(),
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.end(self.exporter.clock.now(), Ended::Cancelled);
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
