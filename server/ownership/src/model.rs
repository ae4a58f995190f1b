//! Two servers, etcd, one budget and a provider that counts for itself. What is said may be late or lost, servers die and come back, leases
//! end at any moment from their time on, and clocks run apart.
//!
//! Where one order of things includes another, only the worse is looked at: a renewal comes to etcd as soon as it is sent, so that the lease
//! ends as early there as it can; and an answer of etcd to a write comes at once or not at all.

use stateright::{Model, Property};

use crate::{
    etcd::{Etcd, Kept, Write},
    server::{Seat, Server, Standing},
};

pub(crate) const SERVERS: usize = 2;
/// What the bucket holds; it refills by one with each step of time.
pub(crate) const BURST: u8 = 2;
/// What a write sets aside.
pub(crate) const SET_ASIDE: u8 = 1;
/// Steps of time that a lease lasts.
pub(crate) const LEASE: u8 = 2;
/// How much of it is not used, since clocks run apart.
const MARGIN: u8 = 1;
/// Writes that were given up and may still come.
const LATE_MAX: usize = 1;

pub(crate) const NEVER_OVER: &str = "never over";
pub(crate) const ONE_OWNER: &str = "one owner grants";

/// What keeps owners apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// A budget is claimed only if nobody has it.
    OneClaim,
    /// An owner stops when its lease could have lapsed by its own clock.
    OwnClock,
    /// A lease counts from when it was asked for.
    CountedFromAsking,
    /// The end of a lease is not used.
    Margin,
    /// A write names the claim that it is made under.
    Fencing,
    /// Before the next write, the claim is written anew under which a write was given up.
    ClaimedAnew,
    /// The same for a claim that is taken back.
    TakenBackAnew,
    /// Nothing is granted that was not set aside before.
    SetAside,
    /// What was set aside counts as granted for the next owner.
    AsideIsGranted,
}

impl Guard {
    /// Those that are missed only as time passes.
    pub(crate) const OF_TIME: [Self; 3] = [Self::OwnClock, Self::CountedFromAsking, Self::Margin];
    /// The others.
    pub(crate) const OF_ORDER: [Self; 6] = [
        Self::OneClaim,
        Self::Fencing,
        Self::ClaimedAnew,
        Self::TakenBackAnew,
        Self::SetAside,
        Self::AsideIsGranted,
    ];
}

/// The model.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// Claims that are made or written anew.
    pub(crate) revisions: u8,
    pub(crate) without: Option<Guard>,
    /// Whether time passes.
    pub(crate) has_time: bool,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    etcd: Etcd,
    servers: [Server; SERVERS],
    /// What the provider would take.
    room: i8,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Time passes; the clock of one server may fall behind.
    Time {
        lags: Option<usize>,
    },
    /// A lease has ended in etcd.
    LeaseEnds(usize),
    /// A server gets a lease.
    Enter(usize),
    /// A server dies, or gives everything up.
    Fall(usize),
    Renew(usize),
    HearRenewal(usize),
    /// The budget is claimed, and what is kept of it is loaded.
    Claim(usize),
    Grant(usize),
    Save(usize),
    /// What is saved comes to etcd; `heard`, and the server knows.
    Write {
        server: usize,
        heard: bool,
    },
    GiveUpWrite(usize),
    /// A write comes that was given up.
    LateWrite(usize),
    /// The claim is written anew; `heard`, and the server knows.
    ClaimAnew {
        server: usize,
        heard: bool,
    },
    /// A budget is to be handed over: the owner grants nothing more of it.
    Leave(usize),
    /// The claim is deleted.
    Release(usize),
    /// The budget is given up, and the claim stands: etcd was not heard, or did not hear.
    Stray(usize),
    /// What is claimed by a server that does not have it is loaded by that server.
    TakeBack(usize),
}

impl Cluster {
    fn has(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    fn usable(&self) -> u8 {
        if self.has(Guard::Margin) { LEASE - MARGIN } else { LEASE }
    }

    /// What one server may do, and what may happen to what it says.
    fn steps_of(&self, world: &World, at: usize, steps: &mut Vec<Step>) {
        let (server, etcd) = (&world.servers[at], &world.etcd);
        if etcd.leases[at] == Some(0) {
            steps.push(Step::LeaseEnds(at));
        }
        let Some(standing) = server.standing else {
            if etcd.leases[at].is_none() {
                steps.push(Step::Enter(at));
            }
            return;
        };
        steps.push(Step::Fall(at));
        if self.has_time && !standing.lagged {
            steps.push(Step::Time { lags: Some(at) });
        }
        match server.renewal {
            None if etcd.leases[at].is_some() => steps.push(Step::Renew(at)),
            None => {}
            Some(_) => steps.push(Step::HearRenewal(at)),
        }
        let is_free = etcd.claim.is_none() || !self.has(Guard::OneClaim);
        match &server.seat {
            Some(seat) => self.steps_of_owner(world, at, seat, steps),
            None if is_free && etcd.leases[at].is_some() => steps.push(Step::Claim(at)),
            None if etcd.claim.is_some_and(|claim| claim.owner == at) => steps.push(Step::TakeBack(at)),
            None => {}
        }
    }

    fn steps_of_owner(&self, world: &World, at: usize, seat: &Seat, steps: &mut Vec<Step>) {
        let in_time = world.servers[at].is_leased() || !self.has(Guard::OwnClock);
        let covered = seat.left > 0 || !self.has(Guard::SetAside);
        if seat.level > 0 && in_time && covered && !seat.leaving {
            steps.push(Step::Grant(at));
        }
        match &seat.writing {
            Some(_) => {
                steps.extend([true, false].map(|heard| Step::Write { server: at, heard }));
                steps.push(Step::GiveUpWrite(at));
            }
            None if seat.doubted => {
                steps.extend([true, false].map(|heard| Step::ClaimAnew { server: at, heard }));
            }
            None => steps.push(Step::Save(at)),
        }
        if !seat.leaving {
            steps.push(Step::Leave(at));
        } else if seat.writing.is_none() {
            steps.extend([Step::Release(at), Step::Stray(at)]);
        }
    }

    /// What an owner does, or what happens to what it wrote. `None`: nothing.
    fn step_owner(&self, world: &mut World, at: usize, step: Step) -> Option<()> {
        let World { etcd, servers, room } = world;
        let seat = servers[at].seat.as_mut()?;
        match step {
            Step::Grant(_) => {
                seat.grant();
                *room -= 1;
            }
            Step::Save(_) => seat.save(),
            Step::Write { heard, .. } => {
                let writing = seat.writing.take()?;
                let is_made = etcd.write(&writing.write, self.has(Guard::Fencing));
                let claim = etcd.claim.filter(|claim| claim.made == seat.made);
                match claim {
                    _ if !heard => seat.doubted = self.has(Guard::ClaimedAnew),
                    _ if is_made => seat.confirm(&writing),
                    // It was written anew by a call of which nothing was heard.
                    Some(claim) => seat.written = claim.written,
                    None => servers[at].seat = None,
                }
            }
            Step::GiveUpWrite(_) => {
                let writing = seat.writing.take()?;
                seat.doubted = self.has(Guard::ClaimedAnew);
                world.comes_late(writing.write);
            }
            Step::ClaimAnew { heard, .. } => match &mut etcd.claim {
                Some(claim) if claim.made == seat.made => {
                    etcd.revision += 1;
                    claim.written = etcd.revision;
                    if heard {
                        (seat.written, seat.doubted) = (claim.written, false);
                    }
                }
                _ => servers[at].seat = None,
            },
            Step::Leave(_) => seat.leaving = true,
            Step::Release(_) => {
                etcd.claim = etcd.claim.filter(|claim| claim.made != seat.made);
                servers[at].seat = None;
            }
            Step::Stray(_) => servers[at].seat = None,
            _ => return None,
        }
        Some(())
    }

    /// What a server does about its lease and its claims.
    fn step_server(&self, world: &mut World, at: usize, step: Step) {
        let World { etcd, servers, .. } = world;
        let server = &mut servers[at];
        match step {
            Step::Enter(_) => {
                etcd.leases[at] = Some(LEASE);
                server.standing = Some(Standing { left: self.usable(), lagged: false });
            }
            Step::Fall(_) => {
                if let Some(write) = server.fall() {
                    world.comes_late(write);
                }
            }
            Step::Renew(_) => {
                etcd.renew(at);
                server.renewal = Some(0);
            }
            Step::HearRenewal(_) => {
                let age = server.renewal.take().filter(|_| self.has(Guard::CountedFromAsking)).unwrap_or(0);
                let left = self.usable().saturating_sub(age);
                server.standing = Some(Standing { left, lagged: false });
            }
            Step::Claim(_) => {
                let made = etcd.claim(at);
                server.seat = Some(Seat::load(made, etcd.kept, self.has(Guard::AsideIsGranted)));
            }
            Step::TakeBack(_) => {
                server.seat = etcd.claim.map(|claim| Seat {
                    written: claim.written,
                    doubted: self.has(Guard::TakenBackAnew),
                    ..Seat::load(claim.made, etcd.kept, self.has(Guard::AsideIsGranted))
                });
            }
            _ => {}
        }
    }
}

impl World {
    /// A write was given up; with many of them it is lost.
    fn comes_late(&mut self, write: Write) {
        if self.etcd.late.len() < LATE_MAX {
            self.etcd.late.push(write);
            self.etcd.late.sort_unstable();
        }
    }
}

impl Model for Cluster {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let kept = Kept { level: BURST, aside: 0 };
        let etcd = Etcd { leases: [None; SERVERS], claim: None, kept, revision: 0, late: Vec::new() };
        vec![World { etcd, servers: Default::default(), room: BURST.cast_signed() }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if self.has_time {
            steps.push(Step::Time { lags: None });
        }
        for at in 0..SERVERS {
            self.steps_of(world, at, steps);
        }
        steps.extend((0..world.etcd.late.len()).map(Step::LateWrite));
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        match step {
            Step::Time { lags } => {
                world.etcd.tick();
                world.room = (world.room + 1).min(BURST.cast_signed());
                for (at, server) in world.servers.iter_mut().enumerate() {
                    server.tick(lags == Some(at));
                }
            }
            Step::LeaseEnds(at) => world.etcd.end_lease(at),
            Step::LateWrite(number) => {
                let write = world.etcd.late.remove(number);
                world.etcd.write(&write, self.has(Guard::Fencing));
            }
            Step::Enter(at)
            | Step::Fall(at)
            | Step::Renew(at)
            | Step::HearRenewal(at)
            | Step::Claim(at)
            | Step::TakeBack(at) => self.step_server(&mut world, at, step),
            Step::Grant(at)
            | Step::Save(at)
            | Step::Write { server: at, .. }
            | Step::GiveUpWrite(at)
            | Step::ClaimAnew { server: at, .. }
            | Step::Leave(at)
            | Step::Release(at)
            | Step::Stray(at) => self.step_owner(&mut world, at, step)?,
        }
        Some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.etcd.revision <= self.revisions
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NEVER_OVER, |_, world: &World| world.room >= 0),
            Property::always(ONE_OWNER, |_, world: &World| {
                let grants = |server: &&Server| server.is_leased() && server.seat.is_some();
                world.servers.iter().filter(grants).count() <= 1
            }),
            // What would be true of a model in which nothing happens is not all that is true of this one.
            Property::sometimes("a second owner grants all", |_, world: &World| {
                let is_later = |seat: &Seat| seat.made > 1 && seat.level == 0;
                world.room == 0 && world.servers[1].seat.as_ref().is_some_and(is_later)
            }),
            Property::sometimes("a write that comes late is refused", |_, world: &World| {
                let claim = world.etcd.claim;
                claim.is_some_and(|claim| world.etcd.late.iter().any(|write| write.under < claim.written))
            }),
        ]
    }
}
