//! A case: what is around a client, what it is told, and what has to be seen. Read from `cases/*.toml`, and checked before anything runs.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{fake::Manner, provider::Reply};

/// Fields of a JSON object.
pub(crate) type Fields = Map<String, Value>;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// What a user would miss if it did not hold.
    pub(crate) why: String,
    pub(crate) around: Around,
    pub(crate) steps: Vec<Step>,
}

/// What is there before the first step.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Around {
    /// Limits of each budget, as in the server's configuration.
    pub(crate) budgets: BTreeMap<String, Vec<String>>,
    /// More of the server's configuration.
    pub(crate) config: String,
    /// How many servers there are, each by itself: `{server}`, `{server2}`.
    pub(crate) servers: Option<usize>,
    /// Whether the servers' state outlasts their processes.
    pub(crate) keeps: bool,
    /// Whether the servers speak TLS, by an authority whose certificate is `{folder}/ca.pem`.
    pub(crate) tls: bool,
    /// Whether the servers want to know who calls, by JWTs.
    pub(crate) jwt: bool,
    /// Whether there is a proxy before the first server, `{proxy}`.
    pub(crate) proxy: bool,
    /// Something else than a permitd server, `{fake}`.
    pub(crate) fake: Option<Manner>,
    /// What a provider answers, call by call, the last for ever: `{provider}`.
    pub(crate) provider: Vec<Reply>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// A command for the driver.
    Do(Fields),
    /// The next event of that id, which has to be this one.
    See { event: String, id: Option<String>, fields: Fields },
    /// Asks the budget `p/k` for permits, one after another, until this event is the answer.
    Again { event: String, fields: Fields },
    /// Events of that name come in this order.
    Order { event: String, ids: Vec<String> },
    /// What is known of somebody around the client, now or soon.
    Facts { of: String, fields: Fields, soon: bool },
    /// Something happens to a server.
    Server { act: ServerAct, number: usize },
    /// Something happens to the connections.
    Proxy(ProxyAct),
    /// An administrator acts on a budget.
    Admin { act: AdminAct, budget: String },
    /// Another client takes a permit at once, or settles it.
    Rival { act: RivalAct, id: String, request: Fields },
    /// A file `{folder}/NAME` gets a token that is good for so long.
    Token { name: String, seconds: f64 },
}

/// What happens to a server.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServerAct {
    /// SIGKILL.
    Kill,
    /// SIGTERM: it drains.
    Terminate,
    /// The end after that.
    Gone,
    /// Again, on the same port.
    Start,
}

/// What happens to the connections.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProxyAct {
    /// All are reset.
    Cut,
    /// All are reset, and new ones too.
    Close,
    /// New ones are served again.
    Open,
    /// Bytes are held back.
    Stall,
    /// Bytes flow again.
    Flow,
    /// All lose the server, and the client is not told.
    Orphan,
}

/// What an administrator does.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AdminAct {
    Pause,
    Resume,
    Delete,
}

/// What another client does.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RivalAct {
    Take,
    Settle,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<toml::Table>,
}

/// All cases of a folder, in the order of its files' names.
///
/// # Errors
/// Which case of which file makes no sense, and why.
pub(crate) fn load(folder: &Path) -> Result<Vec<Case>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file: File = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        for table in file.case {
            let name = table.get("name").and_then(toml::Value::as_str).unwrap_or("a case without a name");
            let place = format!("{}, {name}", path.display());
            let case = Case::read(table).map_err(|problem| format!("{place}: {problem}"))?;
            if cases.iter().any(|known| known.name == case.name) {
                return Err(format!("{place}: there is another case of that name"));
            }
            cases.push(case);
        }
    }
    if cases.is_empty() { Err(format!("{}: no cases", folder.display())) } else { Ok(cases) }
}

impl Case {
    fn read(mut table: toml::Table) -> Result<Self, String> {
        let name = text(&mut table, "name")?;
        let why = text(&mut table, "why")?;
        let steps = match table.remove("steps") {
            Some(toml::Value::Array(steps)) if !steps.is_empty() => steps,
            _ => return Err("steps: give at least one".to_owned()),
        };
        let around = table.try_into::<Around>().map_err(|error| error.to_string())?;
        let steps = steps
            .into_iter()
            .enumerate()
            .map(|(at, step)| Step::read(step).map_err(|problem| format!("step {}: {problem}", at + 1)));
        Ok(Self { name, why, around, steps: steps.collect::<Result<_, _>>()? })
    }

    /// Whether a server starts again, and so needs a port that nobody else gets meanwhile.
    pub(crate) fn restarts(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Server { act: ServerAct::Start, .. }))
    }

    /// Whether the case closes the client by itself.
    pub(crate) fn closes(&self) -> bool {
        let is_close = |command: &Fields| command.get("op").and_then(Value::as_str) == Some("close");
        self.steps.iter().any(|step| matches!(step, Step::Do(command) if is_close(command)))
    }
}

impl Step {
    fn read(step: toml::Value) -> Result<Self, String> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(step) else {
            return Err("is no table".to_owned());
        };
        let verbs =
            ["do", "see", "again", "order", "until", "holds", "server", "proxy", "admin", "rival", "issue"];
        let mut given = verbs.iter().filter(|verb| fields.contains_key(**verb));
        let (Some(&verb), None) = (given.next(), given.next()) else {
            return Err(format!("give one of {}", verbs.join(", ")));
        };
        let Some(Value::String(what)) = fields.remove(verb) else {
            return Err(format!("{verb}: is no text"));
        };
        Ok(match verb {
            "do" => Self::Do(Self::command(&what, fields)),
            "see" => {
                let id = fields.remove("id").and_then(|id| id.as_str().map(str::to_owned));
                Self::See { event: what, id, fields }
            }
            "again" => Self::Again { event: what, fields },
            "order" => Self::Order { event: what, ids: take(&mut fields, "ids")? },
            "until" => Self::Facts { of: what, fields, soon: true },
            "holds" => Self::Facts { of: what, fields, soon: false },
            "server" => {
                let number = fields.remove("number").and_then(|number| number.as_u64()).unwrap_or(1);
                let number = usize::try_from(number).map_err(|error| error.to_string())?;
                nothing_else(Self::Server { act: act(verb, what)?, number }, &fields)?
            }
            "proxy" => nothing_else(Self::Proxy(act(verb, what)?), &fields)?,
            "admin" => {
                let budget = take(&mut fields, "budget")?;
                nothing_else(Self::Admin { act: act(verb, what)?, budget }, &fields)?
            }
            "rival" => Self::Rival { act: act(verb, what)?, id: take(&mut fields, "id")?, request: fields },
            "issue" => {
                let seconds = take(&mut fields, "seconds")?;
                nothing_else(Self::Token { name: what, seconds }, &fields)?
            }
            _ => unreachable!("one of the verbs above"),
        })
    }

    /// Whoever asks for permits asks the budget `p/k`, unless the case says another.
    pub(crate) fn command(op: &str, mut fields: Fields) -> Fields {
        if matches!(op, "acquire" | "several" | "call" | "many" | "http") {
            fields.entry("provider").or_insert("p".into());
            fields.entry("key").or_insert("k".into());
        }
        fields.insert("op".to_owned(), op.into());
        fields
    }
}

fn text(table: &mut toml::Table, name: &str) -> Result<String, String> {
    match table.remove(name) {
        Some(toml::Value::String(text)) if !text.trim().is_empty() => Ok(text),
        _ => Err(format!("{name}: is missing")),
    }
}

fn take<T: serde::de::DeserializeOwned>(fields: &mut Fields, name: &str) -> Result<T, String> {
    let value = fields.remove(name).ok_or_else(|| format!("{name}: is missing"))?;
    serde_json::from_value(value).map_err(|error| format!("{name}: {error}"))
}

fn act<T: serde::de::DeserializeOwned>(verb: &str, what: String) -> Result<T, String> {
    serde_json::from_value(Value::String(what)).map_err(|error| format!("{verb}: {error}"))
}

fn nothing_else(step: Step, rest: &Fields) -> Result<Step, String> {
    match rest.keys().next() {
        None => Ok(step),
        Some(name) => Err(format!("{name}: nobody knows what that means here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Result<Step, String> {
        let table: toml::Table = toml::from_str(&format!("step = {text}")).expect("TOML");
        Step::read(table["step"].clone())
    }

    /// Goal: a slip in a case is found before it runs, and named.
    #[test]
    fn slips_are_named() {
        for (text, named) in [
            (r#"{ doo = "connect" }"#, "give one of"),
            (r#"{ do = "connect", see = "connected" }"#, "give one of"),
            (r#"{ server = "explode" }"#, "server: unknown variant"),
            (r#"{ proxy = "cut", twice = true }"#, "twice: "),
            (r#"{ rival = "take" }"#, "id: is missing"),
        ] {
            let problem = step(text).expect_err(text);
            assert!(problem.starts_with(named), "{text}: {problem}");
        }
    }

    /// Goal: every case of the suite can be read.
    #[test]
    fn the_cases_are_sound() {
        let cases = load(&crate::root().join("client/conformance/cases")).expect("sound cases");
        assert!(cases.iter().all(|case| case.why.ends_with('.')), "why, in a sentence");
    }
}
