//! `[auth]`: who may do what. Everything here is about people and services outside; what the rules mean is for `crate::auth` to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use config::{Value, ValueKind};
use permitd_budget::{Glob, Priority, check_name};

use super::{
    TlsConfig,
    limit_text::unknown,
    load::spanned,
    read::{Notes, Table, kind, text},
};
use crate::auth::{Role, TokenHash};

/// Items of one list.
const ITEMS_MAX: usize = 1_000;
/// Identities.
const IDENTITIES_MAX: usize = 10_000;
const PRIORITIES: [(&str, Priority); 3] =
    [("interactive", Priority::Interactive), ("standard", Priority::Standard), ("batch", Priority::Batch)];

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// Whether anybody may read metrics, which tell names of budgets, or only whoever may observe all of them.
    pub metrics_open: bool,
    /// How JWTs are checked; `None` takes none.
    pub jwt: Option<JwtConfig>,
    /// Everybody, by a name of the operator's choice. Empty means that nobody has to prove who they are.
    pub identities: BTreeMap<String, IdentityConfig>,
}

/// How JWTs are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// The file that has the keys, as a JSON Web Key Set; read again when it changes. Without it no JWT is taken.
    pub jwks: PathBuf,
    /// What `iss` has to be.
    pub issuer: String,
    /// What `aud` has to be, or have.
    pub audience: String,
    /// How far the clocks of who issues them and of this server may be apart.
    pub leeway: Duration,
}

/// Who somebody is, and what they may do. Every list of globs that is empty means all, but for `tenants`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityConfig {
    /// Hashes of the tokens that prove it; several while one is replaced.
    pub tokens: Vec<TokenHash>,
    /// Names in client certificates that prove it, as globs.
    pub certificates: Vec<String>,
    /// Subjects of JWTs that prove it, as globs.
    pub subjects: Vec<String>,
    /// What they may do.
    pub roles: BTreeSet<Role>,
    /// The budgets that they may use, as globs over `provider/key`.
    pub budgets: Vec<String>,
    /// The tenants that they may be, as globs; none means the one that is called as they are.
    pub tenants: Vec<String>,
    /// The priorities that they may ask with; none means all.
    pub priorities: Vec<Priority>,
}

impl Default for JwtConfig {
    fn default() -> Self {
        let (jwks, issuer, audience) = (PathBuf::new(), String::new(), String::new());
        Self { jwks, issuer, audience, leeway: Duration::from_secs(30) }
    }
}

impl AuthConfig {
    /// Whether callers have to prove who they are.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.identities.is_empty()
    }
}

/// `[auth]`
pub(super) fn read_auth(mut table: Table<'_>) -> AuthConfig {
    let auth = AuthConfig {
        metrics_open: table.read("metrics", metrics_open).unwrap_or_default(),
        jwt: read_jwt(table.table("jwt")),
        identities: read_identities(table.table("identities")),
    };
    table.finish();
    auth
}

/// `[auth.jwt]`. An empty path is none, so that the example can show it.
fn read_jwt(mut table: Table<'_>) -> Option<JwtConfig> {
    let base = JwtConfig::default();
    let mut read = |name| table.read(name, text).unwrap_or_default();
    let (jwks, issuer, audience) = (read("jwks"), read("issuer"), read("audience"));
    let leeway = spanned(&mut table, "leeway", base.leeway, Duration::ZERO, Duration::from_secs(600));
    for (name, given) in [("issuer", &issuer), ("audience", &audience)] {
        if given.is_empty() && !jwks.is_empty() {
            let problem = "is missing: a JWT for somebody else must not be good here";
            table.notes().problem(table.path_of(name), None, problem.to_owned());
        }
    }
    table.finish();
    (!jwks.is_empty()).then(|| JwtConfig { jwks: jwks.into(), issuer, audience, leeway })
}

/// `[auth.identities.NAME]`
fn read_identities(table: Table<'_>) -> BTreeMap<String, IdentityConfig> {
    let notes = table.notes();
    let mut identities = BTreeMap::new();
    for (path, name, value) in table.entries() {
        let mut table = Table::of(path.clone(), value, notes);
        let identity = IdentityConfig {
            tokens: list(&mut table, "tokens", |item| {
                item.parse::<TokenHash>().map_err(|error| error.to_string())
            }),
            certificates: list(&mut table, "certificates", glob),
            subjects: list(&mut table, "subjects", glob),
            roles: list(&mut table, "roles", role).into_iter().collect(),
            budgets: list(&mut table, "budgets", budget),
            tenants: list(&mut table, "tenants", glob),
            priorities: list(&mut table, "priorities", priority),
        };
        table.finish();
        let problem = check_name("", &name, false).err().map(|error| error.problem);
        let slash = || name.contains('/').then(|| "has a slash; a name has none".to_owned());
        if let Some(problem) = problem.or_else(slash) {
            notes.problem(path, None, format!("the identity's name {problem}"));
        }
        identities.insert(name, identity);
    }
    identities
}

/// What makes no sense together.
pub(super) fn check_auth(auth: &AuthConfig, tls: Option<&TlsConfig>, notes: &Notes) {
    let problem = |path: String, message: String| notes.problem(path, None, message);
    if auth.identities.len() > IDENTITIES_MAX {
        problem(
            "auth.identities".to_owned(),
            format!("{} of them; at most {IDENTITIES_MAX}", auth.identities.len()),
        );
    }
    let mut tokens = BTreeMap::new();
    for (name, identity) in &auth.identities {
        let path = super::read::join("auth.identities", name);
        if identity.tokens.is_empty() && identity.certificates.is_empty() && identity.subjects.is_empty() {
            problem(path.clone(), "nothing proves it: give it tokens, certificates or subjects".to_owned());
        }
        if identity.roles.is_empty() {
            let roles = Role::ALL.map(Role::name).join(", ");
            problem(format!("{path}.roles"), format!("it may do nothing: give it some of {roles}"));
        }
        if !identity.certificates.is_empty() && tls.is_none_or(|tls| tls.client_ca.is_none()) {
            let message = "nobody can show a certificate: set server.tls.client_ca";
            problem(format!("{path}.certificates"), message.to_owned());
        }
        if !identity.subjects.is_empty() && auth.jwt.is_none() {
            problem(format!("{path}.subjects"), "no JWT is taken: set auth.jwt.jwks".to_owned());
        }
        for token in &identity.tokens {
            if let Some(other) = tokens.insert(token.to_string(), name) {
                problem(format!("{path}.tokens"), format!("one of them is that of {other}, too"));
            }
        }
    }
    if auth.jwt.is_some() && !auth.identities.values().any(|identity| !identity.subjects.is_empty()) {
        problem("auth.jwt".to_owned(), "no identity has subjects, so no JWT would prove anything".to_owned());
    }
}

fn metrics_open(value: &Value) -> Result<bool, String> {
    match &*text(value)? {
        "protected" => Ok(false),
        "open" => Ok(true),
        other => Err(unknown("way to serve metrics", other, &["protected", "open"])),
    }
}

/// A list of texts, or text with commas (the environment has nothing but text).
fn list<T>(table: &mut Table<'_>, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
    let path = table.path_of(name);
    let notes = table.notes();
    let Some(value) = table.take(name) else { return Vec::new() };
    let items = match value.kind {
        ValueKind::Array(items) => items,
        ValueKind::String(text) => text.split(',').map(|item| Value::from(item.trim())).collect(),
        other => {
            notes.problem(path, None, format!("{} where a list belongs", kind(&other)));
            return Vec::new();
        }
    };
    if items.is_empty() || items.len() > ITEMS_MAX {
        let message = format!("has {} items; give 1 to {ITEMS_MAX}, or leave it out", items.len());
        notes.problem(path, None, message);
        return Vec::new();
    }
    let read = |(at, item): (usize, Value)| match text(&item).and_then(|item| read(&item)) {
        Ok(item) => Some(item),
        Err(message) => {
            notes.problem(format!("{path}[{at}]"), None, message);
            None
        }
    };
    items.into_iter().enumerate().filter_map(read).collect()
}

fn glob(pattern: &str) -> Result<String, String> {
    check_name("", pattern, false).map_err(|error| error.problem)?;
    Ok(pattern.to_owned())
}

/// As long as two globs over names, and the slash.
fn budget(pattern: &str) -> Result<String, String> {
    let (provider, key) = pattern.split_once('/').unwrap_or((pattern, ""));
    for part in [provider, key] {
        if let Some(problem) = Glob::problem(part) {
            return Err(problem);
        }
    }
    if pattern != "*" && !pattern.contains('/') {
        return Err(format!("{pattern:?} names no key; write it like \"anthropic/prod\" or \"anthropic/*\""));
    }
    Ok(pattern.to_owned())
}

fn role(name: &str) -> Result<Role, String> {
    name.parse().map_err(|_| unknown("role", name, &Role::ALL.map(Role::name)))
}

fn priority(name: &str) -> Result<Priority, String> {
    let known = PRIORITIES.iter().find(|(known, _)| *known == name).map(|(_, priority)| *priority);
    known.ok_or_else(|| unknown("priority", name, &PRIORITIES.map(|(name, _)| name)))
}

/// As it is written.
pub(crate) fn priority_name(priority: Priority) -> &'static str {
    PRIORITIES.iter().find(|(_, known)| *known == priority).map_or("", |(name, _)| name)
}
