//! What operators see: traces as a collector receives them, alerts as Prometheus raises them, and a dashboard that asks for what is served.

mod collector;
mod dashboard;
mod promtool;
mod rules;
mod traces;
