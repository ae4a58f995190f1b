//! The signals by which a process is asked to end: Ctrl-C, and on Unix SIGTERM.

/// The exit code of a command that was interrupted, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

pub(crate) use imp::Signals;

use crate::failure::Failure;

impl Signals {
    /// Listens from now on; until then a signal ends the process.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Self::new().map_err(|error| Failure::new("can't listen for signals").because(error))
    }
}

/// Lets a file that reaches the limit on the size of files fail to grow, as on a full disk, where the system would end the process.
pub(crate) fn survive_file_limits() -> Result<(), Failure> {
    imp::survive_file_limits().map_err(|error| Failure::new("can't listen for signals").because(error))
}

#[cfg(unix)]
mod imp {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    #[derive(Debug)]
    pub(crate) struct Signals {
        terminate: Signal,
        interrupt: Signal,
    }

    pub(super) fn survive_file_limits() -> io::Result<()> {
        let too_large = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        // The write fails as well, which is enough to know. The handler stays without this.
        signal(too_large).map(drop)
    }

    impl Signals {
        pub(super) fn new() -> io::Result<Self> {
            let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
            Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
        }

        /// Resolves at the next signal.
        pub(crate) async fn next(&mut self) {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        }
    }
}

#[cfg(not(unix))]
mod imp {
    use std::io;

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(super) fn survive_file_limits() -> io::Result<()> {
        Ok(())
    }

    #[derive(Debug)]
    pub(crate) struct Signals;

    impl Signals {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Resolves at the next Ctrl-C.
        pub(crate) async fn next(&mut self) {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
