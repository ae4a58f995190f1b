//! The real binary in a process of its own, for what a process goes through: signals, sudden ends, a new start.

use std::{
    env, fs,
    io::Read as _,
    net::{SocketAddr, TcpListener},
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command as Cargo, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    thread,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};

use crate::{network::Host, peer::Peer, wait::soon};

/// A running `permitd serve`. Dropped, it is killed.
#[derive(Debug)]
pub struct Permitd {
    peer: Peer,
    /// Where health and metrics are served.
    pub http: SocketAddr,
    child: Child,
    stderr: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
    config: PathBuf,
}

impl Deref for Permitd {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl Permitd {
    /// Starts with this configuration on a port that the system chooses.
    pub async fn start(config: &str) -> Self {
        Self::start_at(0, config).await
    }

    /// Starts with this configuration on this port.
    ///
    /// # Panics
    /// If it can't be built or started.
    pub async fn start_at(port: u16, config: &str) -> Self {
        Self::start_on(&Host::here(), port, config).await
    }

    /// Starts with this configuration on this port of that host.
    ///
    /// # Panics
    /// If it can't be built or started.
    pub async fn start_on(host: &Host, port: u16, config: &str) -> Self {
        Self::launch(host, port, "warn", config).await
    }

    /// Starts with this configuration, logging what this filter lets through.
    pub async fn start_logging(filter: &str, config: &str) -> Self {
        Self::launch(&Host::here(), 0, filter, config).await
    }

    async fn launch(host: &Host, port: u16, filter: &str, config: &str) -> Self {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let binary = tokio::task::spawn_blocking(binary).await.expect("a binary");
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let file = env::temp_dir().join(format!("permitd-tests-{}-{number}.toml", std::process::id()));
        fs::write(&file, config).expect("a place for temporary files");
        let (read, write) = std::io::pipe().expect("a pipe");
        let mut child = host
            .command(binary)
            .args(["serve", "--workers", "2", "--log", filter])
            .args(["--http", &format!("{}:0", host.address)])
            .args(["--listen", &format!("{}:{port}", host.address)])
            .arg("--config")
            .arg(&file)
            // Unless the test has a place for it.
            .args(if config.contains("data = ") { &[][..] } else { &["--data", "none"] })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(write)
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let stderr = Arc::new(Mutex::new(String::new()));
        let reader = thread::spawn({
            let stderr = Arc::clone(&stderr);
            move || collect(read, &stderr)
        });
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = soon("the server's first line", lines.next_line()).await.expect("text");
        let Some(line) = line else { panic!("it did not start: {}", text(&stderr)) };
        let address = |after: &str| {
            let rest = line.split_once(after).unwrap_or_else(|| panic!("{after:?} in {line:?}")).1;
            rest.split(',').next().and_then(|word| word.parse().ok()).expect("an address")
        };
        let peer = Peer::new(address("gRPC at "));
        Self { peer, http: address("http at "), child, stderr, reader: Some(reader), config: file }
    }

    /// Sends SIGTERM: it has to drain.
    ///
    /// # Panics
    /// If it is gone.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGHUP: it has to read its configuration again.
    ///
    /// # Panics
    /// If it is gone.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGSTOP: it does nothing any more until it [goes on](Self::go_on).
    ///
    /// # Panics
    /// If it is gone.
    pub fn pause_process(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    ///
    /// # Panics
    /// If it is gone.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGKILL, and leaves it at that.
    ///
    /// # Panics
    /// If it is gone.
    pub fn kill_now(&self) {
        self.signal(Signal::KILL);
    }

    /// Stops it for a while, with SIGSTOP.
    ///
    /// # Panics
    /// If it is gone.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it is gone.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is ours");
    }

    /// Its number among the system's processes.
    ///
    /// # Panics
    /// If it is gone.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    fn pid(&self) -> Pid {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        id.expect("it runs")
    }

    /// From now on it can write no file beyond so many bytes, as if the disk were full; `None` for as many as it likes.
    ///
    /// # Panics
    /// If it is gone.
    #[cfg(target_os = "linux")]
    pub fn bound_files(&self, bytes: Option<u64>) {
        let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
        let limit = Rlimit { current: bytes.or(maximum), maximum };
        rustix::process::prlimit(Some(self.pid()), Resource::Fsize, limit).expect("it is ours");
    }

    /// Replaces its configuration, as whoever writes files with care does: it sees the old one or the new one.
    ///
    /// # Panics
    /// If there is no room.
    pub fn rewrite(&self, config: &str) {
        let new = self.config.with_extension("new");
        fs::write(&new, config).expect("room for a file");
        fs::rename(&new, &self.config).expect("the same folder");
    }

    /// What it has said on stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        text(&self.stderr)
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Panics
    /// If it panicked before.
    pub async fn kill(mut self) {
        soon("a killed process", self.child.kill()).await.expect("it is ours");
        self.assert_no_panic();
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it does not end, or panicked.
    pub async fn exit(mut self) -> ExitStatus {
        let status = soon("the end of the process", self.child.wait()).await.expect("it is ours");
        self.assert_no_panic();
        status
    }

    /// Drains it with SIGTERM, at the end of a test.
    ///
    /// # Panics
    /// If it does not end well.
    pub async fn stop(self) {
        self.terminate();
        let status = self.exit().await;
        assert!(status.success(), "a drained server ends well: {status}");
    }

    /// How much memory it has in use, where the system tells.
    #[must_use]
    pub fn resident_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// What it has said on stderr until now.
    #[must_use]
    pub fn said(&self) -> String {
        text(&self.stderr)
    }

    fn assert_no_panic(&mut self) {
        // Its end of the pipe is closed by now, so this ends.
        self.reader.take().expect("only once").join().expect("no panic");
        let stderr = text(&self.stderr);
        assert!(!stderr.contains("panicked"), "it panicked:\n{stderr}");
    }
}

impl Drop for Permitd {
    fn drop(&mut self) {
        // Nothing to do about a file that is gone.
        let _ = fs::remove_file(&self.config);
    }
}

/// A port that nobody has, and that the system gives to nobody who asks for any: for servers that start again on the same one.
///
/// # Panics
/// If all are taken.
#[must_use]
pub fn steady_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the range of ephemeral ports; somewhere else for every test process.
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    (0..100)
        .map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed) % 100)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port among a hundred")
}

/// Lets this process and those that it starts from now on have as many open files as the system allows, up to what a thousand
/// connections need.
pub fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(16_384, |most| most.min(16_384));
    if current.is_some_and(|current| current < wanted) {
        // What can't be raised shows where it is needed.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

fn text(stderr: &Mutex<String>) -> String {
    stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn collect(mut pipe: std::io::PipeReader, into: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut buffer) {
        let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

/// The binary that `PERMITD_BIN` names, or else one that is built as these tests are; building it blocks.
///
/// # Panics
/// If it can't be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(build)
}

fn build() -> PathBuf {
    if let Some(built) = env::var_os("PERMITD_BIN") {
        return built.into();
    }
    // .../target/PROFILE/deps/TEST, or a program in .../target/PROFILE
    let program = env::current_exe().expect("a path");
    let folder = program.parent().expect("a folder");
    let profile =
        if folder.ends_with("deps") { folder.parent().expect("the profile's folder") } else { folder };
    let target = profile.parent().expect("the target folder");
    let mut cargo = Cargo::new(env!("CARGO"));
    cargo
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["build", "--quiet", "--package", "permitd", "--bin", "permitd", "--target-dir"])
        .arg(target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    // What cargo tells the tests about themselves is nothing for other crates.
    for (name, _) in env::vars_os() {
        let is_own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(is_own) {
            cargo.env_remove(name);
        }
    }
    let built = cargo.stdin(Stdio::null()).output().expect("cargo runs");
    assert!(built.status.success(), "cargo build:\n{}", String::from_utf8_lossy(&built.stderr));
    profile.join(format!("permitd{}", env::consts::EXE_SUFFIX))
}
