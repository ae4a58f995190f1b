//! Profiles right and wrong: the built-in ones, what a user's own make of them, and what is refused with its line.

use std::{sync::Arc, time::Duration};

use permitd_budget::{BudgetSpec, CheckedSpec, LimitSpec, Settled};

use super::{Profile, Profiles};

const HEAD: &str = "name = \"mine\"\nabout = \"a test\"\n";

fn mine(rest: &str) -> Result<Profiles, String> {
    let text = format!("{HEAD}{rest}");
    Profiles::read([("mine.toml", text.as_str())]).map_err(|error| error.to_string())
}

fn wrong(rest: &str) -> String {
    mine(rest).expect_err(rest)
}

fn spec(limits: Vec<LimitSpec>) -> CheckedSpec {
    BudgetSpec { limits, ..BudgetSpec::default() }.check().expect("a sound spec")
}

fn built_in(name: &str) -> Arc<Profile> {
    Arc::clone(Profiles::built_in().get(name).expect(name))
}

/// Goal: all providers that are known by name have a profile that says who it is, and nobody goes without.
#[test]
fn built_in_profiles_are_right() {
    let profiles = Profiles::built_in();
    let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
    let expected = "anthropic azure-openai bedrock cohere gemini generic github groq mistral openai shopify slack stripe vertex zhipu";
    assert_eq!(names.join(" "), expected);
    for profile in profiles.iter() {
        assert!(profile.text().contains(&format!("name = \"{}\"", profile.name)), "{}", profile.name);
        assert!(!profile.about.is_empty(), "{}", profile.name);
        for (tier, what) in &profile.tiers {
            assert!(!what.about.is_empty() && !what.limits.is_empty(), "{} {tier}", profile.name);
        }
    }
    assert_eq!(profiles.of("nobody-knows").name, "generic");
    let tiers = |name: &str| built_in(name).tiers.keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(tiers("anthropic"), "build free scale");
    assert_eq!(tiers("openai"), "tier1 tier2 tier3 tier4 tier5");
}

/// Goal: models of a class share what the provider says of one of them; other models have limits of their own.
#[test]
fn classes_of_models_share() {
    let anthropic = built_in("anthropic");
    assert_eq!(anthropic.sharing("claude-opus-4-1-20250805"), "claude-opus-4*");
    assert_eq!(anthropic.sharing("claude-next"), "claude-next");
    assert_eq!(built_in("stripe").sharing("charges"), "", "the account's");
}

/// Goal: what a budget left open is the profile's, and what it declares stays.
#[test]
fn fills_what_was_left_open() {
    let second = Duration::from_secs(1);
    let declared = spec(vec![LimitSpec::rate("points", 50, second)]);
    let shopify = built_in("shopify").fill(&declared);
    assert_eq!(shopify.limits[0].burst, 1_000);
    assert_eq!(shopify.permit_ttl, Some(Duration::from_secs(120)));
    let own = LimitSpec { burst: 7, ..LimitSpec::rate("points", 50, second) };
    let ttl = Some(Duration::from_secs(5));
    let declared = BudgetSpec { limits: vec![own], permit_ttl: ttl, ..BudgetSpec::default() };
    let filled = built_in("shopify").fill(&declared.clone().check().expect("sound"));
    assert_eq!((filled.limits[0].burst, filled.permit_ttl), (7, ttl));

    let github = built_in("github").fill(&spec(vec![LimitSpec::in_flight(5)]));
    let limits: Vec<(&str, u64)> =
        github.limits.iter().map(|limit| (limit.unit.as_str(), limit.amount)).collect();
    assert_eq!(limits, [("in_flight", 5), ("points", 900)], "its own cap on calls at once stays");
    assert_eq!(
        built_in("bedrock").fill(&spec(vec![])).counting[0].counting.settled,
        Settled::Used { output_percent: 500 }
    );
    let generic = built_in("generic").fill(&declared.clone().check().expect("sound"));
    assert_eq!(*generic, declared, "the generic profile adds nothing");
}

/// Goal: a user's own file extends the built-in profile of its name, or replaces it.
#[test]
fn own_files_extend_and_replace() {
    let own = "name = \"openai\"\nabout = \"ours\"\nextends = \"openai\"\n[tiers.tier1]\nabout = \"x\"\nlimits = [\"requests=7/1m\"]\n\
        [[counting]]\nmodels = \"o*\"\n";
    let profiles = Profiles::read([("own.toml", own)]).expect("right");
    let openai = profiles.of("openai");
    assert_eq!((openai.about.as_str(), openai.text()), ("ours", own));
    assert_eq!(openai.tiers["tier1"].limits[0].amount, 7);
    assert_eq!(openai.tiers.len(), 5, "the others are inherited");
    assert_eq!(openai.counting[0].models, "o*", "its own come first");
    assert_eq!(openai.headers.len(), built_in("openai").headers.len());

    let replaced = Profiles::read([("own.toml", "name = \"openai\"\nabout = \"bare\"\n")]).expect("right");
    assert_eq!(replaced.of("openai").headers.len(), 0);
    // Whoever extends it gets the user's own.
    let two = [("own.toml", own), ("b.toml", "name = \"b\"\nabout = \"b\"\nextends = \"openai\"\n")];
    assert_eq!(Profiles::read(two).expect("right").of("b").tiers["tier1"].limits[0].amount, 7);
}

/// Goal: each kind of mistake is refused with its line and what would be right.
#[test]
fn mistakes_have_lines() {
    for (rest, line, hint) in [
        ("permit_tll = \"5m\"", 3, "did you mean permit_ttl?"),
        ("permit_ttl = \"0s\"", 3, "1 s to 24 h"),
        ("limits = [\"widgets=5/1m\"]", 3, "unknown unit \"widgets\""),
        ("limits = [\"request=5/1m\"]", 3, "did you mean requests?"),
        ("[[headers]]\nnames = \"x-limit\"\nunit = \"requests\"", 4, "needs one {}"),
        ("[[headers]]\nnames = \"X-{}\"\nunit = \"requests\"", 4, "lower case"),
        ("[[headers]]\nnames = \"x-{}\"\nunit = \"point\"", 5, "unknown unit"),
        ("[[headers]]\nnames = \"x-{}\"\nunit = \"requests\"\nreset = \"epoc\"", 6, "did you mean epoch?"),
        ("[[headers]]\nnames = \"x-{}\"\nunit = \"requests\"\nwhen_is = \"a\"", 3, "go together"),
        (
            "[[headers]]\nnames = \"x-{}\"\nunit = \"requests\"\n[[headers]]\nnames = \"x-{}\"\nunit = \"tokens\"",
            7,
            "never match",
        ),
        ("[[refusals]]\nstatus = [429]", 3, "class is missing"),
        ("[[refusals]]\nclass = \"rate_limit\"\nstatus = [429]", 4, "did you mean rate_limited?"),
        ("[[refusals]]\nclass = \"failed\"\nstatus = [99]", 5, "no HTTP status"),
        ("[[refusals]]\nclass = \"failed\"\nstatus = []", 3, "matches nothing"),
        ("[[refusals]]\nclass = \"failed\"\ntext = [\"\"]", 5, "tells nothing apart"),
        ("[[refusals]]\nclass = \"failed\"\nbody = [\"error\"]", 5, "JSON pointer"),
        ("[[refusals]]\nclass = \"failed\"\nis = [\"x\"]", 3, "nothing to test"),
        ("[[refusals]]\nclass = \"overloaded\"\nretry = true", 3, "class = \"failed\" only"),
        ("[[refusals]]\nclass = \"too_large\"\nwait = \"5s\"", 3, "hold others back"),
        (
            "[[refusals]]\nclass = \"failed\"\nstatus = [429, 430]\n[[refusals]]\nclass = \"overloaded\"\nstatus = [430]\ntext = [\"x\"]",
            7,
            "never match",
        ),
        ("[[dimensions]]\nunit = \"requests\"", 3, "matches every refusal"),
        (
            "[[windows]]\nunit = \"requests\"\nper = \"1d\"\naligned_to = \"UTC\"",
            3,
            "window = \"fixed\" only",
        ),
        (
            "[[windows]]\nunit = \"requests\"\nper = \"1d\"\nwindow = \"fixed\"\naligned_to = \"Mars\"",
            7,
            "no time zone",
        ),
        (
            "[[windows]]\nunit = \"requests\"\nper = \"7h\"\nwindow = \"fixed\"\naligned_to = \"UTC\"",
            3,
            "divide a day",
        ),
        ("[[counting]]\ncached_input_percent = 101", 4, "at most 100"),
        ("[[counting]]\noutput_percent = 10001", 4, "at most 10000"),
        ("[[counting]]\nsettled = \"as_held\"\noutput_percent = 5", 3, "settled = \"used\" only"),
        ("[[bodies]]\nunit = \"requests\"", 3, "says nothing"),
        ("[tiers.a]\nabout = \"x\"", 3, "limits are missing"),
        ("[tiers.a]\nabout = \"x\"\nlimits = [\"requests=0/1m\"]", 3, "pause"),
        ("extends = \"opena\"", 3, "did you mean openai?"),
        ("extends = \"mine\"", 3, "unknown profile"),
        ("units = [\"x\"", 3, ""),
    ] {
        let error = wrong(rest);
        assert!(error.starts_with(&format!("mine.toml:{line}: ")), "{rest}: {error}");
        assert!(error.contains(hint), "{rest}: {error}");
    }
    assert_eq!(Profiles::read([("x.toml", "about = \"\"")]).expect_err("nameless").problems.len(), 1);
}

/// Goal: profiles that extend each other in a circle are refused, and so are two of one name.
#[test]
fn circles_and_twins() {
    let file = |name: &str, base: &str| format!("name = \"{name}\"\nabout = \"\"\nextends = \"{base}\"\n");
    let (a, b, c) = (file("a", "b"), file("b", "c"), file("c", "a"));
    let texts = [("a.toml", a.as_str()), ("b.toml", b.as_str()), ("c.toml", c.as_str())];
    let error = Profiles::read(texts).expect_err("a circle").to_string();
    assert_eq!(error, "c.toml:3: extends: a circle: a -> b -> c -> a");
    let error = Profiles::read([("1.toml", a.as_str()), ("2.toml", a.as_str())]).expect_err("twins");
    assert!(error.to_string().contains("also the name of the profile in 1.toml"), "{error}");
    // The built-in profiles extend the generic one, also where that is a user's own: its way back is a circle.
    let error = Profiles::read([("g.toml", file("generic", "openai").as_str())]).expect_err("a circle");
    assert!(error.to_string().contains("a circle"), "{error}");
}

/// Goal: windows that follow a clock end with it, also on days with an hour more or less.
#[test]
fn windows_follow_their_clock() {
    let gemini = built_in("gemini");
    let day = gemini.window("requests", Some(Duration::from_secs(86_400))).expect("declared");
    let at = |text: &str| {
        let time: jiff::Timestamp = text.parse().expect(text);
        permitd_budget::Time::from_nanos(u64::try_from(time.as_nanosecond()).expect("after 1970"))
    };
    let hours = |text: &str| day.ends_in(at(text)).map(|left| left.as_secs() / 3_600);
    assert_eq!(hours("2026-01-15T20:00:00Z"), Some(12), "noon in winter");
    assert_eq!(hours("2026-07-15T19:00:00Z"), Some(12), "noon in summer");
    assert_eq!(hours("2026-03-08T08:00:00Z"), Some(23), "a day of 23 hours");
    assert_eq!(hours("2026-11-01T07:00:00Z"), Some(25), "a day of 25 hours");
    let minute = built_in("mistral");
    let minute = minute.window("tokens", Some(Duration::from_secs(60))).expect("declared");
    assert_eq!(minute.ends_in(at("2026-01-15T20:00:59.5Z")), Some(Duration::from_millis(500)));
}
