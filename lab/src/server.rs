//! The real binary in a process of its own.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    bench::{Error, cpu_of_process},
    depth::resident_of,
};

/// A running `permitd serve`. Dropped, it is killed.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Where its metrics are, if it serves them.
    pub(crate) http: Option<SocketAddr>,
    child: Child,
    config: PathBuf,
}

/// Bytes of memory that a process has in use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Its own, which nothing else can have.
    pub(crate) own: u64,
    /// Of its program and other files: as much of them as it has looked at, and the system may take back.
    pub(crate) files: u64,
}

impl Server {
    /// Starts it with this configuration, without a store and without an HTTP port.
    pub(crate) fn start(binary: &Path, config: &str) -> Result<Self, Error> {
        Self::serve(binary, config, "off", None)
    }

    /// The same with a store in that folder. Its port is open when this returns, and what is stored is there.
    pub(crate) fn with_store(binary: &Path, config: &str, folder: &Path) -> Result<Self, Error> {
        Self::serve(binary, config, "off", Some(folder))
    }

    /// The same, but with an HTTP port.
    pub(crate) fn with_http(binary: &Path, config: &str) -> Result<Self, Error> {
        Self::serve(binary, config, "127.0.0.1:0", None)
    }

    fn serve(binary: &Path, config: &str, http: &str, store: Option<&Path>) -> Result<Self, Error> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let file = env::temp_dir().join(format!("permitd-siege-{}-{number}.toml", std::process::id()));
        fs::write(&file, config)?;
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--http", http, "--data"])
            .arg(store.unwrap_or(Path::new("none")))
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        let told =
            |port: &str| line.split_once(port).and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
        // It has said on stderr why it did not start.
        let address = told("gRPC at ").ok_or_else(|| format!("{} said {line:?}", binary.display()))?;
        Ok(Self { address, http: told("http at "), child, config: file })
    }

    /// Tells it to stop in good order, with SIGTERM, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
        kill_process(pid, Signal::TERM)?;
        let ended = self.child.wait()?;
        if ended.success() {
            Ok(())
        } else {
            Err(format!("a server that was told to stop ended with {ended}").into())
        }
    }

    /// Ends it without a word to it, with SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What it has used of the processors until now.
    pub(crate) fn cpu(&self) -> Result<Duration, Error> {
        cpu_of_process(self.child.id())
    }

    /// Bytes of memory that it has in use now.
    pub(crate) fn resident(&self) -> Result<u64, Error> {
        resident_of(&self.child.id().to_string())
    }

    /// The same, by what it is.
    pub(crate) fn memory(&self) -> Result<Memory, Error> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let bytes = |name: &'static str| -> Result<u64, Error> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or(name)?;
            let kib: u64 = line.trim_start_matches(':').split_whitespace().next().ok_or(name)?.parse()?;
            Ok(kib * 1024)
        };
        Ok(Memory { own: bytes("RssAnon")?, files: bytes("RssFile")? })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about a process, or a file, that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
    }
}
