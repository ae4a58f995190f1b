//! `docs/reference/configuration.md`: names, texts and kinds from the types that a configuration is read into, ranges, choices and
//! defaults from the parser. Where the two do not fit together, there is no page.

use std::collections::BTreeSet;

use permitd_budget::{DEFAULT_MAX_WAITING, DEFAULT_PERMIT_TTL, bounds};
use permitd_server::config::DurationText;
use toml::Value;

use crate::{
    COMMAND,
    markdown::{grouped, prose},
    parser,
    types::{Field, Named, Types, function_of, head_of},
};

const SOURCES: [&str; 8] = [
    "server/src/config/mod.rs",
    "server/src/config/auth.rs",
    "server/src/config/cluster.rs",
    "server/src/config/pools.rs",
    "server/src/auth/role.rs",
    "budget/src/spec.rs",
    "budget/src/request.rs",
    "budget/src/schedule.rs",
];
/// Tables of the file: as they are written, their paths, and the types that they are read into.
const SECTIONS: [(&str, &str, &str); 17] = [
    ("[server]", "server", "ServerConfig"),
    ("[server.keepalive]", "server.keepalive", "Keepalive"),
    ("[server.telemetry]", "server.telemetry", "TelemetryConfig"),
    ("[server.tls]", "server.tls", "TlsConfig"),
    ("[server.bounds]", "server.bounds", "Bounds"),
    ("[auth]", "auth", "AuthConfig"),
    ("[auth.jwt]", "auth.jwt", "JwtConfig"),
    ("[auth.identities.NAME]", "auth.identities.NAME", "IdentityConfig"),
    ("[budgets.\"PROVIDER/KEY\"]", "budgets.NAME", "BudgetSpec"),
    ("[[budgets.\"PROVIDER/KEY\".limits]]", "budgets.NAME.limits[0]", "LimitSpec"),
    ("[budgets.\"PROVIDER/KEY\".queue]", "budgets.NAME.queue", "QueueSpec"),
    ("[budgets.\"PROVIDER/KEY\".tenants.TENANT]", "budgets.NAME.tenants.NAME", "TenantSpec"),
    ("[pools.\"PROVIDER/KEY\"]", "pools.POOL", "PoolSpec"),
    ("[[pools.\"PROVIDER/KEY\".members]]", "pools.POOL.members[0]", "MemberSpec"),
    ("[cluster]", "cluster", "ClusterConfig"),
    ("[cluster.etcd_tls]", "cluster.etcd_tls", "EtcdTlsConfig"),
    ("[providers.PROVIDER]", "providers.NAME", "Config"),
];
/// What has a table for each budget is the same for the budgets of providers.
const LIKE_BUDGETS: (&str, &str) = ("providers", "budgets");
/// What is set by variables, too: they have no way to write a budget's name.
const IN_ENVIRONMENT: [&str; 3] = ["server", "auth", "cluster"];

/// How a field is written that is not written as it is called.
enum Written {
    /// By another name.
    As(&'static str),
    /// As one text.
    AsText(&'static str),
    /// By the fields of its type, in the same table.
    Inline(&'static str),
    /// Not in the file.
    Not,
}

fn written(of: &str, field: &str) -> Option<Written> {
    Some(match (of, field) {
        ("AuthConfig", "metrics_open") => Written::AsText("metrics"),
        ("ClusterConfig", "etcd") => Written::Inline("EtcdConfig"),
        ("EtcdConfig", "endpoints") => Written::AsText("etcd"),
        ("EtcdConfig", "tls") => Written::As("etcd_tls"),
        // A profile says that.
        ("BudgetSpec", "counting") => Written::Not,
        _ => return None,
    })
}

/// What links in the sources lead to, in words.
fn linked() -> Vec<(&'static str, String)> {
    let number = |number: usize| grouped(&number.to_string());
    vec![
        ("[`bounds::LIMITS`]", number(bounds::LIMITS)),
        ("[`Adapt::Latency`]", "`latency`".to_owned()),
        ("[`DEFAULT_MAX_WAITING`]", number(DEFAULT_MAX_WAITING as usize)),
        ("[`DEFAULT_PERMIT_TTL`]", DurationText(DEFAULT_PERMIT_TTL).to_string()),
        ("[`Role::Observe`]", "`observe`".to_owned()),
        ("[`Window::Bucket`]", "`bucket`".to_owned()),
        ("[`Window::Sliding`]", "`sliding`".to_owned()),
        ("`None`", "none".to_owned()),
    ]
}

/// The whole page.
pub(crate) fn page() -> String {
    let types = Types::of(&SOURCES);
    let mut reference = Reference { types: &types, settings: BTreeSet::new(), page: String::new() };
    for (head, path, of) in SECTIONS {
        reference.section(head, path, of);
    }
    reference.assert_complete();
    let how = |what: &str, text: String| format!("### {what}\n\n{text}\n\n");
    let how = [
        how("Durations", head_of("server/src/config/duration.rs")),
        how("Amounts", function_of("server/src/config/limit_text.rs", "parse_amount")),
        how("Limits", head_of("server/src/config/limit_text.rs")),
        how("Schedules", head_of("server/src/schedule/hours.rs")),
        how("Names of budgets", head_of("server/src/config/name.rs")),
    ];
    format!(
        "<!-- Written by `{COMMAND}` from the types in server/src/config. Change those. -->\n\n\
         # Configuration reference\n\n\
         Every setting of `permitd.toml`, as the types have it that the file is read into; kinds, ranges and defaults are the parser's.\n\
         Nothing has to be set. [permitd.example.toml](../../permitd.example.toml) is a file to start from, and\n\
         [Running a server](../operations.md#configuration) tells how file, environment and flags go over each other, and what is\n\
         followed while the server runs.\n\n\
         A text or path that is *none* is left out, or `\"\"`. Variables of the environment take lists with commas between the items.\n\n\
         ## How things are written\n\n{}{}",
        how.concat(),
        reference.page.trim_start()
    )
}

struct Reference<'a> {
    types: &'a Types,
    /// Every path that is told of.
    settings: BTreeSet<String>,
    page: String,
}

/// What a setting is.
struct Kind {
    /// In words.
    word: String,
    /// A value of that kind, whether it makes sense or not.
    sample: Value,
    /// Some that may be too large, the largest first.
    too_much: Vec<Value>,
    /// What it is where nobody says.
    nothing: String,
}

impl Reference<'_> {
    fn section(&mut self, head: &str, path: &str, of: &str) {
        self.page += &format!("\n## `{head}`\n");
        if path == format!("{}.NAME", LIKE_BUDGETS.0) {
            let fields = &self.types.struct_of(of).fields;
            let field = fields.iter().find(|field| field.name == LIKE_BUDGETS.0).expect("it is a field");
            self.page += &format!("\n{}\n\nIt has the settings of a budget.\n", told(&field.about));
            return;
        }
        self.page += &format!("\n{}\n", told(&self.types.struct_of(of).about));
        self.fields(path, of);
    }

    fn fields(&mut self, path: &str, of: &str) {
        for field in &self.types.struct_of(of).fields {
            let types = self.types;
            let kind = || kind(types, &field.of);
            match written(of, &field.name) {
                None => self.field(path, &field.name, field, kind),
                Some(Written::As(name)) => self.field(path, name, field, kind),
                Some(Written::AsText(name)) => self.field(path, name, field, || plain("text", "?")),
                Some(Written::Inline(inner)) => self.fields(path, inner),
                Some(Written::Not) => {}
            }
        }
    }

    fn field(&mut self, table: &str, name: &str, field: &Field, kind: impl FnOnce() -> Kind) {
        let path = format!("{table}.{name}");
        self.settings.insert(path.clone());
        if SECTIONS.iter().any(|(_, section, _)| *section == path || *section == format!("{path}.NAME")) {
            return;
        }
        let kind = kind();
        for problem in parser::against(&path, kind.sample.clone()) {
            assert!(!problem.contains(" belongs"), "{path}: a {} is refused: {problem}", kind.word);
        }
        let choices = choices(&path);
        let mut facts = vec![if choices.is_empty() { kind.word.clone() } else { some_of(&choices, &kind) }];
        facts.extend(range(&path, &kind));
        facts.push(match (parser::is_needed(&path), parser::default_of(&path)) {
            (true, _) => "needed".to_owned(),
            (false, Some(value)) => format!("default {}", shown(&value)),
            (false, None) => format!("default {}", kind.nothing),
        });
        if IN_ENVIRONMENT.iter().any(|top| path.starts_with(top)) {
            facts.push(format!("`{}`", parser::variable(&path).expect("the parser takes it")));
        }
        let heading = path.replace(".NAME", ".*").replace(".POOL", ".*").replace("[0]", ".*");
        self.page +=
            &format!("\n### {}\n\n{}\n\n- {}\n", prose(&heading), told(&field.about), facts.join("\n- "));
        self.variants(table, &field.of, &choices);
    }

    /// What each choice means, and the settings that go with some of them.
    fn variants(&mut self, table: &str, of: &Named, choices: &[String]) {
        let Some(variants) = self.types.variants(&innermost(of).name) else { return };
        self.page += "\n| | |\n|---|---|\n";
        for choice in choices {
            let variant = variants.iter().find(|variant| variant.name == *choice);
            let variant = variant.unwrap_or_else(|| panic!("{}: no variant for {choice:?}", of.name));
            self.page += &format!("| `{choice}` | {} |\n", told(&variant.about));
        }
        let types = self.types;
        for field in variants.iter().flat_map(|variant| &variant.fields) {
            self.field(table, &field.name, field, || kind(types, &field.of));
        }
    }

    /// What the parser asks for is what is told of.
    fn assert_complete(&mut self) {
        let mut asked = parser::settings();
        let (other, same) = LIKE_BUDGETS;
        let twins: BTreeSet<String> = asked
            .iter()
            .filter_map(|path| Some(format!("{same}.{}", path.strip_prefix(other)?.strip_prefix('.')?)))
            .collect();
        asked.retain(|path| !path.starts_with(other));
        let ours = asked.iter().filter(|path| path.starts_with("budgets.")).cloned().collect();
        assert_eq!(twins, ours, "what a provider may declare is what a budget may");
        let tops = self.types.struct_of("Config").fields.iter().map(|field| field.name.clone());
        let mut told: BTreeSet<String> = tops.filter(|name| name != other).collect();
        told.append(&mut self.settings);
        let missing: Vec<_> = asked.difference(&told).collect();
        let unknown: Vec<_> = told.difference(&asked).collect();
        assert!(missing.is_empty(), "the parser takes what no field of a type is for: {missing:?}");
        assert!(unknown.is_empty(), "fields that the parser has no setting for, by these names: {unknown:?}");
    }
}

fn innermost(of: &Named) -> &Named {
    of.inner.last().map_or(of, innermost)
}

fn plain(word: &str, sample: &str) -> Kind {
    Kind { word: word.to_owned(), sample: sample.into(), too_much: Vec::new(), nothing: "none".to_owned() }
}

/// Types have to be known here, or there are no words for them.
fn kind(types: &Types, of: &Named) -> Kind {
    let number = || Kind {
        too_much: vec![i64::MAX.into(), i64::from(u32::MAX).into()],
        sample: 1.into(),
        nothing: "`0`".to_owned(),
        ..plain("[whole number](#amounts)", "")
    };
    match &*of.name {
        "Option" => Kind { nothing: "none".to_owned(), ..kind(types, &of.inner[0]) },
        "Vec" | "BTreeSet" => list(types, &of.inner[0].name),
        "bool" => {
            Kind { sample: true.into(), nothing: "`false`".to_owned(), ..plain("`true` or `false`", "") }
        }
        "u32" | "u64" | "usize" => number(),
        "Duration" => Kind { too_much: vec!["1000000h".into()], ..plain("[duration](#durations)", "1s") },
        "String" => plain("text", "?"),
        "PathBuf" => plain("path", "?"),
        "BudgetName" => plain("[name](#names-of-budgets)", "?"),
        "Data" => plain("path of a folder, or `\"none\"`", "?"),
        "SocketAddr" => plain("address and port", "127.0.0.1:1"),
        "Time" => plain("time", "2026-01-01T00:00:00Z"),
        other => {
            let variants = types.variants(other).unwrap_or_else(|| panic!("no words for the type {other}"));
            let default = variants.iter().find(|variant| variant.is_default);
            let nothing = default.map_or("none".to_owned(), |variant| format!("`\"{}\"`", variant.name));
            Kind { nothing, ..plain("text", "?") }
        }
    }
}

fn list(types: &Types, of: &str) -> Kind {
    let (word, item) = match of {
        "LimitSpec" => ("list of [limits](#limits), as lines or as tables", "requests=1/1m"),
        "MemberSpec" => ("list of budgets, as [names](#names-of-budgets) or as tables", "NAME"),
        "Scheduled" => ("list of [lines](#schedules)", "?"),
        "String" => ("list of texts", "?"),
        "PathBuf" => ("list of paths", "?"),
        "TokenHash" => ("list of hashes of tokens", "?"),
        other if types.variants(other).is_some() => ("list of words", "?"),
        other => panic!("no words for a list of {other}"),
    };
    Kind { sample: vec![item].into(), ..plain(word, "") }
}
/// The words that the parser knows there, where it knows but some.
fn choices(path: &str) -> Vec<String> {
    let mut told = parser::against(path, "?");
    told.extend(parser::against(path, vec!["?"]));
    let known = told.iter().find_map(|message| Some(message.split_once("; known: ")?.1));
    known.map_or(Vec::new(), |known| known.split(", ").map(str::to_owned).collect())
}

fn some_of(choices: &[String], kind: &Kind) -> String {
    let choices: Vec<String> = choices.iter().map(|choice| format!("`\"{choice}\"`")).collect();
    let many = if kind.sample.is_array() { "list of" } else { "one of" };
    format!("{many} {}", choices.join(", "))
}

/// What the parser says to a value that is too large.
fn range(path: &str, kind: &Kind) -> Option<String> {
    let told = kind.too_much.iter().flat_map(|value| parser::against(path, value.clone()));
    let mut ranges = told.filter_map(|told| match told.split_once(" is outside ") {
        Some((_, range)) => Some(range.split(',').next()?.to_owned()),
        None => Some(format!("at most {}", told.split_once("at most ")?.1.split([',', ';']).next()?)),
    });
    // What a whole number can hold is no range.
    let range = ranges.find(|range| !range.ends_with(&u32::MAX.to_string()))?;
    let digits = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let words = range.split(' ').map(|word| if digits(word) { grouped(word) } else { word.to_owned() });
    Some(words.collect::<Vec<_>>().join(" "))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Integer(number) => format!("`{}`", grouped(&number.to_string()).replace(',', "_")),
        other => format!("`{other}`"),
    }
}

/// What the sources say, for people who do not read them.
fn told(text: &str) -> String {
    let mut text = text.to_owned();
    for (link, words) in linked() {
        text = text.replace(link, &words);
    }
    assert!(!text.contains("[`"), "no words for a link in {text:?}");
    prose(&text)
}
