//! The one task behind a client: it keeps a session open, sends whatever is ready in one message, hands out answers, and stands in for the
//! server, by the outage policy, while none can be reached.
//!
//! It never waits for callers and callers never wait for it but for an answer.

mod backoff;
mod dial;
mod link;
mod local;
mod outbox;
mod owners;
mod settings;
mod table;

use std::{pin::Pin, sync::Arc, time::Duration};

use permitd_proto::v1 as wire;
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

use self::{
    backoff::GOOD_LIFE,
    dial::Problem,
    link::{Link, LinkEvent},
    local::{Answer, Ask, LocalShares},
    owners::{IDLE_MAX, OwnerSession},
    table::{Refusing, Table},
};
pub(crate) use self::{owners::Owners, settings::Settings};
use crate::{
    Advice, Error, OutagePolicy, Permit, Source, Usage,
    client::{CLOSE_WAIT, Status},
    guard::Hold,
    mailbox::{Command, Mailbox},
};

/// How long a server that drains is still given for the answers to reports.
const DRAIN_PATIENCE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(crate) struct Driver {
    settings: Settings,
    mailbox: Arc<Mailbox>,
    status: watch::Sender<Status>,
    table: Table,
    local: LocalShares,
    link: Link,
    outage: Outage,
    owners: Arc<Owners>,
    /// Of a session with an owner, when it was last asked for anything; `None` for the client's own session.
    at_owner: Option<(Arc<OwnerSession>, Instant)>,
    /// When the session with a server that drains is left.
    leaves_at: Option<Instant>,
    /// When the driver ends, whatever is unanswered.
    ends_at: Option<Instant>,
}

/// How long there has been no session, and what of it.
#[derive(Debug)]
struct Outage {
    /// `None` while a session stands.
    since: Option<Instant>,
    /// While a session stands that has not proven itself: what `since` was before, and when the session came.
    unproven: Option<(Instant, Instant)>,
    /// Whether the policy holds.
    active: bool,
    /// Whether an attempt has ended: until then nobody can say whether there is a server, however slow this process is.
    tried: bool,
    /// The last one.
    problem: String,
    /// Definitive ones in a row.
    definitive: usize,
}

impl Outage {
    /// A session stands. It has to answer something, or to live for a while, before the time without one is forgotten: a server that
    /// welcomes and parts, again and again, is none.
    fn end(&mut self, now: Instant) {
        let unproven = self.since.map(|since| (since, now));
        *self =
            Self { since: None, unproven, active: false, tried: true, problem: String::new(), definitive: 0 };
    }

    /// There is no session, from now on or since before.
    fn begin(&mut self, now: Instant) {
        self.tried = true;
        let unproven = self.unproven.take().filter(|(_, came)| now < *came + GOOD_LIFE);
        self.since.get_or_insert(unproven.map_or(now, |(since, _)| since));
    }

    /// When the policy takes over, if no session comes.
    fn due_at(&self, after: Duration) -> Option<Instant> {
        self.since.filter(|_| self.tried && !self.active).map(|since| since + after)
    }
}

impl Driver {
    pub(crate) fn new(
        settings: Settings,
        mailbox: Arc<Mailbox>,
        status: watch::Sender<Status>,
        owners: Arc<Owners>,
    ) -> Self {
        let now = Instant::now();
        let counts_live = settings.policy == OutagePolicy::LocalShare;
        Self {
            table: Table::new(Arc::clone(&mailbox), counts_live),
            local: LocalShares::new(now),
            link: Link::new(&settings),
            outage: Outage {
                since: Some(now),
                unproven: None,
                active: false,
                tried: false,
                problem: String::new(),
                definitive: 0,
            },
            owners,
            at_owner: None,
            leaves_at: None,
            ends_at: None,
            settings,
            mailbox,
            status,
        }
    }

    /// For a session with an owner, which is the first of its endpoints.
    fn of_owner(mut self, session: Arc<OwnerSession>) -> Self {
        self.at_owner = Some((session, Instant::now()));
        self
    }

    pub(crate) async fn run(mut self) {
        let mut commands = Vec::new();
        let mut alarm: Pin<Box<Sleep>> = Box::pin(sleep_until(Instant::now()));
        while !self.is_done() {
            let wakes_at = self.wakes_at();
            if let Some(at) = wakes_at
                && alarm.deadline() != at
            {
                alarm.as_mut().reset(at);
            }
            let takes_more = !self.link.is_up() || self.table.has_room();
            tokio::select! {
                () = self.mailbox.ready(), if takes_more => {}
                event = self.link.next(self.table.has_outgoing()) => self.on_link(event),
                () = &mut alarm, if wakes_at.is_some() => {}
            }
            // Whatever woke it, everything that is ready by now goes along.
            if takes_more {
                self.mailbox.take(&mut commands);
                for command in commands.drain(..) {
                    self.on_command(command);
                }
            }
            self.on_time(Instant::now());
        }
        self.link.end().await;
    }

    fn is_done(&mut self) -> bool {
        if self.ends_at.is_none() && self.mailbox.is_abandoned() && self.table.has_only_reports() {
            self.ends_at = Some(Instant::now() + CLOSE_WAIT);
        }
        if self.at_owner.as_ref().is_some_and(|(session, _)| session.is_left()) && self.table.is_empty() {
            return !self.link.is_up() || !self.table.has_outgoing();
        }
        let Some(at) = self.ends_at else { return false };
        let said_all = !self.table.is_reporting() && !self.table.has_outgoing();
        said_all || self.outage.active || Instant::now() >= at
    }

    /// The next moment at which something has to be done unasked.
    fn wakes_at(&self) -> Option<Instant> {
        let outage = self.outage.due_at(self.settings.outage_after);
        let sweep = self.table.next_sweep().filter(|_| self.link.is_up());
        let again = self.table.next_again().filter(|_| self.link.is_up());
        let local = if self.outage.active { self.local.next_poll() } else { None };
        let times = [outage, sweep, again, local, self.leaves_at, self.ends_at, self.idle_at()];
        times.into_iter().flatten().min()
    }

    /// When a session with an owner has not been used for long enough.
    fn idle_at(&self) -> Option<Instant> {
        let (session, asked) = self.at_owner.as_ref()?;
        (!session.is_left() && self.table.is_empty()).then(|| *asked + IDLE_MAX)
    }

    fn on_time(&mut self, now: Instant) {
        if self.link.is_up() {
            self.table.sweep(now);
            self.table.ask_due(now);
            if self.leaves_at.is_some_and(|at| at <= now || !self.table.is_reporting()) {
                let text = "the server is about to stop".to_owned();
                self.on_lost(Problem { text, definitive: false, elsewhere: true });
            }
        } else if self.outage.due_at(self.settings.outage_after).is_some_and(|at| at <= now) {
            self.begin_outage(now);
        }
        if self.idle_at().is_some_and(|at| at <= now) {
            self.leave_owner();
        }
        if self.outage.active && self.local.next_poll().is_some_and(|at| at <= now) {
            let mut answers = Vec::new();
            self.local.poll(now, &mut answers, &self.outage.problem);
            self.give(answers);
        }
    }

    // The handles.

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Acquire { request_id, waiting } => {
                if self.ends_at.is_some() {
                    // Dropping it tells that the client is closed.
                    return;
                }
                if let Some((_, asked)) = &mut self.at_owner {
                    *asked = Instant::now();
                }
                self.table.acquire(request_id, waiting);
                if self.outage.active {
                    self.answer_without_server(request_id, Instant::now());
                }
            }
            Command::Cancel { request_id } => {
                self.table.cancel(request_id);
                self.locally(|local, now, answers| local.cancel(request_id, now, answers));
            }
            Command::Report { permit_id, report, mut reply } => {
                if self.outage.active {
                    if let Some(reply) = reply.take() {
                        drop(reply.send(Err(Error::report_kept(&self.outage.problem))));
                    }
                    if let Some(budget) = self.table.budget_of_live(&permit_id) {
                        self.locally(|local, now, answers| local.ended(&budget, now, answers));
                    }
                }
                self.table.report(permit_id, report, reply);
            }
            Command::ReportLocal { permit, report, reply } => {
                let mut advice = Advice::unsettled(&report);
                self.locally(|local, now, answers| advice = local.report(&permit, *report, now, answers));
                if let Some(reply) = reply {
                    drop(reply.send(Ok(advice)));
                }
            }
            Command::Close => {
                self.table.close();
                self.ends_at.get_or_insert(Instant::now() + CLOSE_WAIT);
            }
        }
    }

    // The server.

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { resumed, first } => {
                let now = Instant::now();
                self.outage.end(now);
                self.leaves_at = None;
                self.local.leave();
                self.table.welcome(resumed, now);
                let address = first.welcome.as_ref().map_or("", |welcome| &welcome.address);
                match &self.at_owner {
                    None => self.owners.home_is(address),
                    Some((session, _)) if self.link.is_at_first() => session.begin(),
                    Some(_) => {}
                }
                tracing::debug!(resumed, "permitd session stands");
                self.status.send_replace(Status::Connected);
                self.on_response(*first, now);
            }
            LinkEvent::Response(response) => self.on_response(*response, Instant::now()),
            LinkEvent::Writable => {
                let message = self.table.message(Instant::now());
                self.link.send(message);
            }
            LinkEvent::Lost(problem) => self.on_lost(problem),
        }
    }

    fn on_response(&mut self, response: wire::SessionResponse, now: Instant) {
        if !(response.granted.is_empty() && response.refused.is_empty() && response.reported.is_empty()) {
            self.outage.unproven = None;
        }
        for granted in response.granted {
            self.table.granted(granted, now);
        }
        for refused in response.refused {
            if self.table.refused(refused, now) == Refusing::Draining {
                self.leaves_at.get_or_insert(now + DRAIN_PATIENCE);
                self.leave_owner();
            }
        }
        for answer in &response.reported {
            self.table.answered(answer);
        }
        for share in response.shares {
            self.local.learn(share, now);
        }
        response.owners.iter().for_each(|owner| self.owners.learn(owner));
    }

    /// Nothing more comes to a session with an owner.
    fn leave_owner(&self) {
        if let Some((session, _)) = &self.at_owner {
            self.owners.leave(session);
        }
    }

    /// No session: either one broke or an attempt failed.
    fn on_lost(&mut self, problem: Problem) {
        let now = Instant::now();
        let was_up = self.outage.since.is_none();
        self.leaves_at = None;
        self.outage.begin(now);
        self.outage.definitive = if problem.definitive { self.outage.definitive + 1 } else { 0 };
        let hopeless = self.outage.definitive >= self.settings.endpoints.len();
        tracing::debug!(problem = problem.text, was_up, "no permitd session");
        self.leave_owner();
        self.link.retry(problem.elsewhere || problem.definitive || !was_up || self.at_owner.is_some());
        self.outage.problem = problem.text;
        if was_up {
            self.status.send_replace(Status::Connecting);
        }
        if hopeless && !self.outage.active {
            self.begin_outage(now);
        }
    }

    // In the server's place.

    fn begin_outage(&mut self, now: Instant) {
        self.outage.active = true;
        tracing::warn!(problem = self.outage.problem, policy = ?self.settings.policy, "no permitd server");
        self.status.send_replace(Status::Outage(self.outage.problem.as_str().into()));
        self.table.let_reporters_go(&self.outage.problem);
        for request_id in self.table.waiting_ids() {
            self.answer_without_server(request_id, now);
        }
    }

    fn answer_without_server(&mut self, request_id: u64, now: Instant) {
        match self.settings.policy {
            OutagePolicy::FailClosed => {
                self.table.refuse_without_server(request_id, Error::no_server(&self.outage.problem));
            }
            OutagePolicy::FailOpen => self.grant_unmanaged(request_id),
            OutagePolicy::LocalShare => self.ask_local_share(request_id, now),
        }
    }

    fn grant_unmanaged(&mut self, request_id: u64) {
        while let Some(waiting) = self.table.waiting(request_id) {
            let permit = Permit {
                id: Arc::from(""),
                provider: waiting.ask.provider.clone(),
                key: waiting.ask.key.clone(),
                expires_at: None,
                waited: waiting.asked_at.elapsed(),
                charged: Usage::asked_for(&waiting.ask),
                source: Source::Unmanaged,
            };
            self.table.grant_without_server(request_id, permit, Hold::Nobody);
        }
    }

    fn ask_local_share(&mut self, request_id: u64, now: Instant) {
        let Some(waiting) = self.table.waiting(request_id) else { return };
        let request = waiting.ask.clone();
        let (count, waited) = (waiting.remaining, now.saturating_duration_since(waiting.asked_at));
        let wait = waiting.wait.map(|wait| wait.saturating_sub(waited));
        let name = table::budget_name(&request.provider, &request.key);
        let live = self.table.live(&name);
        let ask = Ask { request_id, request: &request, tenant: &self.settings.tenant, count, wait, live };
        let mut answers = Vec::new();
        if !self.local.acquire(&ask, now, &mut answers) {
            let error = Error::no_local_share(&name, &self.outage.problem);
            self.table.refuse_without_server(request_id, error);
        }
        self.give(answers);
    }

    fn locally(&mut self, act: impl FnOnce(&mut LocalShares, Instant, &mut Vec<Answer>)) {
        let mut answers = Vec::new();
        act(&mut self.local, Instant::now(), &mut answers);
        self.give(answers);
    }

    fn give(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            match answer {
                Answer::Granted { request_id, permit, hold } => {
                    self.table.grant_without_server(request_id, *permit, hold);
                }
                Answer::Refused { request_id, error } => self.table.refuse_without_server(request_id, error),
            }
        }
    }
}

impl Drop for Driver {
    /// Also when the runtime goes down around it: nobody is left waiting.
    fn drop(&mut self) {
        if let Some((session, _)) = &self.at_owner {
            self.owners.ended(session);
        }
        self.mailbox.shut();
        self.table.close();
        self.status.send_replace(Status::Closed);
    }
}
