//! How budgets are shown, the same on the command line, on a terminal and in the console: what is declared as text, everything as JSON,
//! and which of them somebody should look at first.

mod command;
mod course;
mod facts;
mod json;
mod pressure;

use std::time::Duration;

use jiff::Timestamp;
use permitd_proto::v1;

pub use self::{
    command::command,
    course::{in_force_json, scheduled},
    facts::{Fact, Shown, difference, facts, removed, shown, tenant_text},
    json::{TOPICS, budget_json, change_json, explained_json, pool_json, state_json},
    pressure::{Pressure, taken, tightest, tightest_of},
};
use crate::config::DurationText;

/// A budget's name.
#[must_use]
pub fn name(budget: &v1::Budget) -> String {
    format!("{}/{}", budget.provider, budget.key)
}

/// A pool's name.
#[must_use]
pub fn pool_name(pool: &v1::Pool) -> String {
    format!("{}/{}", pool.provider, pool.key)
}

/// The name of the budget that a member of a pool is.
#[must_use]
pub fn member_name(member: &v1::PoolMember) -> String {
    format!("{}/{}", member.provider, member.key)
}

/// Whether a member of a pool grants whoever comes now and fits.
#[must_use]
pub fn grants_at_once(member: &v1::PoolMember) -> bool {
    member.passed_over.is_empty() && member.waiting == 0
}

/// How a member of a pool stands, in a word or two.
#[must_use]
pub fn member_now(member: &v1::PoolMember) -> &'static str {
    match (member.passed_over.is_empty(), grants_at_once(member), member.next) {
        (false, ..) => "passed over",
        (true, false, _) => "has a queue",
        (true, true, true) => "next",
        (true, true, false) => "can grant",
    }
}

/// A duration of the wire; none if it is negative.
#[must_use]
pub fn span(span: &prost_types::Duration) -> Duration {
    let seconds = u64::try_from(span.seconds).unwrap_or(0);
    let nanos = u32::try_from(span.nanos).unwrap_or(0);
    Duration::new(seconds, nanos)
}

/// A moment in RFC 3339, to the millisecond.
#[must_use]
pub fn moment(time: &prost_types::Timestamp) -> String {
    let millis = time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos / 1_000_000));
    Timestamp::from_millisecond(millis).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

/// A duration as flags take it.
#[must_use]
pub fn span_text(of: &prost_types::Duration) -> String {
    DurationText(span(of)).to_string()
}

/// The glob for what people write to find budgets: a glob, or without a star a part of the name. Empty is all.
#[must_use]
pub fn filter_glob(filter: &str) -> String {
    match filter.contains('*') || filter.is_empty() {
        true => filter.to_owned(),
        false => format!("*{filter}*"),
    }
}

/// Which budget a change is about.
#[must_use]
pub fn budget_of(change: &v1::Change) -> String {
    change.after.as_ref().or(change.before.as_ref()).map(name).unwrap_or_default()
}

/// What a change came to, line by line: what is there in place of what, or where it went.
#[must_use]
pub fn changed(change: &v1::Change) -> Vec<String> {
    match (&*change.what, &*change.server) {
        ("move", "") => vec!["anywhere".to_owned()],
        ("move", server) => vec![format!("to {server}")],
        (_, "") => difference(change.before.as_ref(), change.after.as_ref()),
        (_, server) => vec![server.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::moment;

    /// Goal: moments are RFC 3339.
    #[test]
    fn writes_moments() {
        assert_eq!(
            moment(&prost_types::Timestamp { seconds: 0, nanos: 5_000_000 }),
            "1970-01-01T00:00:00.005Z"
        );
    }
}
