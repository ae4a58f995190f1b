//! `permitd top`: budgets on a terminal, by pressure, live; and keys to steer them.

mod app;
mod board;
mod change;
mod feed;
mod pools;
mod steer;
mod timing;
mod view;

use std::{
    io::{self, IsTerminal as _, stdin, stdout},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;
use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, Event, KeyEventKind},
        execute,
        terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate},
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

use self::{
    app::{App, Asked},
    feed::{Begun, Looked, Watched},
    timing::Timing,
};
use crate::{
    failure::Failure,
    limits::duration,
    remote::{Remote, block_on},
    signals::Signals,
};

const EXAMPLES: &str = "\
Examples:
  permitd top
  permitd top 'anthropic/*' --interval 200ms
  permitd top --server https://permits.example.com:7110 --token-file token

Those come first for which somebody waits, above all where nothing is granted; then those that have least left of a limit.
Keys: arrows, Enter and Esc; Tab pools, / filters, s sorts, r reverses, p pauses, u resumes, c changes a limit, ? helps, q ends.
To see is for the role `observe`, to steer for `admin`.";

/// Events that are not looked at yet.
const EVENTS: usize = 64;
/// What the history counts in.
const SECOND: Duration = Duration::from_secs(1);

/// Shows budgets live on a terminal, and steers them by keys.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Top {
    /// A glob over PROVIDER/KEY.
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,
    /// How often to look, at least 100ms.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    interval: Duration,
    /// Say at the end how long the screen took to be drawn.
    #[arg(long)]
    timing: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

impl Top {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        if self.remote.json || !stdout().is_terminal() || !stdin().is_terminal() {
            let failure = Failure::new("top draws on a terminal, and this is none");
            return Err(failure.hint("permitd budgets watch, with --json for machines"));
        }
        let timing = block_on(async {
            let Self { filter, interval, ref remote, .. } = self;
            let watched = Watched { remote: remote.clone(), filter, interval };
            // Whatever is wrong with the server or the flags is said before the screen is taken.
            let begun = watched.begin().await?;
            let unusable = |error| Failure::new("can't draw on this terminal").because(error);
            let mut terminal = ratatui::try_init().map_err(unusable)?;
            let shown = show(&mut terminal, watched, begun).await;
            let restored = ratatui::try_restore().map_err(unusable);
            shown.and_then(|timing| restored.map(|()| timing))
        })?;
        if self.timing {
            eprintln!("{timing}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Draws and listens until somebody has seen enough.
async fn show(terminal: &mut DefaultTerminal, watched: Watched, begun: Begun) -> Result<Timing, Failure> {
    let mut signals = Signals::listen()?;
    let mut app = App::new(&watched.remote.server);
    let mut timing = Timing::default();
    let remote = watched.remote.clone();
    let (look, looked) = watch::channel(Looked::default());
    let mut news = watched.follow(begun, looked);
    let (errands, mut done) = mpsc::channel(EVENTS);
    let mut events = listen();
    let mut seconds = interval(SECOND);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let drawn = timing.measure(|| draw(terminal, &mut app));
        drawn.map_err(|error| Failure::new("can't draw on this terminal any more").because(error))?;
        let asked = tokio::select! {
            Some(event) = events.recv() => match event {
                Event::Key(key) if key.kind != KeyEventKind::Release => app.key(key),
                // A terminal that has another size is drawn anew like everything else.
                _ => None,
            },
            Some(told) = news.recv() => {
                app.take(told);
                None
            }
            Some(done) = done.recv() => {
                app.done(done);
                None
            }
            _ = seconds.tick() => {
                app.board.tick();
                None
            }
            () = signals.next() => Some(Asked::Quit),
        };
        match asked {
            Some(Asked::Quit) => return Ok(timing),
            Some(Asked::Do(errand)) => errand.start(remote.clone(), errands.clone()),
            None => {}
        }
        look.send_if_modified(|looked| {
            let now = app.looked();
            let is_other = *looked != now;
            *looked = now;
            is_other
        });
    }
}

/// Draws everything as one: terminals that know how show nothing in between.
fn draw(terminal: &mut DefaultTerminal, app: &mut App) -> io::Result<()> {
    execute!(stdout(), BeginSynchronizedUpdate)?;
    terminal.draw(|frame| view::draw(frame, app))?;
    execute!(stdout(), EndSynchronizedUpdate)
}

/// What the terminal says, from a thread of its own: reading waits. It ends with the process.
fn listen() -> mpsc::Receiver<Event> {
    let (events, taken) = mpsc::channel(EVENTS);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if events.blocking_send(event).is_err() {
                break;
            }
        }
    });
    taken
}
