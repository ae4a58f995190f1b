//! A [`Config`] as the TOML that would make it: what is in force, for people to check.

use std::{fmt, path::PathBuf, time::Duration};

use permitd_budget::{Adapt, BudgetSpec, LimitSpec, Overflow, Window};
use toml::{Table, Value};

use super::{
    AuthConfig, Bounds, BudgetName, ClientCerts, ClusterConfig, Config, DurationText, IdentityConfig,
    MemberSpec, PoolSpec, ServerConfig, TelemetryConfig, TlsConfig,
    auth::priority_name,
    limit_text::{LimitText, parse_limit, time_text},
};
use crate::schedule::ScheduledText;

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut top = table([("server", server(&self.server).into()), ("auth", auth(&self.auth).into())]);
        if let Some(on) = &self.cluster {
            top.insert("cluster".to_owned(), cluster(on).into());
        }
        let budgets: Table =
            self.budgets.iter().map(|(name, spec)| (name.to_string(), budget(spec).into())).collect();
        let providers: Table =
            self.providers.iter().map(|(name, spec)| (name.clone(), budget(spec).into())).collect();
        let pools: Table =
            self.pools.iter().map(|(name, spec)| (name.to_string(), pool(spec).into())).collect();
        for (name, entries) in [("budgets", budgets), ("providers", providers), ("pools", pools)] {
            if !entries.is_empty() {
                top.insert(name.to_owned(), entries.into());
            }
        }
        f.write_str(&toml::to_string(&top).map_err(|_| fmt::Error)?)
    }
}

fn pool(pool: &PoolSpec) -> Table {
    let members = pool.members.iter().map(|member| {
        let MemberSpec { budget, prefer, weight } = member;
        table([
            ("budget", budget.to_string().into()),
            ("prefer", number((*prefer).into())),
            ("weight", number((*weight).into())),
        ])
    });
    table([("members", Value::Array(members.map(Value::Table).collect()))])
}

fn server(server: &ServerConfig) -> Table {
    let http = server.http.map_or("off".to_owned(), |address| address.to_string());
    table([
        ("listen", server.listen.to_string().into()),
        ("data", server.data.to_string().into()),
        ("http", http.into()),
        ("insecure", server.insecure.into()),
        ("workers", number(server.workers as u64)),
        ("grace", span(server.grace)),
        ("drain", span(server.drain)),
        ("share_valid_for", span(server.share_valid_for)),
        (
            "profiles",
            Value::Array(server.profiles.iter().map(|path| path.display().to_string().into()).collect()),
        ),
        (
            "keepalive",
            table([
                ("interval", span(server.keepalive.interval)),
                ("timeout", span(server.keepalive.timeout)),
            ])
            .into(),
        ),
        ("telemetry", telemetry(&server.telemetry).into()),
        ("tls", tls(server.tls.as_ref()).into()),
        ("record", server.record.as_ref().map_or(String::new(), |path| path.display().to_string()).into()),
        ("bounds", bounds(&server.bounds).into()),
    ])
}

fn telemetry(telemetry: &TelemetryConfig) -> Table {
    table([
        ("otlp", telemetry.otlp.clone().unwrap_or_default().into()),
        ("sample_one_in", number(telemetry.sample_one_in.into())),
    ])
}

fn tls(tls: Option<&TlsConfig>) -> Table {
    let path = |path: Option<&PathBuf>| path.map_or("".into(), |path| path.display().to_string().into());
    let client_certs = match tls.map(|tls| tls.client_certs).unwrap_or_default() {
        ClientCerts::Required => "required",
        ClientCerts::Optional => "optional",
    };
    table([
        ("cert", path(tls.map(|tls| &tls.cert))),
        ("key", path(tls.map(|tls| &tls.key))),
        ("client_ca", path(tls.and_then(|tls| tls.client_ca.as_ref()))),
        ("client_certs", client_certs.into()),
    ])
}

fn cluster(cluster: &ClusterConfig) -> Table {
    let text = |text: &Option<String>| text.clone().unwrap_or_default().into();
    let path = |path: &Option<PathBuf>| {
        path.as_ref().map_or(String::new(), |path| path.display().to_string()).into()
    };
    let tls = cluster.etcd.tls.clone().unwrap_or_default();
    table([
        ("etcd", cluster.etcd_url().into()),
        ("prefix", cluster.prefix.clone().into()),
        ("name", text(&cluster.name)),
        ("address", text(&cluster.address)),
        ("advertise", text(&cluster.advertise)),
        ("lease", span(cluster.lease)),
        ("user", text(&cluster.etcd.user)),
        ("password_file", path(&cluster.etcd.password_file)),
        ("peer_ca", path(&cluster.peer_ca)),
        (
            "etcd_tls",
            table([("ca", path(&tls.ca)), ("cert", path(&tls.cert)), ("key", path(&tls.key))]).into(),
        ),
    ])
}

fn auth(auth: &AuthConfig) -> Table {
    let jwt = auth.jwt.clone().unwrap_or_default();
    let jwt = table([
        ("jwks", jwt.jwks.display().to_string().into()),
        ("issuer", jwt.issuer.into()),
        ("audience", jwt.audience.into()),
        ("leeway", span(jwt.leeway)),
    ]);
    let metrics = if auth.metrics_open { "open" } else { "protected" };
    let mut entries = table([("metrics", metrics.into()), ("jwt", jwt.into())]);
    let identities: Table =
        auth.identities.iter().map(|(name, of)| (name.clone(), identity(of).into())).collect();
    if !identities.is_empty() {
        entries.insert("identities".to_owned(), identities.into());
    }
    entries
}

fn identity(identity: &IdentityConfig) -> Table {
    let lists = [
        ("tokens", texts(&identity.tokens)),
        ("certificates", texts(&identity.certificates)),
        ("subjects", texts(&identity.subjects)),
        ("roles", texts(&identity.roles)),
        ("budgets", texts(&identity.budgets)),
        ("tenants", texts(&identity.tenants)),
        ("priorities", identity.priorities.iter().map(|priority| priority_name(*priority).into()).collect()),
    ];
    let given = lists.into_iter().filter(|(_, items)| !items.is_empty());
    given.map(|(name, items)| (name.to_owned(), Value::Array(items))).collect()
}

fn texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<Value> {
    items.into_iter().map(|item| item.to_string().into()).collect()
}

fn bounds(bounds: &Bounds) -> Table {
    table(
        [
            ("connections", bounds.connections),
            ("streams_per_connection", bounds.streams_per_connection),
            ("calls_per_second", bounds.calls_per_second as usize),
            ("items_per_second", bounds.items_per_second as usize),
            ("sessions", bounds.sessions),
            ("waiting_per_session", bounds.waiting_per_session),
            ("acquires_per_message", bounds.acquires_per_message),
            ("cancels_per_message", bounds.cancels_per_message),
            ("message_bytes", bounds.message_bytes),
            ("budgets", bounds.budgets),
            ("watches", bounds.watches),
            ("changes", bounds.changes),
            ("metric_budgets", bounds.metric_budgets),
            ("record_bytes", bounds.record_bytes),
        ]
        .map(|(name, bound)| (name, number(bound as u64))),
    )
}

/// One budget as a configuration by itself.
pub(crate) fn budget_toml(name: &BudgetName, spec: &BudgetSpec) -> String {
    let budgets: Table = [(name.to_string(), budget(spec).into())].into_iter().collect();
    table([("budgets", budgets.into())]).to_string()
}

fn budget(spec: &BudgetSpec) -> Table {
    let mut entries = Table::new();
    entries.insert("limits".to_owned(), Value::Array(spec.limits.iter().map(limit).collect()));
    if let Some(ttl) = spec.permit_ttl {
        entries.insert("permit_ttl".to_owned(), span(ttl));
    }
    if !spec.schedule.is_empty() {
        let lines = texts(spec.schedule.iter().map(|entry| ScheduledText(entry).to_string()));
        entries.insert("schedule".to_owned(), Value::Array(lines));
    }
    if spec.shadow {
        entries.insert("shadow".to_owned(), true.into());
    }
    let mut queue = Table::new();
    if spec.queue.max_waiting != 0 {
        queue.insert("max_waiting".to_owned(), number(spec.queue.max_waiting.into()));
    }
    if let Some(max_wait) = spec.queue.max_wait {
        queue.insert("max_wait".to_owned(), span(max_wait));
    }
    if spec.queue.overflow == Overflow::Reject {
        queue.insert("overflow".to_owned(), "reject".into());
    }
    if !queue.is_empty() {
        entries.insert("queue".to_owned(), queue.into());
    }
    let tenants: Table = spec
        .tenants
        .iter()
        .map(|(name, tenant)| {
            let mut entries = table([("weight", number(tenant.weight.max(1).into()))]);
            if tenant.max_waiting != 0 {
                entries.insert("max_waiting".to_owned(), number(tenant.max_waiting.into()));
            }
            if tenant.max_percent != 0 {
                entries.insert("max_percent".to_owned(), number(tenant.max_percent.into()));
            }
            if tenant.min_percent != 0 {
                entries.insert("min_percent".to_owned(), number(tenant.min_percent.into()));
            }
            (name.clone(), entries.into())
        })
        .collect();
    if !tenants.is_empty() {
        entries.insert("tenants".to_owned(), tenants.into());
    }
    entries
}

/// In one line where that says it all, else as a table.
fn limit(limit: &LimitSpec) -> Value {
    let line = LimitText(limit).to_string();
    if parse_limit(&line).as_ref() == Ok(limit) {
        return line.into();
    }
    let mut entries = table([("unit", limit.unit.clone().into()), ("amount", number(limit.amount))]);
    let mut put = |name: &str, value: Value| drop(entries.insert(name.to_owned(), value));
    if let Some(per) = limit.per {
        put("per", span(per));
    }
    if limit.burst != 0 {
        put("burst", number(limit.burst));
    }
    for (name, glob) in [("models", &limit.models), ("tenants", &limit.tenants)] {
        if !glob.is_empty() {
            put(name, glob.clone().into());
        }
    }
    match limit.window {
        Window::Bucket => {}
        Window::Sliding => put("window", "sliding".into()),
        Window::Fixed { phase } => {
            put("window", "fixed".into());
            if let Some(phase) = phase {
                put("phase", time_text(phase).into());
            }
        }
        Window::Quantised { quantum } => {
            put("window", "quantised".into());
            put("quantum", span(quantum));
        }
    }
    if limit.adapt == Adapt::Latency {
        put("adapt", "latency".into());
    }
    entries.into()
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// TOML's numbers end at 2^63 - 1; larger ones are written as text, which is read as well.
fn number(number: u64) -> Value {
    i64::try_from(number).map_or_else(|_| number.to_string().into(), Value::Integer)
}

fn span(span: Duration) -> Value {
    DurationText(span).to_string().into()
}
