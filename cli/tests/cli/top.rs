//! `permitd top`, on a real terminal.

use std::{
    fmt::Write as _,
    process::{Child, Stdio},
};

use crate::{
    security::Certificates,
    support::{Server, TemporaryFile, permitd, say},
    terminal::Terminal,
};

const SIZE: (u16, u16) = (120, 26);
pub(crate) const ENTER: &str = "\r";
const ESCAPE: &str = "\x1b";
const DOWN: &str = "\x1b[B";

/// A command that waits for its permit; ended with the test.
pub(crate) struct Waiting(Child);

impl Waiting {
    pub(crate) fn start(server: &Server, arguments: &[&str]) -> Self {
        let mut command = server.command(&[&["acquire"], arguments].concat());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be run"))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn top(server: &Server, arguments: &[&str]) -> Terminal {
    let fast = ["top", "--interval", "100ms"];
    Terminal::start(&[&fast, arguments].concat(), &format!("http://{}", server.grpc()), SIZE)
}

/// The line of the screen that begins with `start`, as its words.
#[track_caller]
fn words(screen: &str, start: &str) -> Vec<String> {
    let line = screen.lines().find(|line| line.starts_with(start));
    let line = line.unwrap_or_else(|| panic!("no line begins with {start}:\n{screen}"));
    line.split_whitespace().map(str::to_owned).collect()
}

/// Goal: those for whom somebody waits come first; one can be found, opened and read, and the terminal is given back.
#[test]
fn shows_budgets_by_pressure() {
    let server = Server::start();
    for name in ["idle/a", "busy/b", "idle/c"] {
        server.say(&["budgets", "set", name, "--limit", "requests=2/1h", "--limit", "in_flight=9"]).well();
    }
    server.say(&["acquire", "busy/b", "--count", "2"]).well();
    let _waiting = Waiting::start(&server, &["busy/b", "--tenant", "web", "--tokens", "5"]);
    server.wait_for_waiting("busy/b", 1);
    let mut top = top(&server, &[]);
    let screen = top.wait_for("3 budgets, 1 waiting, 2 in flight");
    let rows: Vec<&str> = screen.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(rows[..4], ["BUDGET", "busy/b", "idle/a", "idle/c"], "{screen}");
    assert_eq!(words(&screen, "busy/b")[1..6], ["requests/1h", "████████", "100%", "1", "2"], "{screen}");

    top.press("/idle");
    top.wait_until("a filter", |screen| screen.contains("filter: idle") && !screen.contains("busy/b"));
    top.press(ENTER);
    top.press("ssssr");
    top.wait_until("another order", |screen| {
        screen.contains("by name, reversed") && screen.find("idle/c") < screen.find("idle/a")
    });
    top.press(ESCAPE);
    top.wait_for("busy/b");

    // The cursor stays with its budget while the order changes.
    top.press("rs");
    top.wait_for("by pressure");
    top.press("\x1b[H");
    top.press(ENTER);
    let screen =
        top.wait_until("the queue", |screen| screen.contains("WHO WAITS") && screen.contains("holds back"));
    assert_eq!(words(&screen, "requests/1h")[1..5], ["████████████", "100%", "0", "2"], "{screen}");
    let line = words(&screen, "web");
    assert_eq!((&*line[0], &*line[1], &*line[2]), ("web", "standard", "1"), "{screen}");
    assert!(line.contains(&"requests/1h".to_owned()), "{screen}");
    assert!(screen.contains("requests/1h holds back 1 request"), "{screen}");
    top.press(ESCAPE);
    top.wait_for("TIGHTEST LIMIT");
    top.press("?");
    top.wait_for("change the limit under the cursor");
    top.press("x");
    top.wait_until("no help", |screen| !screen.contains("change the limit under the cursor"));
    top.press("q");
    let (code, left) = top.end();
    assert_eq!((code, left.trim()), (0, ""), "nothing is left behind");
}

/// Goal: a budget is paused and resumed by keys, but not by one key alone; the audit trail says from where.
#[test]
fn pauses_and_resumes() {
    let server = Server::start();
    server.say(&["budgets", "set", "p/k", "--limit", "in_flight=1"]).well();
    let mut top = top(&server, &[]);
    top.wait_for("p/k");
    top.press("p");
    top.wait_for("Pause p/k?");
    top.press("n");
    top.wait_until("no question", |screen| !screen.contains("Pause p/k?"));
    assert_eq!(server.state("p/k")["paused"], false);
    top.press("py");
    top.wait_until("it is paused", |screen| {
        screen.contains("p/k is paused") && words(screen, "p/k").last().is_some_and(|word| word == "paused")
    });
    assert_eq!(server.state("p/k")["paused"], true);
    top.press("uy");
    top.wait_for("p/k is resumed");
    assert_eq!(server.state("p/k")["paused"], false);
    let changes = server.say(&["budgets", "changes"]).well().stdout;
    assert!(changes.contains("permitd top"), "{changes}");
}

/// Goal: a limit is changed after a look at what that does, and whoever waits is granted; what makes no sense, and what
/// somebody else has changed meanwhile, is said and changes nothing.
#[test]
fn changes_a_limit() {
    let server = Server::start();
    server.say(&["budgets", "set", "p/k", "--limit", "in_flight=9", "--limit", "requests=1/1h"]).well();
    server.say(&["acquire", "p/k"]).well();
    let _waiting = Waiting::start(&server, &["p/k"]);
    server.wait_for_waiting("p/k", 1);
    let mut top = top(&server, &[]);
    top.wait_for("p/k");
    top.press(ENTER);
    top.wait_for("WHO WAITS");
    top.press(DOWN);
    top.press("c");
    top.wait_for("requests/1h of p/k");
    top.press("many\r");
    top.wait_for("many");
    top.wait_until("a complaint", |screen| screen.contains("\"many\""));
    top.press(&"\x7f".repeat(4));
    top.press("0\r");
    top.wait_for("would never grant");
    top.press("\x7f30\r");
    let preview = top.wait_for("Enter puts it in force");
    assert!(preview.contains("declared  1 -> 30"), "{preview}");
    assert!(preview.contains("waiting   1, 1 of them for this limit"), "{preview}");
    assert_eq!(server.state("p/k")["limits"][1]["amount"], 1, "nothing is changed yet");

    // Somebody else is faster: to an amount that no column has shown yet.
    server.say(&["budgets", "set", "p/k", "--limit", "in_flight=7", "--limit", "requests=1/1h"]).well();
    top.press(ENTER);
    top.wait_for("ETAG_MISMATCH");
    assert_eq!(server.state("p/k")["limits"][1]["amount"], 1);
    top.press(ESCAPE);
    // What is changed is what is seen.
    top.wait_until("what the other one did", |screen| {
        !screen.contains("ETAG_MISMATCH") && words(screen, "in_flight").contains(&"7".to_owned())
    });
    top.press("c");
    top.wait_for("Another amount");
    // What is left is kept in proportion, and nothing is left: the one that waits needs a rate that brings something soon.
    top.press("3600k\r");
    top.wait_for("Enter puts it in force");
    top.press(ENTER);
    top.wait_for("requests/1h of p/k is changed");
    server.wait_for_waiting("p/k", 0);
    assert_eq!(server.state("p/k")["limits"][1]["amount"], 3_600_000);
    assert_eq!(server.state("p/k")["limits"][0]["amount"], 7, "the other limit is as it was");
}

/// Goal: pools are shown with what each member could serve, which is next and why another is passed over; a member is paused and opened from
/// there, and the way back leads there.
#[test]
fn shows_pools() {
    let (server, _held) = pooled();
    let mut top = top(&server, &[]);
    top.wait_for("3 budgets");
    top.press("\t");
    let screen = top.wait_for("1 pool with 3 members, 1 passed over");
    assert!(words(&screen, "claude/any").contains(&"anthropic/a".to_owned()), "{screen}");
    assert!(words(&screen, "claude/any").ends_with(&["passed".to_owned(), "over".to_owned()]), "{screen}");
    assert_eq!(words(&screen, "  ")[..2], ["anthropic/b", "1"], "a pool's name stands once: {screen}");
    assert!(screen.contains("anthropic/a is passed over: All 2 of in_flight are in flight."), "{screen}");
    top.press(DOWN);
    top.wait_for("anthropic/b grants whoever comes next and fits.");
    top.press("py");
    top.wait_for("anthropic/b is paused");
    let screen = top.wait_for("1 pool with 3 members, 2 passed over");
    assert!(screen.contains("An administrator paused it"), "{screen}");
    assert_eq!(server.state("anthropic/b")["paused"], true);
    top.press(DOWN);
    top.wait_for("bedrock/claude grants whoever comes next");
    top.press(ENTER);
    top.wait_for("It is a member of the pool claude/any.");
    top.press(ESCAPE);
    top.wait_for("with 3 members");
    top.press(ESCAPE);
    top.wait_for("TIGHTEST LIMIT     TAKEN           WAITING");
}

/// Goal: what is only tried out says so, as does a limit that the hours made what it is; tenants have what they are guaranteed and may have
/// at most.
#[test]
fn shows_what_is_declared() {
    let server = Server::start();
    let limits = ["--limit", "requests=100/1h", "--schedule", "00:00-24:00 UTC requests=50/1h"];
    let tenants = ["--tenant", "web=3:20%+", "--tenant", "nightly=1:40%", "--shadow", "on"];
    server.say(&[&["budgets", "set", "p/k"], &limits[..], &tenants].concat()).well();
    for tenant in ["web", "nightly"] {
        server.say(&["acquire", "p/k", "--tenant", tenant]).well();
    }
    let mut top = top(&server, &[]);
    let screen = top.wait_for("1 budget, 0 waiting, 2 in flight");
    assert_eq!(words(&screen, "p/k").last().map(String::as_str), Some("shadow"), "{screen}");
    top.press(ENTER);
    let screen = top.wait_for("shadow: grants everything");
    assert!(screen.contains("hours; else 100"), "{screen}");
    let row = |start| words(&screen, start)[..4].join(" ");
    assert_eq!((&*row("web"), &*row("nightly")), ("web 3 20% 0", "nightly 1 40% 0"), "{screen}");
}

/// A server with the pool `claude/any`, whose first member is busy; and the permits of that.
pub(crate) fn pooled() -> (Server, TemporaryFile) {
    let config = TemporaryFile::new(
        "[budgets.\"anthropic/a\"]\nlimits = [\"requests=1000/1h\", \"in_flight=2\"]\n\
         [budgets.\"anthropic/b\"]\nlimits = [\"requests=1000/1h\", \"in_flight=8\"]\n\
         [budgets.\"bedrock/claude\"]\nlimits = [\"requests=300/1h\"]\n\
         [pools.\"claude/any\"]\nmembers = [{ budget = \"anthropic/a\", weight = 3 }, \"anthropic/b\", \
         { budget = \"bedrock/claude\", prefer = 2 }]\n",
    );
    let listen = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config", config.path()];
    let server = Server::start_with(&listen, &[]);
    for _ in 0..3 {
        server.say(&["acquire", "claude/any"]).well();
    }
    (server, config)
}

/// Goal: through TLS and with a token that may only look, everything is seen, and steering is refused with why.
#[test]
fn shows_who_looks() {
    let certificates = Certificates::new();
    let made = say(&mut permitd(&["token", "new", "watcher"])).well();
    let roles = made.stderr.replace("\"acquire\", \"report\"", "\"observe\"");
    assert!(roles.contains("observe"), "{roles}");
    let budget = "[budgets.\"p/k\"]\nlimits = [\"in_flight=1\"]\n";
    let config = TemporaryFile::new(&format!("{}{budget}{roles}", certificates.section()));
    let server = Server::start_with(
        &["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config", config.path()],
        &[],
    );
    let token = TemporaryFile::new(&made.stdout);
    let arguments = ["top", "--tls-ca", certificates.authority.path(), "--token-file", token.path()];
    let mut top = Terminal::start(&arguments, &format!("https://{}", server.grpc()), SIZE);
    top.wait_for("p/k");
    top.press("py");
    top.wait_for("ROLE_MISSING");
    top.press("\x03");
    assert_eq!(top.end().0, 0);
}

/// Goal: while no server answers, that is said instead of what was; when one is back, everything is there again.
#[test]
fn goes_on_when_the_server_is_back() {
    let config = TemporaryFile::new("[budgets.\"p/k\"]\nlimits = [\"in_flight=1\"]\n");
    let listen = |grpc: &str| {
        Server::start_with(&["--listen", grpc, "--http", "127.0.0.1:0", "--config", config.path()], &[])
    };
    let first = listen("127.0.0.1:0");
    let address = first.grpc().to_owned();
    let top = top(&first, &[]);
    top.wait_for("1 budget,");
    drop(first);
    top.wait_for("NOT CONNECTED");
    let _second = listen(&address);
    top.wait_until("all again", |screen| screen.contains("1 budget,") && screen.contains("p/k"));
}

/// Goal: what can't be drawn is said at once: no terminal, no server.
#[test]
fn says_what_is_missing() {
    let said = say(&mut permitd(&["top"]));
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.stderr.contains("permitd budgets watch"), "{said:#?}");
    let top = Terminal::start(&["top"], "http://127.0.0.1:1", SIZE);
    top.wait_for("no permitd server answers at http://127.0.0.1:1");
    assert_eq!(top.end().0, 69);
}

/// Goal: ten thousand budgets, and a thousand pools of sixteen of them, are found, sorted and scrolled like three. How long drawing took is
/// printed.
#[test]
fn shows_ten_thousand_budgets() {
    let mut config = String::new();
    for number in 0..10_000 {
        writeln!(config, "[budgets.\"p/{number:05}\"]\nlimits = [\"requests=60/1m\", \"in_flight=4\"]")
            .expect("text");
    }
    for pool in 0..1_000 {
        let members: Vec<_> =
            (0..16).map(|member| format!("\"p/{:05}\"", (16 * pool + member) % 10_000)).collect();
        writeln!(config, "[pools.\"pool/{pool:03}\"]\nmembers = [{}]", members.join(", ")).expect("text");
    }
    let config = TemporaryFile::new(&config);
    let server = Server::start_with(
        &["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config", config.path()],
        &[],
    );
    let mut top = top(&server, &["--timing"]);
    top.wait_for("10,000 budgets");
    top.press("\t");
    top.wait_for("1,000 pools with 16,000 members");
    top.press("\x1b[F");
    top.wait_for("pool/999");
    for _ in 0..100 {
        top.press("\x1b[A");
    }
    top.press("\t");
    top.wait_for("10,000 budgets");
    top.press("\x1b[F");
    top.wait_for("p/09999");
    for _ in 0..100 {
        top.press("r\x1b[A");
    }
    top.press("/77");
    top.wait_until("only some", |screen| {
        let mut budgets = screen.lines().filter(|line| line.starts_with("p/"));
        budgets.next().is_some() && budgets.all(|line| line[..7].contains("77"))
    });
    top.press(ESCAPE);
    top.wait_for("p/09976");
    top.press("q");
    top.wait_for("drawn ");
    let (code, said) = top.end();
    assert_eq!(code, 0);
    println!("{}", said.trim());
}
