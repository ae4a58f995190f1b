//! The command that runs: it has our stdin, stdout and stderr, gets the signals that we get, and tells how it ended.

use std::{
    ffi::OsString,
    io,
    process::{ExitCode, ExitStatus},
};

use tokio::process::{self, Command};

use crate::failure::Failure;

/// Where the command finds its permit.
const PERMIT_ID: &str = "PERMITD_PERMIT_ID";

/// A running command.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    signals: signals::Signals,
}

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended(ExitStatus);

impl Child {
    /// Starts the command.
    pub(super) fn start(command: &[OsString], permit_id: &str) -> Result<Self, Failure> {
        let (program, arguments) = command.split_first().expect("clap wants a command");
        // Before the command runs, so that no signal falls in between.
        let signals = signals::Signals::listen()
            .map_err(|error| Failure::new("can't listen for signals").because(error))?;
        let spawned = Command::new(program).args(arguments).env(PERMIT_ID, permit_id).spawn();
        let process = spawned.map_err(|error| {
            let exit_code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            let failure = Failure::new(format!("can't run {}", program.display())).because(error);
            failure.hint("check its name and that it may be executed").exit_code(exit_code)
        })?;
        Ok(Self { process, signals })
    }

    /// Waits for its end, passing signals on meanwhile.
    pub(super) async fn ended(&mut self) -> Ended {
        loop {
            tokio::select! {
                ended = self.process.wait() => return Ended(ended.expect("a child of ours can be waited for")),
                signal = self.signals.next() => {
                    if let Some(id) = self.process.id() {
                        signals::send(id, signal);
                    }
                }
            }
        }
    }
}

impl Ended {
    /// Its exit status, if it ended by itself.
    pub(super) fn status(self) -> Option<u8> {
        self.0.code().map(|code| u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }

    /// What we exit with.
    pub(super) fn exit_code(self) -> ExitCode {
        ExitCode::from(self.status().unwrap_or_else(|| by_signal(self.0)))
    }
}

/// As shells have it.
#[cfg(unix)]
fn by_signal(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = status.signal().and_then(|signal| u8::try_from(signal).ok()).unwrap_or(0);
    signal.saturating_add(128)
}

#[cfg(not(unix))]
fn by_signal(_: ExitStatus) -> u8 {
    1
}

#[cfg(unix)]
mod signals {
    use std::io;

    use rustix::{
        process::{Pid, Signal, getpgrp, kill_process},
        termios::tcgetpgrp,
    };
    use tokio::signal::unix::{self, SignalKind, signal};

    /// Signals that are ours to pass on.
    #[derive(Debug)]
    pub(super) struct Signals {
        terminate: unix::Signal,
        hang_up: unix::Signal,
        user1: unix::Signal,
        user2: unix::Signal,
        interrupt: unix::Signal,
        quit: unix::Signal,
    }

    impl Signals {
        pub(super) fn listen() -> io::Result<Self> {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                hang_up: signal(SignalKind::hangup())?,
                user1: signal(SignalKind::user_defined1())?,
                user2: signal(SignalKind::user_defined2())?,
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
            })
        }

        /// The next signal to pass on.
        pub(super) async fn next(&mut self) -> Signal {
            loop {
                let signal = tokio::select! {
                    _ = self.terminate.recv() => Signal::TERM,
                    _ = self.hang_up.recv() => Signal::HUP,
                    _ = self.user1.recv() => Signal::USR1,
                    _ = self.user2.recv() => Signal::USR2,
                    _ = self.interrupt.recv() => Signal::INT,
                    _ = self.quit.recv() => Signal::QUIT,
                };
                // What the terminal sends by its keys, the command gets from it by itself.
                if !(matches!(signal, Signal::INT | Signal::QUIT) && in_foreground()) {
                    return signal;
                }
            }
        }
    }

    fn in_foreground() -> bool {
        tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground == getpgrp())
    }

    pub(super) fn send(process: u32, signal: Signal) {
        let process = i32::try_from(process).ok().and_then(Pid::from_raw);
        if let Some(process) = process {
            // It may have ended just now, which `ended` is about to see.
            let _ = kill_process(process, signal);
        }
    }
}

#[cfg(not(unix))]
mod signals {
    use std::{future, io};

    /// The console sends its own to every process that it has.
    #[derive(Debug)]
    pub(super) struct Signals;

    #[derive(Debug)]
    pub(super) enum Never {}

    impl Signals {
        pub(super) fn listen() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn next(&mut self) -> Never {
            future::pending().await
        }
    }

    pub(super) fn send(_: u32, signal: Never) {
        match signal {}
    }
}
