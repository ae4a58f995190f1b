//! A terminal: runs the binary on a pty, presses keys, and sees what a person would see.

use std::{
    io::{Read as _, Write},
    num::NonZeroU16,
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// Longer than anything here takes, so that a test that waits for ever fails instead.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command on a terminal of its own; killed with the test.
pub(crate) struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    screen: Arc<Screen>,
    /// Ends once nobody writes on the terminal any more.
    reader: Option<JoinHandle<()>>,
    // The terminal is there for as long as this is.
    _master: Box<dyn MasterPty + Send>,
}

/// What is on the screen now.
struct Screen {
    parser: Mutex<Parser>,
    /// More was written.
    written: Condvar,
}

type Parser = vt100::Parser<Frames>;

/// Whether the screen is being drawn, from the marks around what belongs together.
struct Frames {
    inside: bool,
}

impl vt100::Callbacks for Frames {
    fn unhandled_csi(
        &mut self,
        _: &mut vt100::Screen,
        first: Option<u8>,
        _: Option<u8>,
        parameters: &[&[u16]],
        last: char,
    ) {
        if first == Some(b'?') && *parameters == [[2026]] {
            self.inside = last == 'h';
        }
    }
}

impl Terminal {
    /// Runs `permitd` with `arguments` against the server at `url`, without settings of whoever runs the tests.
    pub(crate) fn start(arguments: &[&str], url: &str, (columns, rows): (u16, u16)) -> Self {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("the system has terminals");
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_permitd"));
        let settings = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PERMITD_"));
        settings.for_each(|(name, _)| command.env_remove(name));
        command.args(arguments);
        command.env("PERMITD_SERVER", url);
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).expect("the binary can be run");
        let mut output = pair.master.try_clone_reader().expect("the terminal can be read");
        let size = |of| NonZeroU16::new(of).expect("a terminal has room");
        let parser = Parser::new_with_callbacks(size(rows), size(columns), 0, Frames { inside: false });
        let parser = Mutex::new(parser);
        let screen = Arc::new(Screen { parser, written: Condvar::new() });
        let drawn = Arc::clone(&screen);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4_096];
            // An error means that the command has ended.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                drawn.parser.lock().expect("no panic").process(&bytes[..count]);
                drawn.written.notify_all();
            }
        });
        let keys = pair.master.take_writer().expect("nobody else writes");
        Self { child, keys, screen, reader: Some(reader), _master: pair.master }
    }

    /// Presses keys, as the bytes that a terminal sends for them.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("it reads");
    }

    /// Waits until the screen is as it should be; hands it back.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let parser = self.screen.parser.lock().expect("no panic");
        let is_not_so = |parser: &mut Parser| parser.callbacks().inside || !is_so(&text(parser));
        let waited = self.screen.written.wait_timeout_while(parser, PATIENCE, is_not_so);
        let (parser, timeout) = waited.expect("no panic");
        let seen = text(&parser);
        assert!(!timeout.timed_out(), "not seen: {what}\n{seen}");
        seen
    }

    /// Waits until a text is on the screen; hands back all of it.
    #[track_caller]
    pub(crate) fn wait_for(&self, wanted: &str) -> String {
        self.wait_until(wanted, |seen| seen.contains(wanted))
    }

    /// Waits for the end of the command; says its exit code, and what is left on the screen.
    pub(crate) fn end(mut self) -> (u32, String) {
        let status = self.child.wait().expect("it is this test's");
        self.reader.take().expect("ends once").join().expect("no panic");
        let parser = self.screen.parser.lock().expect("no panic");
        assert!(!parser.screen().alternate_screen(), "the terminal is as it was");
        assert!(!parser.screen().hide_cursor(), "the terminal is as it was");
        (status.exit_code(), text(&parser))
    }
}

fn text(parser: &Parser) -> String {
    let contents = parser.screen().contents();
    contents.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
