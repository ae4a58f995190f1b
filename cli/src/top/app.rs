//! What is on the screen, and what each key does to it. Pure: keys and news go in, errands come out.

use permitd_proto::v1;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    board::{Board, Name},
    change::Change,
    feed::{Looked, News},
    pools::Pools,
    steer::{Done, Errand},
};
use crate::failure::Failure;

/// Characters of a filter.
const FILTER_CHARACTERS: usize = 256;

/// Everything that is shown.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) board: Board,
    /// The server, as it was named.
    pub(super) server: String,
    /// The budget under the cursor: the cursor stays with it when the order changes, so that nobody steers another one.
    pub(super) chosen: Option<Name>,
    /// Where the cursor was, for when its budget is gone.
    place: usize,
    /// Budgets that fit on a page, as last drawn.
    pub(super) page: usize,
    /// Whether pools are shown, and not all budgets.
    pub(super) pooled: bool,
    pub(super) pools: Pools,
    /// The budget that is shown at length.
    pub(super) open: Option<Name>,
    /// The limit under the cursor there.
    pub(super) limit: usize,
    pub(super) explained: Option<Box<v1::ExplainBudgetResponse>>,
    pub(super) dialog: Option<Dialog>,
    pub(super) message: Option<Message>,
    /// Why nothing is told any more.
    pub(super) lost: Option<String>,
    pub(super) told: bool,
}

/// What keys go to first.
#[derive(Debug)]
pub(super) enum Dialog {
    Filter,
    Help,
    Confirm(Errand),
    Change(Box<Change>),
}

/// What came of the last thing that was done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) failed: bool,
}

/// What a key asks for beyond the screen.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    Quit,
    Do(Errand),
}

impl App {
    pub(super) fn new(server: &str) -> Self {
        Self { server: server.to_owned(), page: 1, ..Self::default() }
    }

    pub(super) fn take(&mut self, news: News) {
        match news {
            News::Connected => {
                self.lost = None;
                self.board.clear();
            }
            News::Changed(states) => {
                self.told = true;
                self.board.take(states);
            }
            News::Explained(name, explained) if self.open.as_ref() == Some(&name) => {
                if explained.is_none() {
                    self.say(format!("{name} is gone"), true);
                    self.close();
                }
                self.explained = explained;
            }
            News::Explained(..) => {}
            News::Pools(pools) => self.pools.take(pools),
            News::Lost(failure) => self.lost = Some(in_line(&failure)),
        }
    }

    /// Takes in what came of an errand.
    pub(super) fn done(&mut self, done: Done) {
        let Done { errand, outcome } = done;
        let change = match &mut self.dialog {
            Some(Dialog::Change(change)) => Some(change),
            _ => None,
        };
        match (errand, outcome) {
            (Errand::Pause(name), Ok(())) => self.say(format!("{name} is paused"), false),
            (Errand::Resume(name), Ok(())) => self.say(format!("{name} is resumed"), false),
            (Errand::Preview(after), Ok(())) => {
                if let Some(change) = change {
                    change.previewed(after);
                }
            }
            (Errand::Declare(_), Ok(())) => {
                if let Some(change) = change {
                    let text = format!("{} of {} is changed", change.limit, change.budget);
                    self.dialog = None;
                    self.say(text, false);
                }
            }
            (Errand::Preview(_) | Errand::Declare(_), Err(failure)) => match change {
                Some(change) => change.refused(in_line(&failure)),
                None => self.say(in_line(&failure), true),
            },
            (Errand::Pause(_) | Errand::Resume(_), Err(failure)) => self.say(in_line(&failure), true),
        }
    }

    fn say(&mut self, text: String, failed: bool) {
        self.message = Some(Message { text, failed });
    }

    /// Does what a key asks for.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Asked> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Asked::Quit);
        }
        self.message = None;
        match self.dialog.take() {
            None => self.key_looking(key.code),
            Some(Dialog::Help) => None,
            Some(Dialog::Filter) => {
                self.key_filtering(key);
                None
            }
            Some(Dialog::Confirm(errand)) => match key.code {
                KeyCode::Char('y') | KeyCode::Enter => Some(Asked::Do(errand)),
                _ => None,
            },
            Some(Dialog::Change(change)) => self.key_changing(change, key),
        }
    }

    fn key_looking(&mut self, key: KeyCode) -> Option<Asked> {
        match key {
            KeyCode::Char('q') => return Some(Asked::Quit),
            KeyCode::Char('?' | 'h') => self.dialog = Some(Dialog::Help),
            KeyCode::Char('p') => self.dialog = self.current().map(Errand::Pause).map(Dialog::Confirm),
            KeyCode::Char('u') => self.dialog = self.current().map(Errand::Resume).map(Dialog::Confirm),
            KeyCode::Tab if self.open.is_none() => self.pooled = !self.pooled,
            KeyCode::Char('/') if self.lists() => self.dialog = Some(Dialog::Filter),
            KeyCode::Char('s') if self.lists() => self.board.order_next(),
            KeyCode::Char('r') if self.lists() => self.board.reverse(),
            KeyCode::Char('c') if self.open.is_some() => self.begin_change(),
            KeyCode::Enter | KeyCode::Right if self.open.is_none() => self.open_chosen(),
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => match self.open {
                Some(_) => self.close(),
                None if self.pooled => self.pooled = false,
                None => self.board.filter(""),
            },
            _ => self.go(key),
        }
        None
    }

    /// Whether all budgets are shown.
    fn lists(&self) -> bool {
        self.open.is_none() && !self.pooled
    }

    /// What the server is asked about.
    pub(super) fn looked(&self) -> Looked {
        match &self.open {
            Some(name) => Looked::Budget(name.clone()),
            None if self.pooled => Looked::Pools,
            None => Looked::All,
        }
    }

    /// Moves the cursor.
    fn go(&mut self, key: KeyCode) {
        let (count, at) = match &self.open {
            None if self.pooled => (self.pools.rows().count(), self.pools.cursor()),
            None => (self.board.shown().len(), self.cursor()),
            Some(name) => (self.board.get(name).map_or(0, |seen| seen.state.limits.len()), self.limit),
        };
        let to = match key {
            KeyCode::Down | KeyCode::Char('j') => at + 1,
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::PageDown => at + self.page,
            KeyCode::PageUp => at.saturating_sub(self.page),
            KeyCode::Home => 0,
            KeyCode::End => count,
            _ => return,
        };
        let to = to.min(count.saturating_sub(1));
        match self.open {
            None if self.pooled => self.pools.go(to),
            None => self.chosen = self.board.shown().get(to).cloned(),
            Some(_) => self.limit = to,
        }
    }

    /// Where the cursor is among the budgets shown. If its budget is gone, it goes to the one that took its place.
    pub(super) fn cursor(&mut self) -> usize {
        let shown = self.board.shown();
        let found = self.chosen.as_ref().and_then(|chosen| shown.iter().position(|name| name == chosen));
        self.place = found.unwrap_or_else(|| self.place.min(shown.len().saturating_sub(1)));
        self.chosen = shown.get(self.place).cloned();
        self.place
    }

    /// The budget that keys are about.
    pub(super) fn current(&mut self) -> Option<Name> {
        self.cursor();
        self.open.clone().or_else(|| if self.pooled { self.pools.chosen_name() } else { self.chosen.clone() })
    }

    fn open_chosen(&mut self) {
        match self.current() {
            // A member that nobody asked for yet, or that is not watched.
            Some(name) if self.board.get(&name).is_none() => self.say(format!("{name} is not watched"), true),
            chosen => {
                self.open = chosen;
                (self.limit, self.explained) = (0, None);
            }
        }
    }

    fn close(&mut self) {
        self.open = None;
        self.explained = None;
    }

    fn begin_change(&mut self) {
        let Some((name, seen)) =
            self.open.clone().and_then(|name| Some((name.clone(), self.board.get(&name)?)))
        else {
            return;
        };
        match Change::begin(name, &seen.state, self.limit) {
            Ok(change) => self.dialog = Some(Dialog::Change(Box::new(change))),
            Err(problem) => self.say(problem, true),
        }
    }

    fn key_filtering(&mut self, key: KeyEvent) {
        let mut text = self.board.filtered_by().to_owned();
        match key.code {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                self.board.filter("");
                return;
            }
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char(character) if text.chars().count() < FILTER_CHARACTERS => text.push(character),
            _ => {}
        }
        self.board.filter(&text);
        self.dialog = Some(Dialog::Filter);
    }

    fn key_changing(&mut self, mut change: Box<Change>, key: KeyEvent) -> Option<Asked> {
        let mut errand = None;
        match key.code {
            KeyCode::Esc => return None,
            KeyCode::Enter => errand = change.go_on(),
            KeyCode::Backspace => change.erase(),
            KeyCode::Char(character) => change.write(character),
            _ => {}
        }
        self.dialog = Some(Dialog::Change(change));
        errand.map(Asked::Do)
    }
}

/// What failed, why and what to do, in one line.
fn in_line(failure: &Failure) -> String {
    failure.to_string().replace("\n  ", "; ")
}
