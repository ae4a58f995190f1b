//! Hours and the limit at them in one line, the same everywhere people write schedules:
//!
//! ```text
//! [DAYS ]FROM-TO ZONE LIMIT
//! mon-fri 22:00-06:00 Europe/Berlin requests=2000/1m    sat,sun 00:00-24:00 UTC tokens=1M/1m
//! ```
//!
//! And when on the line of time such hours are. A moment that clocks leave out when they are set forward is the one they go on at; of one
//! that comes twice, the first.

use std::fmt;

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, Weekday},
    tz::TimeZone,
};
use permitd_budget::{DAY_SECONDS, Hours, Scheduled};

use crate::config::{LimitText, parse_limit, unknown};

/// As written, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const EXAMPLE: &str = "write it like \"mon-fri 22:00-06:00 Europe/Berlin requests=2000/1m\"";

/// Reads hours and the limit at them.
///
/// # Errors
/// Says what is wrong and gives an example.
pub fn parse_scheduled(text: &str) -> Result<Scheduled, String> {
    let (hours, limit) =
        text.trim().rsplit_once(char::is_whitespace).ok_or_else(|| wrong(text, "no limit"))?;
    let limit = parse_limit(limit).map_err(|error| format!("{limit:?}: {error}"))?;
    Ok(Scheduled { hours: parse_hours(hours)?, limit })
}

/// Reads hours: `mon-fri 22:00-06:00 Europe/Berlin`; without days, those of every day.
///
/// # Errors
/// Says what is wrong and gives an example.
pub fn parse_hours(text: &str) -> Result<Hours, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (days, span, zone) = match words.as_slice() {
        [days, span, zone] => (parse_days(days)?, span, zone),
        [span, zone] => ([true; 7], span, zone),
        _ => return Err(wrong(text, "not days, hours and a time zone")),
    };
    let (from, to) = span.split_once('-').ok_or_else(|| wrong(span, "no end"))?;
    // What the names of time zones stand for is for their database to say.
    TimeZone::get(zone).map_err(|_| {
        format!("{zone:?} is no time zone; write one of the time zone database, like Europe/Berlin or UTC")
    })?;
    Ok(Hours { days, from: parse_second(from)?, to: parse_second(to)?, zone: (*zone).to_owned() })
}

fn wrong(text: &str, problem: &str) -> String {
    format!("{text:?}: {problem}; {EXAMPLE}")
}

/// `mon`, `mon-fri`, `sat,sun`, `fri-mon`, `daily`.
fn parse_days(text: &str) -> Result<[bool; 7], String> {
    let day = |name: &str| {
        let found = DAYS.iter().position(|day| day.eq_ignore_ascii_case(name.trim()));
        found.ok_or_else(|| unknown("day", name, &DAYS))
    };
    if text == "daily" {
        return Ok([true; 7]);
    }
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        (0..=(last + 7 - first) % 7).for_each(|after| days[(first + after) % 7] = true);
    }
    Ok(days)
}

/// `09:30`, `09:30:15`, `24:00`.
fn parse_second(text: &str) -> Result<u32, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let number = |text: &&str| text.parse::<u32>().ok().filter(|_| text.len() == 2);
    let numbers: Option<Vec<u32>> = parts.iter().map(number).collect();
    let second = match numbers.as_deref() {
        Some([hour, minute]) if *minute < 60 => Some(hour * 3_600 + minute * 60),
        Some([hour, minute, second]) if *minute < 60 && *second < 60 => {
            Some(hour * 3_600 + minute * 60 + second)
        }
        _ => None,
    };
    second.filter(|second| *second <= DAY_SECONDS).ok_or_else(|| wrong(text, "no time of day"))
}

/// Writes hours so that [`parse_hours`] reads them back.
#[derive(Clone, Copy, Debug)]
pub struct HoursText<'a>(pub &'a Hours);

impl fmt::Display for HoursText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hours { days, from, to, zone } = self.0;
        if days.contains(&false) {
            write!(f, "{} ", days_text(days))?;
        }
        write!(f, "{}-{} {zone}", second_text(*from), second_text(*to))
    }
}

/// Writes an entry so that [`parse_scheduled`] reads it back.
#[derive(Clone, Copy, Debug)]
pub struct ScheduledText<'a>(pub &'a Scheduled);

impl fmt::Display for ScheduledText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", HoursText(&self.0.hours), LimitText(&self.0.limit))
    }
}

/// Days in a row as `first-last`.
fn days_text(days: &[bool; 7]) -> String {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < days.len() {
        let row = days[at..].iter().take_while(|on| **on).count();
        match row {
            0 => at += 1,
            1 | 2 => parts.extend((at..at + row).map(|day| DAYS[day].to_owned())),
            _ => parts.push(format!("{}-{}", DAYS[at], DAYS[at + row - 1])),
        }
        at += row;
    }
    parts.join(",")
}

fn second_text(second: u32) -> String {
    let text = format!("{:02}:{:02}", second / 3_600, second / 60 % 60);
    if second.is_multiple_of(60) { text } else { format!("{text}:{:02}", second % 60) }
}

/// The stretch of time that begins on `date`, if one does. A zone that nobody knows any more has none.
fn stretch(hours: &Hours, zone: &TimeZone, date: Date) -> Option<(Timestamp, Timestamp)> {
    let weekday = date.weekday().since(Weekday::Monday);
    if !hours.days[usize::try_from(weekday).ok()?] {
        return None;
    }
    let end_date = if hours.to <= hours.from { date.tomorrow().ok()? } else { date };
    Some((moment(zone, date, hours.from)?, moment(zone, end_date, hours.to)?))
}

fn moment(zone: &TimeZone, date: Date, second: u32) -> Option<Timestamp> {
    let (date, second) = if second == DAY_SECONDS { (date.tomorrow().ok()?, 0) } else { (date, second) };
    let part = |number: u32| i8::try_from(number).ok();
    let at = date.at(part(second / 3_600)?, part(second / 60 % 60)?, part(second % 60)?, 0);
    zone.to_ambiguous_timestamp(at).compatible().ok()
}

/// Whether it is these hours.
pub(super) fn are_now(hours: &Hours, now: Timestamp) -> bool {
    near(hours, now, -1, 0).any(|(from, to)| from <= now && now < to)
}

/// When these hours next begin or end.
pub(super) fn next_edge(hours: &Hours, now: Timestamp) -> Option<Timestamp> {
    // Each day of the week comes within eight days, also where the first is over.
    near(hours, now, -1, 8).flat_map(|(from, to)| [from, to]).filter(|edge| *edge > now).min()
}

/// The stretches that begin on the days around now, in order.
fn near(
    hours: &Hours,
    now: Timestamp,
    first: i64,
    last: i64,
) -> impl Iterator<Item = (Timestamp, Timestamp)> {
    let zone = TimeZone::get(&hours.zone).ok();
    let today = zone.as_ref().map(|zone| zone.to_datetime(now).date());
    (first..=last).filter_map(move |after| {
        let date = today?.checked_add(after.days()).ok()?;
        stretch(hours, zone.as_ref()?, date)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Hours {
        parse_hours(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Goal: what is written is what is read, in its shortest form.
    #[test]
    fn texts_are_read_back() {
        for (text, shown) in [
            ("mon-fri 22:00-06:00 Europe/Berlin requests=2000/1m", ""),
            ("00:00-24:00 UTC in_flight=3", ""),
            ("mon,tue,sat 09:30:15-10:00 America/New_York tokens=5/1m,models=a-*", ""),
            ("daily 01:00-02:00 UTC in_flight=3", "01:00-02:00 UTC in_flight=3"),
            ("SAT-Sun 01:00-02:00 UTC in_flight=3", "sat,sun 01:00-02:00 UTC in_flight=3"),
            ("fri-mon 01:00-02:00 UTC in_flight=3", "mon,fri-sun 01:00-02:00 UTC in_flight=3"),
        ] {
            let read = parse_scheduled(text).unwrap_or_else(|error| panic!("{error}"));
            let written = ScheduledText(&read).to_string();
            assert_eq!(written, if shown.is_empty() { text } else { shown });
            assert_eq!(parse_scheduled(&written).as_ref(), Ok(&read));
        }
        for (text, hint) in [
            ("requests=5/1m", "no limit"),
            ("09:00-10:00 requests=5/1m", "not days"),
            ("mon-fry 09:00-10:00 UTC in_flight=3", "did you mean fri"),
            ("09:00 UTC in_flight=3", "no end"),
            ("09:00-24:01 UTC in_flight=3", "no time of day"),
            ("09:60-10:00 UTC in_flight=3", "no time of day"),
            ("9:00-10:00 UTC in_flight=3", "no time of day"),
            ("09:00-10:00 Mars/Olympus in_flight=3", "no time zone"),
            ("09:00-10:00 UTC in_flight", "in_flight"),
        ] {
            let problem = parse_scheduled(text).expect_err(text);
            assert!(problem.contains(hint), "{text}: {problem}");
        }
    }

    /// Goal: a night belongs to the day on which it begins.
    #[test]
    fn nights_begin_on_their_day() {
        let night = hours("fri 22:00-06:00 UTC");
        for (time, on) in [
            ("2026-03-06T21:59:59Z", false),
            ("2026-03-06T22:00:00Z", true),
            ("2026-03-07T05:59:59Z", true),
            ("2026-03-07T06:00:00Z", false),
            ("2026-03-07T22:00:00Z", false),
        ] {
            assert_eq!(are_now(&night, at(time)), on, "{time}");
        }
        assert_eq!(next_edge(&night, at("2026-03-07T06:00:00Z")), Some(at("2026-03-13T22:00:00Z")));
    }

    /// Goal: hours are those of the clocks there, however long that makes them: a night in which clocks are set is an hour shorter or
    /// longer, an hour that is left out begins when clocks go on, and of one that comes twice the first counts.
    #[test]
    fn clocks_that_are_set_are_followed() {
        let edges = |text: &str, from: &str| {
            let hours = hours(text);
            let first = next_edge(&hours, at(from)).expect("an edge");
            [first, next_edge(&hours, first).expect("another")].map(|edge| edge.to_string())
        };
        let night = "22:00-06:00 Europe/Berlin";
        assert_eq!(edges(night, "2026-03-28T12:00:00Z"), ["2026-03-28T21:00:00Z", "2026-03-29T04:00:00Z"]);
        assert_eq!(edges(night, "2026-10-24T12:00:00Z"), ["2026-10-24T20:00:00Z", "2026-10-25T05:00:00Z"]);
        let early = "02:30-04:00 Europe/Berlin";
        assert_eq!(edges(early, "2026-03-28T12:00:00Z"), ["2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"]);
        assert_eq!(edges(early, "2026-10-24T12:00:00Z"), ["2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z"]);
    }

    /// Goal: on every hour of a year, in places with odd clocks, hours are now exactly between an edge and the next.
    #[test]
    fn edges_and_hours_agree() {
        for text in [
            "mon-fri 09:00-17:30 America/St_Johns",
            "sat 00:00-24:00 Australia/Lord_Howe",
            "23:00-01:00 Africa/Casablanca",
            "wed 12:00-11:59 Asia/Kathmandu",
        ] {
            let hours = hours(text);
            let mut now = at("2026-01-01T00:00:00Z");
            for _ in 0..600 {
                let edge = next_edge(&hours, now).expect("there is always another");
                let moment_before = edge - 1.nanoseconds();
                assert_eq!(are_now(&hours, now), are_now(&hours, moment_before), "{text} at {now}");
                assert_ne!(are_now(&hours, moment_before), are_now(&hours, edge), "{text} at {edge}");
                now = edge;
            }
        }
    }
}
