//! From a file and the environment to a [`Config`]. Everything that is wrong is told at once, each with its place.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use config::{Environment, File, FileFormat, Source as _, Value, ValueKind};

use super::{
    Bounds, Config, ConfigError, Keepalive, Problem, ServerConfig, TelemetryConfig,
    auth::{check_auth, read_auth},
    budgets::{read_budgets, read_providers},
    cluster::read_cluster,
    lines::Lines,
    pools::{check_pools, read_pools},
    read::{Found, Notes, Table, duration, flag, number, text, texts},
    tls::read_tls,
};
use crate::profile::Profiles;

/// What the `config` crate calls values from the environment.
const ENVIRONMENT: &str = "the environment";
const PREFIX: &str = "PERMITD";
const DOT: &str = "__";

impl Config {
    /// Reads the file, if there is one, and lays the settings among `environment` (name and value, as of
    /// `std::env::vars()`) over it.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and path.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Self::read("", "the configuration", environment);
        };
        let place = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigError::one(&*place, format!("can't be read: {error}")))?;
        let config = Self::read(&text, &place, environment)?;
        Profiles::load(config.server.profiles.iter().map(PathBuf::as_path))?;
        Ok(config)
    }

    /// As [`Config::load`], from text that stands in the file called `place`.
    ///
    /// # Errors
    /// As there.
    pub fn read(
        text: &str,
        place: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::read_noting(text, place, environment).map(|(config, _)| config)
    }

    /// As [`Config::read`]; also the path of every setting that was asked for, given or not: all that such a file may say.
    ///
    /// # Errors
    /// As there.
    pub fn read_noting(
        text: &str,
        place: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<String>), ConfigError> {
        // Parsed once more by itself, for the lines on which things stand.
        let lines = parse_lines(text, place)?;
        let notes = Notes::default();
        let mut top = Table::new(String::new(), layers(text, place, environment)?, &notes);
        let mut places = BTreeMap::new();
        let config = Config {
            server: read_server(top.table("server")),
            auth: read_auth(top.table("auth")),
            budgets: read_budgets(top.table("budgets")),
            providers: read_providers(top.table("providers")),
            pools: read_pools(top.table("pools"), &mut places),
            cluster: read_cluster(top.table("cluster")),
        };
        top.finish();
        check_auth(&config.auth, config.server.tls.as_ref(), &notes);
        check_pools(&config, &places, &notes);
        let (declared, most) = (config.budgets.len(), config.server.bounds.budgets);
        if declared > most {
            let message = format!("{declared} budgets, but server.bounds.budgets is {most}; raise it");
            notes.problem("budgets".to_owned(), None, message);
        }
        let asked = notes.asked.into_inner();
        told(notes.problems.into_inner(), &lines, place)?;
        Ok((config, asked))
    }
}

/// Reads TOML text that stands in the file called `place` with `read`, which asks for everything that it knows. What it notes,
/// and what it did not ask for, is wrong.
pub(crate) fn read_strictly<T>(
    text: &str,
    place: &str,
    read: impl FnOnce(&mut Table<'_>) -> T,
) -> Result<T, ConfigError> {
    let lines = parse_lines(text, place)?;
    let notes = Notes::default();
    let mut top = Table::new(String::new(), layers(text, place, [])?, &notes);
    let value = read(&mut top);
    top.finish();
    told(notes.problems.into_inner(), &lines, place)?;
    Ok(value)
}

fn parse_lines(text: &str, place: &str) -> Result<Lines, ConfigError> {
    Lines::of(text).map_err(|(line, message)| ConfigError::one(at_line(place, line), message))
}

/// Everything that was noted, each with its place, in the order of the file.
fn told(found: Vec<Found>, lines: &Lines, place: &str) -> Result<(), ConfigError> {
    if found.is_empty() {
        return Ok(());
    }
    let mut problems: Vec<(usize, Problem)> = found
        .into_iter()
        .map(|found| {
            if found.origin.as_deref() == Some(ENVIRONMENT) {
                let variable = format!("{PREFIX}_{}", found.path.replace('.', DOT).to_uppercase());
                return (usize::MAX, found.at(variable));
            }
            let line = lines.of_path(&found.path);
            (line.unwrap_or(0), found.at(line.map_or(place.to_owned(), |line| at_line(place, line))))
        })
        .collect();
    problems.sort_by_key(|(line, _)| *line);
    Err(ConfigError { problems: problems.into_iter().map(|(_, problem)| problem).collect() })
}

fn at_line(place: &str, line: usize) -> String {
    format!("{place}:{line}")
}

/// The file with the environment over it.
fn layers(
    text: &str,
    place: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<HashMap<String, Value>, ConfigError> {
    let prefix = format!("{PREFIX}_");
    let settings: HashMap<String, String> = environment
        .into_iter()
        .filter(|(name, _)| name.strip_prefix(&prefix).is_some_and(|rest| rest.contains(DOT)))
        .collect();
    let environment =
        Environment::with_prefix(PREFIX).prefix_separator("_").separator(DOT).source(Some(settings));
    let layers = config::Config::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .add_source(environment)
        .build()
        .map_err(|error| ConfigError::one(place, error.to_string()))?;
    let layers = layers.collect().map_err(|error| ConfigError::one(place, error.to_string()))?;
    Ok(layers.into_iter().collect())
}

fn read_server(mut table: Table<'_>) -> ServerConfig {
    const HOUR: Duration = Duration::from_secs(3_600);
    let base = ServerConfig::default();
    let workers = table.read("workers", |value| within(number(value)?, 0, 1_024));
    let server = ServerConfig {
        listen: table.read("listen", |value| address(&text(value)?)).unwrap_or(base.listen),
        data: table.read("data", |value| text(value)?.parse()).unwrap_or(base.data),
        http: table.read("http", |value| address_or_off(&text(value)?)).unwrap_or(base.http),
        insecure: table.read("insecure", flag).unwrap_or(base.insecure),
        workers: workers.map_or(base.workers, as_usize),
        grace: spanned(&mut table, "grace", base.grace, Duration::ZERO, HOUR),
        drain: spanned(&mut table, "drain", base.drain, Duration::ZERO, Duration::from_secs(9)),
        share_valid_for: spanned(
            &mut table,
            "share_valid_for",
            base.share_valid_for,
            Duration::from_secs(1),
            24 * HOUR,
        ),
        profiles: table.read("profiles", paths).unwrap_or_default(),
        keepalive: read_keepalive(table.table("keepalive")),
        telemetry: read_telemetry(table.table("telemetry")),
        tls: read_tls(table.table("tls")),
        record: table.read("record", text).filter(|path| !path.is_empty()).map(PathBuf::from),
        bounds: read_bounds(table.table("bounds")),
    };
    table.finish();
    server
}

/// A list of files, or text with commas between them: the environment has nothing but text.
fn paths(value: &Value) -> Result<Vec<PathBuf>, String> {
    let listed = match &value.kind {
        ValueKind::String(text) => {
            text.split(',').map(str::trim).filter(|path| !path.is_empty()).map(str::to_owned).collect()
        }
        _ => texts(value)?,
    };
    Ok(listed.into_iter().map(PathBuf::from).collect())
}

fn read_keepalive(mut table: Table<'_>) -> Keepalive {
    const SECOND: Duration = Duration::from_secs(1);
    let base = Keepalive::default();
    let keepalive = Keepalive {
        interval: spanned(&mut table, "interval", base.interval, SECOND, Duration::from_secs(3_600)),
        timeout: spanned(&mut table, "timeout", base.timeout, SECOND, Duration::from_secs(600)),
    };
    table.finish();
    keepalive
}

/// An empty collector is none, so that the example can show it.
fn read_telemetry(mut table: Table<'_>) -> TelemetryConfig {
    let base = TelemetryConfig::default();
    let one_in = table.read("sample_one_in", |value| within(number(value)?, 0, 1_000_000));
    let telemetry = TelemetryConfig {
        otlp: table.read("otlp", collector).unwrap_or(base.otlp),
        sample_one_in: one_in.map_or(base.sample_one_in, |number| number as u32),
    };
    table.finish();
    telemetry
}

fn collector(value: &Value) -> Result<Option<String>, String> {
    let url = text(value)?;
    if url.is_empty() {
        return Ok(None);
    }
    let parsed = url.parse::<tonic::codegen::http::Uri>();
    let is_url =
        parsed.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    if is_url {
        Ok(Some(url))
    } else {
        Err(format!("{url:?} is no URL; write it like \"http://127.0.0.1:4317\""))
    }
}

fn read_bounds(mut table: Table<'_>) -> Bounds {
    let base = Bounds::default();
    let mut bound = |name: &str, base: usize, least: u64, most: u64| {
        let read = table.read(name, |value| within(number(value)?, least, most));
        read.map_or(base, as_usize)
    };
    let bounds = Bounds {
        connections: bound("connections", base.connections, 1, 1_000_000),
        streams_per_connection: bound("streams_per_connection", base.streams_per_connection, 1, 1_000_000),
        calls_per_second: bound("calls_per_second", base.calls_per_second as usize, 0, 1_000_000) as u32,
        items_per_second: bound("items_per_second", base.items_per_second as usize, 0, 100_000_000) as u32,
        sessions: bound("sessions", base.sessions, 1, 1_000_000),
        waiting_per_session: bound("waiting_per_session", base.waiting_per_session, 1, 4_000_000),
        acquires_per_message: bound("acquires_per_message", base.acquires_per_message, 1, 100_000),
        cancels_per_message: bound("cancels_per_message", base.cancels_per_message, 1, 1_000_000),
        message_bytes: bound("message_bytes", base.message_bytes, 65_536, 64 * 1024 * 1024),
        budgets: bound("budgets", base.budgets, 1, 1_000_000),
        watches: bound("watches", base.watches, 1, 10_000),
        changes: bound("changes", base.changes, 1, 1_000_000),
        metric_budgets: bound("metric_budgets", base.metric_budgets, 0, 10_000),
        record_bytes: bound("record_bytes", base.record_bytes, 1_024, 1 << 40),
    };
    table.finish();
    bounds
}

/// A duration within bounds.
pub(super) fn spanned(
    table: &mut Table<'_>,
    name: &str,
    base: Duration,
    least: Duration,
    most: Duration,
) -> Duration {
    let read = table.read(name, |value| {
        let span = duration(value)?;
        if (least..=most).contains(&span) {
            return Ok(span);
        }
        let [span, least, most] = [span, least, most].map(super::DurationText);
        Err(format!("{span} is outside {least} to {most}"))
    });
    read.unwrap_or(base)
}

fn within(number: u64, least: u64, most: u64) -> Result<u64, String> {
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(format!("{number} is outside {least} to {most}"))
}

/// For numbers that were checked to be small.
fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let example = "write it like \"127.0.0.1:7110\" or \"[::1]:7110\"";
    text.parse().map_err(|_| format!("{text:?} is not an IP address with a port; {example}"))
}

fn address_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    address(text).map(Some).map_err(|problem| format!("{problem}, or \"off\""))
}
