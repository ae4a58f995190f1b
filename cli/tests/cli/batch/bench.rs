//! A folder with a batch's files, and the binary run in it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Said, permitd, say};

/// Longer than anything here takes, so that a test that waits for ever fails instead.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// A folder that is gone when the test is.
#[derive(Debug)]
pub(super) struct Bench {
    folder: PathBuf,
    url: String,
}

impl Bench {
    /// For a provider at this URL.
    pub(super) fn new(url: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = format!("batch-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir(&folder).expect("the directory for temporary files can be written");
        Self { folder, url: url.to_owned() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the folder can be written");
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Writes requests whose prompts are their custom_ids.
    pub(super) fn requests<'a>(&self, ids: impl IntoIterator<Item = &'a str>) {
        let lines: Vec<String> = ids.into_iter().map(request).collect();
        self.write("requests.jsonl", &lines.join(""));
    }

    /// A run in this folder.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        self.command_for("p/k", arguments)
    }

    /// A run in this folder, with permits of this budget.
    pub(super) fn command_for(&self, budget: &str, arguments: &[&str]) -> Command {
        let files = ["batch", "requests.jsonl", "--out", "results.jsonl", "--base-url", &self.url];
        let mut command = permitd(&[&files[..], &["--budget", budget], arguments].concat());
        command.current_dir(&self.folder);
        command
    }

    /// A run in this folder without a server, whose input is stdin.
    pub(super) fn stdin_command(&self) -> Command {
        let mut command = permitd(&["batch", "-", "--out", "results.jsonl", "--base-url", &self.url]);
        command.args(["--budget", "p/k", "--local"]).current_dir(&self.folder);
        command
    }

    /// A run without a server, to its end.
    pub(super) fn say(&self, arguments: &[&str]) -> Said {
        say(&mut self.command(&[&["--local"], arguments].concat()))
    }

    /// A run without a server, on its way.
    pub(super) fn start(&self, arguments: &[&str]) -> Started {
        Started::new(&mut self.command(&[&["--local"], arguments].concat()))
    }

    /// A run with permits of this server, on its way.
    pub(super) fn start_at(&self, server: &str) -> Started {
        Started::new(&mut self.command(&["--server", server]))
    }

    /// The lines of a file by their custom_ids. Each stands there once.
    #[track_caller]
    pub(super) fn lines(&self, name: &str) -> BTreeMap<String, Value> {
        let mut lines = BTreeMap::new();
        for line in self.read(name).lines() {
            let line: Value = serde_json::from_str(line).expect("each line is JSON");
            let id = line["custom_id"].as_str().unwrap_or("(none)").to_owned();
            assert!(lines.insert(id.clone(), line).is_none(), "{name}: {id} is doubled");
        }
        lines
    }

    /// The custom_ids of the results.
    #[track_caller]
    pub(super) fn answered(&self) -> Vec<String> {
        self.lines("results.jsonl").into_keys().collect()
    }

    /// What stands in the errors file, each in few words.
    #[track_caller]
    pub(super) fn errors(&self) -> BTreeMap<String, String> {
        let words = |line: &Value| match &line["error"] {
            Value::Null => line["response"]["status_code"].to_string(),
            error => format!("{}: {}", error["code"].as_str().unwrap_or("?"), error["message"]),
        };
        self.lines("results.errors.jsonl").iter().map(|(id, line)| (id.clone(), words(line))).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// One line of the input.
pub(super) fn request(id: &str) -> String {
    let body = json!({"model": "m", "prompt": id, "max_tokens": 10});
    let line = json!({"custom_id": id, "method": "POST", "url": "/v1/completions", "body": body});
    format!("{line}\n")
}

/// A run on its way; killed with the test.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) process: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Started {
    pub(super) fn new(command: &mut Command) -> Self {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = piped.spawn().expect("the binary can be run");
        let stderr = BufReader::new(process.stderr.take().expect("piped"));
        Self { process, stderr }
    }

    /// Reads stderr until it says this.
    pub(super) fn wait_for(&mut self, text: &str) {
        let mut said = String::new();
        while !said.contains(text) {
            let read = self.stderr.read_line(&mut said).expect("text");
            assert!(read > 0, "it never said {text:?}, but: {said}");
        }
    }

    /// Waits for its end: exit code, stdout, and the rest of stderr.
    pub(super) fn end(mut self) -> Said {
        let mut stderr = String::new();
        self.stderr.read_to_string(&mut stderr).expect("text");
        let mut stdout = String::new();
        self.process.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
        let code = self.process.wait().expect("a child of ours").code().expect("it ended by itself");
        Said { code, stdout, stderr }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Looks again and again until it holds.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}
