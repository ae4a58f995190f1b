//! All sessions by their id, open ones and broken ones in their grace.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use permitd_budget::Time;
use tonic::Code;

use super::core::Core;
use crate::{
    alarm::{Bell, Ring},
    auth::{Caller, Holder},
    inbox::{Inbox, News},
    shared::Shared,
    status::Fault,
};

/// All sessions.
pub(crate) struct Sessions {
    sessions_max: usize,
    /// An id means a session to its holder only; others neither find it nor learn that it exists.
    by_id: Mutex<HashMap<(Holder, String), Arc<Session>>>,
    /// Streams end now, whatever is unreported.
    closing: AtomicBool,
    /// The same, and sessions go on at other servers, which have everything that they need.
    leaving: AtomicBool,
}

/// One session.
pub(crate) struct Session {
    id: String,
    holder: Holder,
    pub(super) inbox: Arc<Inbox>,
    shared: Weak<Shared>,
    bell: Bell,
    this: Weak<Session>,
    pub(super) state: Mutex<State>,
}

/// What a session's lock holds.
pub(super) struct State {
    pub(super) core: Core,
    /// Counts the streams of the session: only the newest may go on.
    pub(super) stream: u64,
    /// When the session is buried, while it has no stream.
    broken_until: Option<Time>,
    buried: bool,
    alarm: Option<Time>,
    /// Something is due with time.
    pub(super) due: bool,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("open", &self.len()).finish_non_exhaustive()
    }
}

impl Sessions {
    pub(crate) fn new(sessions_max: usize) -> Self {
        Self {
            sessions_max,
            by_id: Mutex::default(),
            closing: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.lock().len()
    }

    /// Finds the caller's session of that id, or begins it. `true`: it is an old one.
    pub(super) fn open(
        &self,
        shared: &Arc<Shared>,
        caller: &Caller,
        id: String,
    ) -> Result<(Arc<Session>, bool), Fault> {
        let mut by_id = self.by_id.lock();
        let holder = caller.holder();
        let id = if id.is_empty() { unused_id() } else { id };
        let known_as = (holder, id.clone());
        if let Some(known) = by_id.get(&known_as) {
            return Ok((Arc::clone(known), true));
        }
        if by_id.len() >= self.sessions_max {
            let message = format!(
                "the server keeps at most {} sessions; close some, or raise server.bounds.sessions",
                self.sessions_max
            );
            return Err(Fault::exhausted("TOO_MANY_SESSIONS", "server.bounds.sessions", message));
        }
        let inbox = Arc::new(Inbox::default());
        let core = Core::new(caller.clone(), Arc::clone(&inbox), shared.config.bounds.message_bytes);
        let state = State { core, stream: 0, broken_until: None, buried: false, alarm: None, due: false };
        let session = Arc::new_cyclic(|this| Session {
            id,
            holder,
            inbox,
            shared: Arc::downgrade(shared),
            bell: shared.alarms.bell(),
            this: this.clone(),
            state: Mutex::new(state),
        });
        by_id.insert(known_as, Arc::clone(&session));
        shared.metrics.sessions.inc();
        Ok((session, false))
    }

    /// Whether any session has a stream, and is not just waiting for its client to come back.
    pub(crate) fn have_streams(&self) -> bool {
        // Collected first: who holds a session's lock may want the table's.
        let sessions: Vec<_> = self.by_id.lock().values().cloned().collect();
        sessions.iter().any(|session| session.state.lock().broken_until.is_none())
    }

    /// Lets every stream look at what it should do, such as end.
    pub(crate) fn wake_all(&self) {
        let inboxes: Vec<_> = self.by_id.lock().values().map(|session| Arc::clone(&session.inbox)).collect();
        for inbox in inboxes {
            inbox.wake();
        }
    }

    /// Ends all streams now.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake_all();
    }

    pub(super) fn are_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Sends everybody to other servers.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.wake_all();
    }

    pub(super) fn are_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    fn remove(&self, session: &Session) -> bool {
        let mut by_id = self.by_id.lock();
        // Another session of the same id may have begun since.
        let known_as = (session.holder, session.id.clone());
        let same = by_id.get(&known_as).is_some_and(|known| std::ptr::eq(Arc::as_ptr(known), session));
        same && by_id.remove(&known_as).is_some()
    }
}

impl Session {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Begins a stream; an older one ends when it notices. `None`: the session has just been buried, look again.
    pub(super) fn attach(&self) -> Option<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        if state.buried {
            return None;
        }
        state.stream += 1;
        state.broken_until = None;
        self.inbox.wake();
        Some(state)
    }

    /// The stream of that number broke: the grace begins.
    pub(super) fn broke(&self, shared: &Shared, stream: u64) {
        let mut state = self.state.lock();
        if state.stream != stream || state.buried {
            return;
        }
        let until = shared.clock.now() + shared.config.grace;
        state.broken_until = Some(until);
        if shared.config.grace.is_zero() {
            return self.bury(shared, state);
        }
        self.set_alarm(shared, &mut state, until);
    }

    /// Sees to it that the stream is woken for what is due with time.
    pub(super) fn plan(&self, shared: &Shared, state: &mut State) {
        if let Some(at) = state.core.next_tick(shared.clock.now()) {
            self.set_alarm(shared, state, at);
        }
    }

    /// Ends the session: nobody comes back for it.
    pub(super) fn bury(&self, shared: &Shared, mut state: MutexGuard<'_, State>) {
        if self.end(shared, &mut state) {
            state.core.bury(shared);
        }
    }

    /// Ends the session here. What it has at other servers stays as it is: its client goes on there.
    pub(super) fn leave(&self, shared: &Shared, mut state: MutexGuard<'_, State>) {
        if self.end(shared, &mut state) {
            state.core.away = None;
        }
    }

    /// False if it had ended before.
    fn end(&self, shared: &Shared, state: &mut State) -> bool {
        if mem::replace(&mut state.buried, true) {
            return false;
        }
        if shared.sessions.remove(self) {
            shared.metrics.sessions.dec();
        }
        // First closed, so that what comes from now on goes back by itself; then what had come.
        for delivery in self.inbox.close() {
            if let News::Granted { cell, grant } = delivery.what
                && let Some(cell) = shared.registry.by_id(cell)
            {
                cell.give_back(&[grant.permit]);
            }
        }
        true
    }

    fn set_alarm(&self, shared: &Shared, state: &mut State, at: Time) {
        if state.alarm.is_none_or(|set| at < set) {
            let before = state.alarm.replace(at);
            shared.alarms.set(self.bell, before, at, self.this.clone() as Weak<dyn Ring>);
        }
    }
}

impl Ring for Session {
    fn ring(self: Arc<Self>, at: Time) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut state = self.state.lock();
        state.alarm = state.alarm.filter(|&set| set != at);
        match state.broken_until {
            Some(until) if until <= shared.clock.now() => self.bury(&shared, state),
            Some(until) => self.set_alarm(&shared, &mut state, until),
            None => {
                state.due = true;
                drop(state);
                self.inbox.wake();
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// The end of a stream whose session went on elsewhere.
pub(super) fn taken_over() -> Fault {
    let message = "the session went on in a newer stream; use one stream per session_id";
    Fault::new(Code::Aborted, "SESSION_TAKEN_OVER", message)
}

fn unused_id() -> String {
    let bytes: [u8; 16] = rand::random();
    bytes.iter().fold(String::with_capacity(32), |mut id, byte| {
        write!(id, "{byte:02x}").expect("writing to a String does not fail");
        id
    })
}
