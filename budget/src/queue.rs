//! Who waits, in order: a *lane* is first in, first out, and holds the requests of one tenant and class that touch the same set of
//! limits; a *group* holds the lanes of one such set, ordered by the tag of their tenant. Requests are slots of a slab, linked in
//! place, so that adding and removing one costs O(log lanes).

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::{
    chunks::Chunks,
    fair::Flow,
    limit::{LimitSet, Ticks},
    request::{HeldBy, Priority},
    time::Time,
};

const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Queue {
    lanes: Vec<Lane>,
    free: Vec<u32>,
    groups: Vec<Group>,
    group_of: HashMap<LimitSet, u32, foldhash::fast::FixedState>,
    links: Chunks<Link>,
    /// Lanes that a limit of the tenant's own holds back, by when that ends.
    parked: BTreeSet<(Time, u32)>,
    /// Requests by class.
    waiting: [u32; 3],
}

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) tenant: u32,
    pub(crate) class: Priority,
    pub(crate) group: u32,
    pub(crate) len: u32,
    /// Service asked for by everyone in it.
    pub(crate) work: Ticks,
    head: u32,
    tail: u32,
    place: Position,
    /// When and by what it was held back last, by itself.
    held: Option<(Time, HeldBy)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// In its group's order, by the tenant's tag and the head's serial.
    Ordered(Ticks, u64),
    /// Out of the order until then, or until a permit of the tenant ends.
    Parked(Time),
    Nowhere,
}

#[derive(Debug)]
struct Group {
    limits: LimitSet,
    /// By class: (tag, serial of the head, lane).
    order: [BTreeSet<(Ticks, u64, u32)>; 3],
    /// When and by what its first was held back last.
    held: Option<(Time, HeldBy)>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self { previous: NONE, next: NONE }
    }
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            lanes: Vec::new(),
            free: Vec::new(),
            groups: Vec::new(),
            group_of: HashMap::default(),
            links: Chunks::new(),
            parked: BTreeSet::new(),
            waiting: [0; 3],
        }
    }

    pub(crate) fn waiting_in(&self, class: Priority) -> u32 {
        self.waiting[class.index()]
    }

    pub(crate) fn lane(&self, lane: u32) -> &Lane {
        &self.lanes[lane as usize]
    }

    pub(crate) fn lane_mut(&mut self, lane: u32) -> &mut Lane {
        &mut self.lanes[lane as usize]
    }

    /// The limits that the requests of a lane touch.
    pub(crate) fn limits(&self, lane: u32) -> LimitSet {
        self.groups[self.lane(lane).group as usize].limits
    }

    pub(crate) fn head(&self, lane: u32) -> u32 {
        self.lane(lane).head
    }

    /// Requests that are ahead in the lane, the nearest first.
    pub(crate) fn ahead(&self, slot: u32) -> impl Iterator<Item = u32> {
        let before = |slot: u32| Some(self.links[slot as usize].previous).filter(|slot| *slot != NONE);
        std::iter::successors(before(slot), move |slot| before(*slot))
    }

    /// Adds a request at the end of its lane, which it returns. `serial` grows with every request.
    pub(crate) fn push(
        &mut self,
        (tenant, class): (u32, Priority),
        flow: &mut Flow,
        limits: LimitSet,
        slot: u32,
        serial: u64,
        work: Ticks,
    ) -> u32 {
        let group = self.group(limits);
        let lane = match flow.lanes.iter().find(|lane| self.lanes[**lane as usize].group == group) {
            Some(lane) => *lane,
            None => {
                let lane = self.open_lane(tenant, class, group);
                flow.lanes.push(lane);
                lane
            }
        };
        while self.links.len() <= slot as usize {
            self.links.grow();
        }
        let Lane { tail, len, .. } = self.lanes[lane as usize];
        self.links[slot as usize] = Link { previous: tail, next: NONE };
        let entry = &mut self.lanes[lane as usize];
        entry.tail = slot;
        entry.len += 1;
        entry.work = entry.work.saturating_add(work);
        self.waiting[class.index()] += 1;
        if len == 0 {
            entry.head = slot;
            self.order(lane, flow.start, serial);
        } else {
            self.links[tail as usize].next = slot;
        }
        lane
    }

    /// Takes a request out, wherever in its lane it is. `head_serial` tells the serial of the request that comes to the front.
    pub(crate) fn remove(
        &mut self,
        lane: u32,
        flow: &mut Flow,
        slot: u32,
        work: Ticks,
        head_serial: impl FnOnce(u32) -> u64,
    ) {
        let Link { previous, next } = std::mem::take(&mut self.links[slot as usize]);
        let entry = &mut self.lanes[lane as usize];
        entry.len -= 1;
        entry.work = entry.work.saturating_sub(work);
        self.waiting[entry.class.index()] -= 1;
        if next == NONE {
            entry.tail = previous;
        } else {
            self.links[next as usize].previous = previous;
        }
        if previous == NONE {
            self.lanes[lane as usize].head = next;
            self.leave(lane);
            if next != NONE {
                self.order(lane, flow.start, head_serial(next));
            }
        } else {
            self.links[previous as usize].next = next;
        }
        if self.lanes[lane as usize].len == 0 {
            flow.lanes.retain(|open| *open != lane);
            self.free.push(lane);
        }
    }

    /// Puts the lanes of a flow where its tag says after the tag has changed.
    pub(crate) fn reorder(&mut self, flow: &Flow) {
        for lane in &flow.lanes {
            if let Position::Ordered(start, serial) = self.lanes[*lane as usize].place
                && start != flow.start
            {
                self.leave(*lane);
                self.order(*lane, flow.start, serial);
            }
        }
    }

    /// The first lane of a class among those groups that may be looked at.
    pub(crate) fn first(&self, class: Priority, may: impl Fn(u32) -> bool) -> Option<u32> {
        self.groups
            .iter()
            .enumerate()
            .filter(|(at, _)| may(*at as u32))
            .filter_map(|(_, group)| group.order[class.index()].first())
            .min()
            .map(|(_, _, lane)| *lane)
    }

    /// The least tag of a class among those who touch the same limits.
    pub(crate) fn first_start(&self, class: Priority, limits: LimitSet) -> Option<Ticks> {
        let group = self.group_of.get(&limits)?;
        self.groups[*group as usize].order[class.index()].first().map(|(start, ..)| *start)
    }

    /// Lanes of a class in the order of their tags, group by group: `(tag, serial of the head, lane)`.
    pub(crate) fn in_order(
        &self,
        class: Priority,
        limits: LimitSet,
    ) -> impl Iterator<Item = &(Ticks, u64, u32)> {
        self.groups
            .iter()
            .filter(move |group| group.limits & limits != 0 || group.limits == limits)
            .flat_map(move |group| group.order[class.index()].iter())
    }

    /// The first of a group cannot go.
    pub(crate) fn hold_group(&mut self, group: u32, now: Time, held_by: HeldBy) {
        self.groups[group as usize].held = Some((now, held_by));
    }

    /// The first of a lane cannot go, for a reason of its own.
    pub(crate) fn hold_lane(&mut self, lane: u32, now: Time, held_by: HeldBy) {
        self.lane_mut(lane).held = Some((now, held_by));
    }

    /// When and by what the first of a lane was held back last since `asked`, by itself or with its group.
    pub(crate) fn held_since(&self, lane: u32, asked: Time) -> Option<(Time, HeldBy)> {
        let lane = self.lane(lane);
        let holds = [self.groups[lane.group as usize].held, lane.held].into_iter().flatten();
        holds.filter(|(at, _)| *at >= asked).max_by_key(|(at, _)| *at)
    }

    /// What holds back those who touch these limits, if any wait.
    pub(crate) fn held_by_of(&self, limits: LimitSet) -> Option<HeldBy> {
        let group = &self.groups[*self.group_of.get(&limits)? as usize];
        let waits = group.order.iter().any(|class| !class.is_empty());
        group.held.filter(|_| waits).map(|(_, held_by)| held_by)
    }

    /// All lanes in which somebody waits, with how many.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (u32, u32)> {
        self.lanes.iter().enumerate().filter(|(_, lane)| lane.len > 0).map(|(at, lane)| (at as u32, lane.len))
    }

    /// Takes a lane out of the order because of a limit of its tenant's own.
    pub(crate) fn park(&mut self, lane: u32, until: Time) {
        self.leave(lane);
        self.lanes[lane as usize].place = Position::Parked(until);
        self.parked.insert((until, lane));
    }

    /// Puts a parked lane back; its time away is not saved up.
    pub(crate) fn unpark(&mut self, lane: u32, start: Ticks, serial: u64) {
        if let Position::Parked(_) = self.lanes[lane as usize].place {
            self.leave(lane);
            self.order(lane, start, serial);
        }
    }

    pub(crate) fn is_parked(&self, lane: u32) -> bool {
        matches!(self.lanes[lane as usize].place, Position::Parked(_))
    }

    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// The parked lane whose time comes first.
    pub(crate) fn first_parked(&self) -> Option<(Time, u32)> {
        self.parked.first().copied()
    }

    fn group(&mut self, limits: LimitSet) -> u32 {
        if let Some(group) = self.group_of.get(&limits) {
            return *group;
        }
        let group = self.groups.len() as u32;
        self.groups.push(Group { limits, order: Default::default(), held: None });
        self.group_of.insert(limits, group);
        group
    }

    fn open_lane(&mut self, tenant: u32, class: Priority, group: u32) -> u32 {
        let lane = Lane {
            tenant,
            class,
            group,
            len: 0,
            work: 0,
            head: NONE,
            tail: NONE,
            place: Position::Nowhere,
            held: None,
        };
        match self.free.pop() {
            Some(at) => {
                self.lanes[at as usize] = lane;
                at
            }
            None => {
                self.lanes.push(lane);
                self.lanes.len() as u32 - 1
            }
        }
    }

    fn order(&mut self, lane: u32, start: Ticks, serial: u64) {
        let entry = &mut self.lanes[lane as usize];
        entry.place = Position::Ordered(start, serial);
        self.groups[entry.group as usize].order[entry.class.index()].insert((start, serial, lane));
    }

    fn leave(&mut self, lane: u32) {
        let entry = &mut self.lanes[lane as usize];
        match std::mem::replace(&mut entry.place, Position::Nowhere) {
            Position::Ordered(start, serial) => {
                self.groups[entry.group as usize].order[entry.class.index()].remove(&(start, serial, lane));
            }
            Position::Parked(until) => {
                self.parked.remove(&(until, lane));
            }
            Position::Nowhere => {}
        }
    }
}
