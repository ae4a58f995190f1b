//! Starts the binary and reads what it says.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;

/// Longer than anything here takes, so that a test that waits for ever fails instead.
const PATIENCE: Duration = Duration::from_secs(30);

/// The binary, without settings of whoever runs the tests.
pub(crate) fn permitd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_permitd"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PERMITD_")) {
        command.env_remove(name);
    }
    command
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the binary says text");
        let code = output.status.code().expect("it ended by itself");
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Asserts that it succeeded.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// The JSON on each line of stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON value a line")).collect()
    }
}

/// Runs a command to its end.
pub(crate) fn say(command: &mut Command) -> Said {
    Said::of(command.output().expect("the binary can be run"))
}

/// A file that is gone when the test is.
#[derive(Debug)]
pub(crate) struct TemporaryFile(pub(crate) PathBuf);

impl TemporaryFile {
    pub(crate) fn new(text: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}.toml", std::process::id()));
        fs::write(&path, text).expect("the directory for temporary files can be written");
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("the path is text")
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The certificate of a server on this machine with its key, and in PEM that of the authority that vouches for it.
pub(crate) fn certificate() -> (Certificate, KeyPair, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("random bytes");
    let trusted = authority.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("random bytes");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    (params.signed_by(&key, &issuer).expect("a certificate"), key, trusted)
}

/// A running server; killed with the test.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) announcement: String,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// On ports that the system chooses.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"], &[])
    }

    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        // Unless the test has a place for it.
        let data: &[&str] = if arguments.contains(&"--data") { &[] } else { &["--data", "none"] };
        let mut command = permitd(&["serve"]);
        command
            .args(data)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().expect("the binary can be run");
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut announcement = String::new();
        stdout.read_line(&mut announcement).expect("the server says text");
        if announcement.is_empty() {
            let mut stderr = String::new();
            process.stderr.take().expect("piped").read_to_string(&mut stderr).expect("the server says text");
            panic!("the server did not start: {stderr}");
        }
        Self { process, announcement, _stdout: stdout }
    }

    /// What stands behind `what` in the announcement.
    fn address(&self, what: &str) -> &str {
        let (_, rest) = self.announcement.split_once(what).expect("the announcement says it");
        rest.split_once(',').expect("more follows").0
    }

    pub(crate) fn grpc(&self) -> &str {
        self.address("gRPC at ")
    }

    pub(crate) fn http(&self) -> &str {
        self.address("http at ")
    }

    /// A command that talks to this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = permitd(arguments);
        command.env("PERMITD_SERVER", format!("http://{}", self.grpc()));
        command
    }

    /// Runs a command that talks to this server, to its end.
    pub(crate) fn say(&self, arguments: &[&str]) -> Said {
        say(&mut self.command(arguments))
    }

    /// The state of one budget.
    #[track_caller]
    pub(crate) fn state(&self, budget: &str) -> Value {
        let mut states = self.say(&["budgets", "get", budget, "--json"]).well().json();
        states.pop().expect("one state")
    }

    /// Waits until so many requests wait for the budget.
    #[track_caller]
    pub(crate) fn wait_for_waiting(&self, budget: &str, waiting: u32) {
        let until = Instant::now() + PATIENCE;
        while self.state(budget)["waiting"] != waiting {
            assert!(Instant::now() < until, "{:#}", self.state(budget));
        }
    }

    /// Asks the server's HTTP side.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http()).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a signal to a process of this test's.
pub(crate) fn signal(process: &Child, name: &str) {
    let sent =
        Command::new("kill").args([name, &process.id().to_string()]).status().expect("kill can be run");
    assert!(sent.success());
}
