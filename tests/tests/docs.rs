//! What the documentation says is what there is: links lead somewhere, commands parse, and the tables of metrics and reasons are
//! complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use permitd_proto::v1::AcquireRequest;
use permitd_tests::{Folder, Permitd, ask, http_get};

/// A budget, one in shadow mode and a pool, so that the metrics of all are served.
const CONFIG: &str = "[budgets.\"p/k\"]\nlimits = [\"in_flight=1\", \"tokens=5/1m\"]\n\
                      [budgets.\"p/tried\"]\nshadow = true\nlimits = [\"tokens=5/1m\"]\n\
                      [pools.\"p/any\"]\nmembers = [\"p/k\"]\n";
/// Wrong usage, in every command.
const WRONG_USAGE: i32 = 2;
/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";
/// What ends the arguments of a command in a shell.
const OPERATORS: [&str; 7] = ["|", ";", "&", "&&", "||", ">", "<"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page that people read.
fn pages() -> Vec<PathBuf> {
    let named = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "client/rust/README.md"];
    let mut pages: Vec<PathBuf> = named.iter().map(|name| root().join(name)).collect();
    for folder in ["docs", "docs/reference"] {
        let entries = fs::read_dir(root().join(folder)).expect("there are docs");
        pages.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| is(path, "md")));
    }
    assert!(pages.len() > named.len(), "no page in docs");
    pages
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// The lines of a page, each with the language of the fenced block in which it stands.
fn lines(text: &str) -> Vec<(Option<&str>, &str)> {
    let mut fence = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) => fence = if fence.is_none() { Some(language) } else { None },
            None => lines.push((fence, line)),
        }
    }
    lines
}

fn prose(text: &str) -> String {
    lines(text).into_iter().filter(|(fence, _)| fence.is_none()).flat_map(|(_, line)| [line, "\n"]).collect()
}

/// What stands between backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Where the links of a page lead.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Goal: every relative link leads to something that exists, and so does every anchor.
#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    let mut links = 0;
    for page in pages() {
        let text = prose(&read(&page));
        for target in targets(&text) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path =
                if path.is_empty() { page.clone() } else { page.parent().expect("a folder").join(path) };
            if !path.exists() || !(anchor.is_empty() || anchors(&path).contains(anchor)) {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(links > 20, "only {links} links were found");
    assert!(broken.is_empty(), "links to nowhere:\n{}", broken.join("\n"));
}

/// Goal: whoever turns the pages of the book comes by every one.
#[test]
fn the_book_has_every_page() {
    let summary = root().join("docs/SUMMARY.md");
    let text = read(&summary);
    let place =
        |page: &Path| page.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let listed: BTreeSet<PathBuf> =
        targets(&text).map(|link| place(&root().join("docs").join(link))).collect();
    for page in pages().iter().filter(|page| **page != summary) {
        assert!(listed.contains(&place(page)), "docs/SUMMARY.md does not list {}", page.display());
    }
}

/// The anchors that a page's headings get.
fn anchors(page: &Path) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for heading in prose(&read(page)).lines().filter(|line| line.starts_with('#')) {
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        let slug: String =
            heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect();
        let slug = slug.replace(' ', "-");
        let twins = (1..).map(|number| format!("{slug}-{number}"));
        let free = [slug.clone()].into_iter().chain(twins).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

/// Goal: files and folders of the repository that a page names exist, above all the tests that hold what it says.
#[test]
fn named_files_exist() {
    const ROOMS: [&str; 8] = ["budget/", "cli/", "client/", "deploy/", "lab/", "proto/", "server/", "tests/"];
    let (mut named, mut gone) = (0, Vec::new());
    for page in pages() {
        let text = prose(&read(&page));
        for path in code_spans(&text).filter(|span| ROOMS.iter().any(|room| span.starts_with(room))) {
            if path.contains(['*', ' ', '{']) {
                continue;
            }
            named += 1;
            if !root().join(path).exists() {
                gone.push(format!("{}: {path}", page.display()));
            }
        }
    }
    assert!(named > 20, "only {named} files are named");
    assert!(gone.is_empty(), "named, but not there:\n{}", gone.join("\n"));
}

/// Goal: every command line that a page shows is one that the binary takes, flags, values and all.
#[tokio::test]
async fn commands_parse() {
    // Starting it builds it.
    Permitd::start(CONFIG).await.stop().await;
    let mut seen = BTreeSet::new();
    for page in pages() {
        for command in shown_commands(&read(&page)) {
            let complaint = complaint(&command);
            assert_eq!(complaint, None, "{} shows: permitd {}", page.display(), command.join(" "));
            seen.extend(command.first().cloned());
        }
    }
    let all = [
        "acquire",
        "batch",
        "budgets",
        "check",
        "cluster",
        "completions",
        "demo",
        "explain",
        "pools",
        "profiles",
        "report",
        "run",
        "serve",
        "simulate",
        "store",
        "token",
        "top",
    ];
    assert_eq!(seen, all.map(str::to_owned).into(), "each command is shown somewhere");
}

/// The arguments of every permitd in the console blocks of a page.
fn shown_commands(text: &str) -> Vec<Vec<String>> {
    let console = lines(text).into_iter().filter(|(fence, _)| *fence == Some("console"));
    let lines: Vec<&str> = console.map(|(_, line)| line).collect();
    let mut commands = Vec::new();
    for line in lines.join("\n").replace("\\\n", " ").lines() {
        let Some(line) = line.strip_prefix("$ ") else { continue };
        let words = words(&line.replace("cargo run --release --", "permitd"));
        let starts = (0..words.len()).filter(|at| words[*at] == "permitd");
        commands.extend(starts.map(|at| {
            let arguments = words[at + 1..].iter();
            arguments.take_while(|word| !OPERATORS.contains(&word.as_str())).cloned().collect::<Vec<_>>()
        }));
    }
    commands
}

/// The words of a shell's line: quotes keep theirs together, operators and comments stand alone.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            (None, '|' | ';' | '&' | '<' | '>') => {
                words.extend(word.take());
                let mut operator = character.to_string();
                operator.extend(characters.next_if_eq(&character));
                words.push(operator);
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    assert_eq!(quote, None, "a quote without end in {line:?}");
    words.extend(word);
    words
}

/// What the binary has against a command line. It is run where that is safe: without a server, every command that wants one
/// ends once its arguments have been read.
fn complaint(arguments: &[String]) -> Option<String> {
    if matches!(arguments[0].as_str(), "serve" | "demo") {
        let help = String::from_utf8(permitd(&[arguments[0].clone(), "--help".to_owned()]).stdout);
        let help = help.expect("text");
        let known: BTreeSet<&str> = help.split([' ', ',', '\n', '=']).collect();
        let unknown = arguments.iter().find(|word| word.starts_with("--") && !known.contains(word.as_str()));
        return unknown.map(|flag| format!("no flag {flag}"));
    }
    let said = permitd(arguments);
    let wrong = said.status.code().is_none_or(|code| code == WRONG_USAGE);
    wrong.then(|| String::from_utf8_lossy(&said.stderr).into_owned())
}

/// Runs the binary in a folder of its own, without a server and without settings of whoever runs the tests.
fn permitd(arguments: &[String]) -> Output {
    let test = env::current_exe().expect("a path");
    let profile = test.ancestors().nth(2).expect("the profile's folder");
    let mut command = Command::new(profile.join(format!("permitd{}", env::consts::EXE_SUFFIX)));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PERMITD_")) {
        command.env_remove(name);
    }
    command.args(arguments).env("PERMITD_SERVER", NOBODY).stdin(Stdio::null()).current_dir(env::temp_dir());
    command.output().expect("it was built")
}

/// Goal: operations.md has exactly the metrics that a server serves, with their types and labels, and asks for no other.
#[tokio::test]
async fn metrics_are_those_served() {
    let folder = Folder::new();
    let data = folder.path("data");
    let server = Permitd::start(&format!("[server]\ndata = \"{}\"\n{CONFIG}", data.display())).await;
    // A reason appears when it first happens.
    server.refused(ask("nobody declared")).await;
    server.refused(AcquireRequest { tokens: 6, ..ask("k") }).await;
    server.refused(AcquireRequest { tokens: 6, ..ask("any") }).await;
    server.granted(AcquireRequest { tokens: 6, ..ask("tried") }).await;
    let served = served_metrics(&http_get(server.http, "/metrics", None).await);
    server.stop().await;
    let text = read(&root().join("docs/operations.md"));
    let mut told = BTreeMap::new();
    for row in rows(&text, "## Metrics").into_iter().filter(|row| row[0].starts_with("`permitd_")) {
        let name = row[0].trim_matches('`').to_owned();
        let labels: BTreeSet<String> = code_spans(&row[2]).map(str::to_owned).collect();
        assert_eq!(told.insert(name, (row[1].clone(), labels)), None, "twice: {}", row[0]);
    }
    assert_eq!(told, served);
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for asked in text.split(|c| !name(c)).filter(|word| word.starts_with("permitd_")) {
        assert!(told.contains_key(asked), "there is no metric {asked}");
    }
}

/// Type and labels by name.
fn served_metrics(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut types = BTreeMap::new();
    let mut metrics = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            types.insert(name, kind);
        } else if line.starts_with("permitd_") {
            let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a value"));
            let family =
                ["_total", "_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let kind = types[family.filter(|family| types.contains_key(family)).unwrap_or(name)].to_owned();
            // No value here has a quote or a comma in it.
            let labels = rest.split(['{', ',']).filter_map(|part| Some(part.split_once("=\"")?.0.to_owned()));
            metrics.insert(name.to_owned(), (kind, labels.collect()));
        }
    }
    metrics
}

/// The cells of the tables under a heading, row by row.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let under = lines(text).into_iter().map(|(_, line)| line).skip_while(|line| *line != heading).skip(1);
    let under = under.take_while(|line| !line.starts_with("## "));
    let rows = under.filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows: Vec<Vec<String>> =
        rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect()).collect();
    assert!(!rows.is_empty(), "no table under {heading:?}");
    rows
}

/// Goal: semantics.md has exactly the reasons that the code has, with their codes, and wire.md says what to do about each.
#[test]
fn reasons_are_those_of_the_code() {
    let code = reasons_of_the_code();
    assert!(code.len() >= 20, "only {} reasons were found", code.len());
    let text = read(&root().join("docs/semantics.md"));
    let told = rows(&text, "## Every reason for a refusal").into_iter();
    let told: BTreeMap<String, String> = told
        .filter(|row| row[0].starts_with('`'))
        .map(|row| (row[0].trim_matches('`').to_owned(), row[1].clone()))
        .collect();
    let names = |of: &BTreeMap<String, String>| of.keys().cloned().collect::<BTreeSet<_>>();
    let known: BTreeSet<String> = code.keys().cloned().collect();
    assert_eq!(names(&told), known);
    for (reason, code) in code.iter().filter_map(|(reason, code)| Some((reason, code.as_ref()?))) {
        assert_eq!(&told[reason], code, "the code of {reason}");
    }
    let text = read(&root().join("docs/wire.md"));
    let advised = rows(&text, "## What to do on each refusal").into_iter();
    let advised: Vec<String> =
        advised.flat_map(|row| code_spans(&row[0]).map(str::to_owned).collect::<Vec<_>>()).collect();
    assert_eq!(advised.iter().cloned().collect::<BTreeSet<_>>(), known);
    assert_eq!(advised.len(), known.len(), "each once");
}

/// Every reason that the code can give, with its gRPC code where that stands beside it.
fn reasons_of_the_code() -> BTreeMap<String, Option<String>> {
    let mut reasons = BTreeMap::new();
    let mut sources = vec![root().join("budget/src/refusal.rs")];
    collect_sources(&root().join("server/src"), &mut sources);
    for source in sources {
        let text = read(&source);
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let parts: Vec<&str> = product.split('"').collect();
        for at in (1..parts.len()).step_by(2) {
            let (before, literal) = (parts[at - 1].trim_end(), parts[at]);
            let upper = |c: char| c.is_ascii_uppercase() || c == '_';
            if literal.len() < 4 || !literal.chars().all(upper) || before.ends_with("env!(") {
                continue;
            }
            if let Some(code) = before.strip_suffix(',').and_then(|call| Some(call.rsplit_once("Code::")?.1))
            {
                reasons.insert(literal.to_owned(), Some(upper_snake(code)));
            } else if before.ends_with("exhausted(") {
                reasons.insert(literal.to_owned(), Some("RESOURCE_EXHAUSTED".to_owned()));
            } else if before.ends_with("=>") || literal.contains('_') {
                reasons.entry(literal.to_owned()).or_default();
            }
        }
    }
    reasons
}

fn collect_sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect_sources(&path, into);
        } else if is(&path, "rs") && !path.ends_with("tests.rs") {
            into.push(path);
        }
    }
}

/// `NotFound` as gRPC writes it: `NOT_FOUND`.
fn upper_snake(camel: &str) -> String {
    let mut snake = String::new();
    for character in camel.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(character.to_ascii_uppercase());
    }
    snake
}
