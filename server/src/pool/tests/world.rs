//! A pool of real hearts in virtual time, and whoever asks it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use permitd_budget::{
    Acquired, Budget, BudgetSpec, CheckedSpec, Event, Grant, LimitSpec, Outcome, PermitKey, Place, Priority,
    Reason, Report, Request, Ticket, Time, Usage,
};

use crate::{
    config::{BudgetName, MemberSpec, PoolSpec},
    inbox::{Delivery, Inbox, News, Waiter},
    pool::{Asked, Entry, Member, Pool},
    registry::RegistryError,
    status::Fault,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A heart with its clock, that delivers as a cell does.
pub(super) struct Heart {
    id: u32,
    now: Rc<Cell<Time>>,
    pub(super) budget: RefCell<Budget<Waiter>>,
    /// Nobody finds it.
    pub(super) is_deleted: Cell<bool>,
    /// Requests that it has in its records: when they were made, and the permit.
    pub(super) recorded: RefCell<Vec<(Time, Option<PermitKey>)>>,
}

impl Heart {
    pub(super) fn with<R>(
        &self,
        call: impl FnOnce(&mut Budget<Waiter>, Time, &mut Vec<Event<Waiter>>) -> R,
    ) -> R {
        let mut events = Vec::new();
        let answer = call(&mut self.budget.borrow_mut(), self.now.get(), &mut events);
        self.deliver(events);
        answer
    }

    fn deliver(&self, mut events: Vec<Event<Waiter>>) {
        while !events.is_empty() {
            let mut returned = Vec::new();
            for event in events.drain(..) {
                let (waiter, what) = match event {
                    Event::Granted { waiter, grant, .. } => (waiter, News::Granted { cell: self.id, grant }),
                    Event::Refused { waiter, refusal } => (waiter, News::Refused { cell: self.id, refusal }),
                    Event::Expired { waiter, permit } => (waiter, News::Ended(permit)),
                };
                let put = waiter.inbox.put(Delivery { request_id: waiter.request_id, what });
                if let Err(Delivery { what: News::Granted { grant, .. }, .. }) = put {
                    returned.push(grant.permit);
                }
            }
            let mut budget = self.budget.borrow_mut();
            for permit in returned {
                budget.report(self.now.get(), permit, &Report::new(Outcome::Cancelled), &mut events);
            }
        }
    }
}

impl Member for Rc<Heart> {
    fn id(&self) -> u32 {
        self.id
    }

    fn join(&self, request: Request<'_, Waiter>, counts: bool) -> Result<Acquired, Option<Fault>> {
        let acquired = self.with(|budget, now, events| match counts {
            true => budget.acquire(now, request, events),
            false => budget.join(now, request, events),
        });
        if counts {
            self.recorded.borrow_mut().push((self.now.get(), None));
        }
        acquired.map_err(|refusal| Some(Fault::from(refusal)))
    }

    fn leave(&self, ticket: Ticket) {
        self.with(|budget, now, events| drop(budget.cancel(now, ticket, events)));
    }

    fn place(&self, ticket: Ticket) -> Option<Place> {
        self.with(|budget, now, _| budget.place(now, ticket))
    }

    fn give_back(&self, permit: PermitKey) {
        self.with(|budget, now, events| {
            budget.report(now, permit, &Report::new(Outcome::Cancelled), events);
        });
    }

    fn record(&self, asked: Time, permit: Option<PermitKey>, _: &Request<'_, Waiter>) {
        self.recorded.borrow_mut().push((asked, permit));
    }
}

/// What became of a request.
#[derive(Debug, PartialEq)]
pub(super) enum Became {
    Permit(usize, PermitKey),
    Refused(&'static str),
}

/// A pool, its members, and whoever asks.
pub(super) struct World {
    pub(super) now: Rc<Cell<Time>>,
    pub(super) hearts: Vec<Rc<Heart>>,
    pub(super) pool: Arc<Pool>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) waiting: BTreeMap<u64, Entry<Rc<Heart>>>,
    pub(super) became: BTreeMap<u64, Became>,
    pub(super) live: Vec<(usize, PermitKey)>,
    pub(super) requests: u64,
}

fn spec(limits: Vec<LimitSpec>) -> CheckedSpec {
    // Nothing ends by itself.
    let permit_ttl = Some(Duration::from_secs(86_400));
    BudgetSpec { limits, permit_ttl, ..BudgetSpec::default() }.check().expect("a sound spec")
}

fn name(at: usize) -> BudgetName {
    BudgetName::new("p", &at.to_string()).expect("a name")
}

impl World {
    /// Members with these limits, and `(prefer, weight)`.
    pub(super) fn new(members: Vec<(Vec<LimitSpec>, (u32, u32))>) -> Self {
        let now = Rc::new(Cell::new(Time::from_nanos(1_000_000_000_000)));
        let mut hearts = Vec::new();
        let mut specs = Vec::new();
        for (at, (limits, (prefer, weight))) in members.into_iter().enumerate() {
            let budget = RefCell::new(Budget::new(&spec(limits), now.get()));
            let heart = Heart {
                id: at as u32,
                now: Rc::clone(&now),
                budget,
                is_deleted: Cell::default(),
                recorded: RefCell::default(),
            };
            hearts.push(Rc::new(heart));
            specs.push(MemberSpec { budget: name(at), prefer, weight });
        }
        let pool = Pool::new("p/any".parse().expect("a name"), PoolSpec { members: specs });
        Self {
            now,
            hearts,
            pool,
            inbox: Arc::default(),
            waiting: BTreeMap::new(),
            became: BTreeMap::new(),
            live: Vec::new(),
            requests: 0,
        }
    }

    pub(super) fn slots(members: &[(u64, (u32, u32))]) -> Self {
        let limits = |slots| vec![LimitSpec::in_flight(slots)];
        Self::new(members.iter().map(|&(slots, ranks)| (limits(slots), ranks)).collect())
    }

    /// A request that nobody was asked for yet, and its id.
    pub(super) fn entry(&mut self, max_wait: Option<Duration>) -> (u64, Entry<Rc<Heart>>) {
        self.requests += 1;
        let asked = Asked {
            tenant: "t".into(),
            model: "".into(),
            priority: Priority::Standard,
            estimate: Usage::default(),
            max_wait,
            gives_up: None,
            at: self.now.get(),
        };
        let answers = (Arc::clone(&self.inbox), self.requests);
        (self.requests, Entry::new(Arc::clone(&self.pool), asked, answers, None))
    }

    pub(super) fn ask(&mut self, max_wait: Option<Duration>) -> u64 {
        let (id, mut entry) = self.entry(max_wait);
        let hearts = self.hearts.clone();
        match entry.enter(self.now.get(), &find(&hearts)) {
            Ok(Some((heart, grant))) => self.permit(id, &heart, &grant),
            Ok(None) => drop(self.waiting.insert(id, entry)),
            Err(fault) => drop(self.became.insert(id, Became::Refused(fault.reason()))),
        }
        self.take_in();
        id
    }

    pub(super) fn ask_many(&mut self, requests: u32) {
        for _ in 0..requests {
            self.ask(None);
        }
    }

    fn permit(&mut self, id: u64, heart: &Rc<Heart>, grant: &Grant) {
        let at = heart.id as usize;
        let before = self.became.insert(id, Became::Permit(at, grant.permit));
        assert_eq!(before, None, "request {id} was answered before");
        self.live.push((at, grant.permit));
    }

    pub(super) fn take_in(&mut self) {
        let mut deliveries = Vec::new();
        self.inbox.take(&mut deliveries);
        let now = self.now.get();
        for Delivery { request_id, what } in deliveries {
            match what {
                News::Granted { cell, grant } => {
                    let mut entry = self.waiting.remove(&request_id).expect("a grant is for who waits");
                    let (heart, grant) = entry.granted(cell, grant, now).expect("it stood there");
                    self.permit(request_id, &heart, &grant);
                }
                News::Refused { cell, refusal } => {
                    let Some(entry) = self.waiting.get_mut(&request_id) else { continue };
                    if let Some(fault) = entry.refused(cell, refusal, now) {
                        self.waiting.remove(&request_id);
                        let before = self.became.insert(request_id, Became::Refused(fault.reason()));
                        assert_eq!(before, None, "request {request_id} was answered before");
                    }
                }
                News::Ended(_) => {}
            }
        }
    }

    /// Time passes, second by second; members are asked again as a session does.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now.get() + span;
        while self.now.get() < end {
            let next = self.hearts.iter().filter_map(|heart| heart.budget.borrow().next_poll()).min();
            let next = next.unwrap_or(end).clamp(self.now.get(), (self.now.get() + SECOND).min(end));
            let stuck = next == self.now.get();
            self.now.set(if stuck { next + Duration::from_nanos(1_000_000) } else { next });
            for heart in &self.hearts {
                heart.with(|budget, now, events| budget.poll(now, events));
            }
            self.take_in();
        }
        self.ask_again();
    }

    pub(super) fn ask_again(&mut self) {
        let hearts = self.hearts.clone();
        for id in self.waiting.keys().copied().collect::<Vec<_>>() {
            let entry = self.waiting.get_mut(&id).expect("still there");
            if let Some((heart, grant)) = entry.ask_again(self.now.get(), &find(&hearts)) {
                self.waiting.remove(&id);
                self.permit(id, &heart, &grant);
            }
            self.take_in();
        }
    }

    pub(super) fn report(&mut self, at: usize, outcome: Outcome, retry_after: Option<Duration>) {
        if self.live.is_empty() {
            return;
        }
        let (member, permit) = self.live.remove(at % self.live.len());
        let report = Report { retry_after, ..Report::new(outcome) };
        self.hearts[member].with(|budget, now, events| drop(budget.report(now, permit, &report, events)));
        self.take_in();
    }

    pub(super) fn cancel(&mut self, at: usize) {
        let Some(&id) = self.waiting.keys().nth(at % self.waiting.len().max(1)) else { return };
        let mut entry = self.waiting.remove(&id).expect("just seen");
        assert!(entry.leave(), "what was granted has been taken in");
        self.became.insert(id, Became::Refused("CANCELLED"));
        self.take_in();
    }

    /// A member is deleted, or declared anew.
    pub(super) fn delete(&mut self, member: usize, is_deleted: bool) {
        let heart = &self.hearts[member];
        heart.is_deleted.set(is_deleted);
        if is_deleted {
            heart.with(|budget, _, events| budget.refuse_waiting(Reason::Deleted, None, events));
        }
        self.take_in();
    }

    /// What was granted by that member is over, and nobody was told yet what that makes of those who wait.
    pub(super) fn free(&mut self, member: usize) {
        let place = self.live.iter().position(|(at, _)| *at == member).expect("a live permit");
        let (_, permit) = self.live.remove(place);
        let done = Report::new(Outcome::Success);
        self.hearts[member].with(|budget, now, events| drop(budget.report(now, permit, &done, events)));
    }

    pub(super) fn granted_ever(&self, member: usize) -> u64 {
        self.hearts[member].budget.borrow_mut().snapshot(self.now.get()).granted_total
    }

    pub(super) fn member_of(&self, id: u64) -> Option<usize> {
        match self.became.get(&id) {
            Some(Became::Permit(at, _)) => Some(*at),
            _ => None,
        }
    }

    /// What has to hold at any time.
    pub(super) fn check(&self) {
        let permits = self.became.values().filter(|became| matches!(became, Became::Permit(..))).count();
        let granted: u64 = self.pool.counts().members().map(|member| member.granted).sum();
        assert_eq!(granted, permits as u64, "permits, as they are counted");
        assert_eq!(self.pool.counts().waiting(), self.waiting.len() as u64, "who waits, as it is counted");
        for (at, heart) in self.hearts.iter().enumerate() {
            let held = self.live.iter().filter(|(member, _)| *member == at).count();
            let budget = heart.budget.borrow();
            assert_eq!(budget.in_flight() as usize, held, "permits of member {at}");
            assert!(
                budget.waiting() as usize <= self.waiting.len(),
                "member {at} has more in its queue than there are"
            );
        }
    }
}

pub(super) fn find(hearts: &[Rc<Heart>]) -> impl Fn(&BudgetName) -> Result<Rc<Heart>, Fault> + '_ {
    |name| {
        let heart = &hearts[name.key().parse::<usize>().expect("a number")];
        match heart.is_deleted.get() {
            true => Err(Fault::from(RegistryError::Unknown { name: name.clone() })),
            false => Ok(Rc::clone(heart)),
        }
    }
}
