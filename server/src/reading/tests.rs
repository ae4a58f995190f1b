//! Responses as providers send them, in `cases/*.txt`: a profile and a status, headers, and perhaps a body; below the line what it
//! comes to. After a change that is meant, bless them with `PERMITD_BLESS=1` and read the difference.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf, time::Duration};

use permitd_budget::{Observed, Outcome, Time};
use proptest::prelude::*;

use super::{Parts, Reading, read};
use crate::{
    config::DurationText,
    profile::{Profile, Profiles},
};

/// Tuesday, 14 November 2023, 22:13:20 UTC: 14:13:20 in California.
const NOW: Time = Time::from_nanos(1_700_000_000_000_000_000);
/// What stands between a response and its reading.
const LINE: &str = "\n----\n";

/// Goal: every row and every header of the facts about providers is read as it should be.
#[test]
fn cases_read_as_written() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/reading/cases");
    let bless = std::env::var_os("PERMITD_BLESS").is_some();
    let (mut cases, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(&folder).expect("there are cases") {
        let path = entry.expect("an entry").path();
        let written = fs::read_to_string(&path).expect("a case is text");
        let blocks: Vec<&str> =
            written.split("\n\n\n").map(str::trim).filter(|block| !block.is_empty()).collect();
        let mut read_anew = String::new();
        for block in blocks {
            let (response, expected) = block.split_once(LINE.trim_end()).unwrap_or((block, ""));
            let got = tell(response);
            cases += 1;
            if got.trim() != expected.trim() && !bless {
                wrong.push(format!("{}:\n{response}\nexpected:{expected}\ngot:\n{got}", path.display()));
            }
            if !read_anew.is_empty() {
                read_anew += "\n\n";
            }
            let _ = writeln!(read_anew, "{}{LINE}{}", response.trim_end(), got.trim_end());
        }
        if bless {
            fs::write(&path, read_anew).expect("cases can be written");
        }
    }
    assert!(cases > 60, "only {cases} cases were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Goal: an outcome that the caller gives is believed, and what the response tells is read all the same.
#[test]
fn what_is_told_wins() {
    let headers = BTreeMap::from([
        ("retry-after".to_owned(), "9".to_owned()),
        ("x-ratelimit-remaining-requests".to_owned(), "0".to_owned()),
    ]);
    let parts = Parts { status: 429, headers: &headers, body: b"" };
    let profiles = Profiles::built_in();
    let told = |outcome| read(profiles.of("openai"), Some(outcome), &parts, NOW);
    let overloaded = told(Outcome::Overloaded);
    assert_eq!((overloaded.outcome, overloaded.wait), (Outcome::Overloaded, Some(Duration::from_secs(9))));
    assert_eq!((overloaded.tripped.len(), overloaded.observed.len()), (0, 1));
    let success = told(Outcome::Success);
    assert_eq!((success.outcome, success.wait), (Outcome::Success, None));
    assert_eq!(told(Outcome::RateLimited).tripped[0].unit.as_ref(), "requests");
    // What is known of refusals like this holds too.
    let bare = Parts { status: 403, headers: &BTreeMap::new(), body: b"You hit a secondary rate limit" };
    let read = read(profiles.of("github"), Some(Outcome::ConcurrencyLimited), &bare, NOW);
    assert_eq!(read.wait, Some(Duration::from_secs(60)));
}

/// Goal: what is too long, too much or binary is left alone, and counted where it would have been read.
#[test]
fn hostile_responses_come_to_nothing() {
    let long = "9".repeat(2_000);
    let mut headers: BTreeMap<String, String> =
        (0..5_000).map(|at| (format!("x-ratelimit-{at}"), "1".to_owned())).collect();
    headers.insert("Retry-After".to_owned(), long);
    headers.insert("X-RateLimit-Limit".to_owned(), "\u{0}\u{7}".to_owned());
    let deep = [b"{\"error\":".repeat(2_000), b"1".to_vec()].concat();
    for body in [&b"\xff\xfe\x00{"[..], b"{\"error\": {\"message\": \"cut of", &deep] {
        let parts = Parts { status: 429, headers: &headers, body };
        for profile in Profiles::built_in().iter() {
            let read = read(profile, None, &parts, NOW);
            assert_eq!((read.outcome, read.wait), (Outcome::RateLimited, None), "{}", profile.name);
        }
    }
    let parts = Parts { status: 429, headers: &headers, body: &deep };
    let read = read(Profiles::built_in().of("anybody"), None, &parts, NOW);
    assert_eq!((read.unreadable.limits, read.unreadable.bodies), (1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: nothing that a provider can send makes a reader panic, or believe in what can't be.
    #[test]
    fn anything_can_be_read(
        status in 0u32..1_000,
        values in prop::collection::vec(value(), 0..24),
        names in prop::collection::vec(any::<prop::sample::Index>(), 24),
        body in body(),
        now in any::<u64>(),
    ) {
        let now = Time::from_nanos(now);
        for profile in Profiles::built_in().iter() {
            let known = header_names(profile);
            let headers: BTreeMap<String, String> =
                values.iter().zip(&names).map(|(value, at)| (at.get(&known).clone(), value.clone())).collect();
            let parts = Parts { status, headers: &headers, body: &body };
            let read = read(profile, None, &parts, now);
            check(&read);
        }
    }
}

fn check(read: &Reading) {
    assert!(read.wait.is_none_or(|wait| wait <= super::WAIT_MAX), "{read:?}");
    assert!(read.observed.len() <= permitd_budget::OBSERVED_MAX, "{read:?}");
    assert!(read.tripped.len() <= super::TRIPPED_MAX, "{read:?}");
    assert!(read.tripped.is_empty() || read.outcome == Outcome::RateLimited, "{read:?}");
    for observed in &read.observed {
        assert!(observed.limit != Some(0), "{observed:?}");
        assert!(observed.limit.is_some() || observed.remaining.is_some(), "{observed:?}");
    }
}

/// All headers that a profile reads.
fn header_names(profile: &Profile) -> Vec<String> {
    use crate::profile::Field;
    let fixed =
        ["retry-after", "retry-after-ms", "date", "ratelimit", "ratelimit-policy", "x-amzn-errortype"];
    let fields = [Field::Limit, Field::Remaining, Field::Reset];
    let ruled = profile.headers.iter().flat_map(|rule| fields.map(|field| rule.name(field)));
    fixed.map(str::to_owned).into_iter().chain(ruled).collect()
}

/// A header's value: often nearly right.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-+]?[0-9]{0,25}(\\.[0-9]{0,25})?",
        "([0-9]{1,20}(\\.[0-9]{1,12})?(d|h|m|s|ms)){1,4}",
        "\"?[a-z]{0,5}\"?;[qrwt]=-?[0-9]{1,22}(;[a-z]{1,3}=[0-9\"a-z]{0,9})*(,.{0,20})?",
        "(limit|remaining|reset)=[0-9]{1,20}(, (limit|remaining|reset)=.{0,9}){0,3}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,12})?Z",
        "(Mon|Tue), [0-9]{2} (Feb|Nov) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4_096),
        "(Please )?try again in [0-9a-z.µ]{0,40}.{0,20}".prop_map(String::into_bytes),
        "\\{\"error\": \\{\"code\": [\"a-z0-9_]{0,9}, \"details\": \\[\\{\"retryDelay\": \".{0,12}\"\\}\\]\\}\\}"
            .prop_map(String::into_bytes),
    ]
}

/// Reads one response and says in words what it came to.
fn tell(response: &str) -> String {
    let (head, body) = response.split_once("\n\n").unwrap_or((response, ""));
    let mut lines = head.lines().filter(|line| !line.starts_with('#'));
    let (provider, status) = lines.next().and_then(|line| line.split_once(' ')).expect("PROVIDER STATUS");
    let headers = lines
        .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line:?} is no header")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let body = body.trim();
    let parts = Parts { status: status.parse().expect("a status"), headers: &headers, body: body.as_bytes() };
    let profiles = Profiles::built_in();
    describe(&read(profiles.of(provider), None, &parts, NOW))
}

fn describe(read: &Reading) -> String {
    let mut said = format!("{:?}", read.outcome);
    if let Some(wait) = read.wait {
        let _ = write!(said, ", wait {}", DurationText(wait));
    }
    for tripped in &read.tripped {
        let _ = write!(said, ", tripped {}", dimension(&tripped.unit, tripped.per));
    }
    said.push('\n');
    for observed in &read.observed {
        said += &describe_limit(observed);
    }
    let un = &read.unreadable;
    for (number, what) in [
        (un.waits, "wait"),
        (un.limits, "limit"),
        (un.remainings, "remaining"),
        (un.resets, "reset"),
        (un.bodies, "body"),
    ] {
        if number > 0 {
            let _ = writeln!(said, "unreadable: {number} {what}");
        }
    }
    said
}

fn describe_limit(observed: &Observed) -> String {
    let mut said = dimension(&observed.unit, observed.per);
    for (name, value) in [("limit", observed.limit), ("remaining", observed.remaining)] {
        if let Some(value) = value {
            let _ = write!(said, " {name}={value}");
        }
    }
    if observed.rounded_to > 1 {
        let _ = write!(said, " rounded_to={}", observed.rounded_to);
    }
    if let Some(reset) = observed.reset {
        let _ = write!(said, " reset={}", DurationText(reset));
    }
    if !observed.models.is_empty() {
        let _ = write!(said, " models={}", observed.models);
    }
    if observed.window != permitd_budget::Window::Bucket {
        let _ = write!(said, " {:?}", observed.window);
    }
    said + "\n"
}

fn dimension(unit: &str, per: Option<Duration>) -> String {
    per.map_or(unit.to_owned(), |per| format!("{unit}/{}", DurationText(per)))
}
