//! Which delivery is sent next: a pure state machine over lanes, one lane an endpoint.
//!
//! No I/O, no clock of its own: times come in as microseconds. Lanes take turns, one row each, so a lane with a million
//! rows waiting costs another one row's wait. A lane sends no more at once than its cap, and starts no sooner than its rate
//! allows. Rows stay *known* from when they are taken in until their result is on disk, so that no second copy of a row,
//! from whichever source, is ever sent beside the first.
//!
//! It deliberately holds few rows a lane: what it does not hold, it knows to exist ([`Scheduler::refills`]).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
};

use uuid::Uuid;

use crate::{
    queue::{handoff::Parcel, refill::LaneRoom},
    types::{EndpointId, EventId, Shard},
};

/// Microseconds of database time.
pub type Micros = i64;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Attempts at once.
    pub slots: usize,
    /// Rows held a lane.
    pub lane_rows: usize,
    /// Lanes read in one refill.
    pub refill_lanes: usize,
    /// Bytes of event data held for rows that wait; beyond it lanes hold [`Limits::lane_rows_lean`].
    pub body_bytes: usize,
    pub lane_rows_lean: usize,
}

/// What a lane's endpoint allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub max_in_flight: u32,
    pub rate_per_s: Option<u32>,
    /// Paused, disabled or deleted: nothing is sent.
    pub held: bool,
}

struct Lane {
    terms: Option<Terms>,
    ready: VecDeque<Parcel>,
    /// Ready, in flight, or with a result that is not on disk yet.
    known: HashSet<EventId>,
    in_flight: u32,
    last_start_at: Micros,
    in_ring: bool,
    /// Fresh rows up to here have been taken in.
    cursor: Uuid,
    /// There may be fresh rows above the cursor.
    more: bool,
    /// When to look for timed rows.
    timed_at: Option<Micros>,
    in_hungry: bool,
    /// A refill of this lane is under way; the cursor that doubts meanwhile ask for.
    reading: bool,
    doubt_after: Option<Uuid>,
    /// The earliest alarm that is set.
    alarm_at: Option<Micros>,
    used_at: Micros,
}

impl Lane {
    fn new(last_start_at: Micros, now: Micros) -> Self {
        Self {
            terms: None,
            ready: VecDeque::new(),
            known: HashSet::new(),
            in_flight: 0,
            last_start_at,
            in_ring: false,
            cursor: Uuid::nil(),
            more: false,
            timed_at: None,
            in_hungry: false,
            reading: false,
            doubt_after: None,
            alarm_at: None,
            used_at: now,
        }
    }

    fn may_send(&self) -> bool {
        self.terms.is_some_and(|terms| !terms.held && self.in_flight < terms.max_in_flight)
            && !self.ready.is_empty()
    }

    fn next_start_at(&self) -> Micros {
        let rate = self.terms.and_then(|terms| terms.rate_per_s);
        rate.map_or(Micros::MIN, |rate| self.last_start_at + gap_us(rate))
    }

    /// Fresh rows above `after` may be missing here.
    fn miss(&mut self, after: Uuid) {
        if self.reading {
            self.doubt_after = Some(self.doubt_after.map_or(after, |other| other.min(after)));
        } else {
            self.more = true;
            self.cursor = self.cursor.min(after);
        }
    }

    fn look_for_timed(&mut self, at: Micros) {
        self.timed_at = Some(self.timed_at.map_or(at, |other| other.min(at)));
    }

    /// A lane reads when half of its room is free.
    fn wants(&self, room: usize, now: Micros) -> bool {
        let open = self.terms.is_some_and(|terms| !terms.held);
        let timed = self.timed_at.is_some_and(|at| at <= now);
        open && !self.reading && self.ready.len() <= room / 2 && (self.more || timed)
    }

    fn is_idle(&self) -> bool {
        self.known.is_empty() && !self.reading && self.timed_at.is_none() && (!self.more || self.is_held())
    }

    fn is_held(&self) -> bool {
        self.terms.is_some_and(|terms| terms.held)
    }
}

/// What a refill found.
#[derive(Default)]
pub struct Refill {
    pub parcels: Vec<Parcel>,
    /// When the next row of a lane is due that is not due yet.
    pub later: Vec<(EndpointId, Micros)>,
}

/// Somebody who reads the queue outside the scheduler's sight: a refill, or a publish that will offer what it commits.
pub type Reader = u64;

pub struct Scheduler {
    limits: Limits,
    lanes: HashMap<EndpointId, Lane>,
    /// Lanes that may have something to send, in turn.
    ring: VecDeque<EndpointId>,
    /// Lanes that want rows.
    hungry: VecDeque<EndpointId>,
    alarms: BinaryHeap<Reverse<(Micros, EndpointId)>>,
    in_flight: usize,
    body_bytes: usize,
    ghosts: Ghosts,
    refill: Option<Reader>,
    /// Starts of whoever owned the lanes before are no later than this.
    owned_since: Micros,
}

/// Rows that were finished while somebody was reading: they may be brought back, and must not be taken for new ones.
#[derive(Default)]
struct Ghosts {
    tick: u64,
    /// Who reads, and since when.
    readers: HashMap<Reader, u64>,
    rows: HashSet<(EndpointId, EventId)>,
    by_age: VecDeque<(u64, (EndpointId, EventId))>,
}

impl Ghosts {
    fn begin(&mut self, reader: Reader) {
        self.tick += 1;
        self.readers.insert(reader, self.tick);
    }

    fn end(&mut self, reader: Reader) {
        self.readers.remove(&reader);
        let oldest = self.readers.values().copied().min().unwrap_or(u64::MAX);
        while self.by_age.front().is_some_and(|(tick, _)| *tick < oldest) {
            if let Some((_, row)) = self.by_age.pop_front() {
                self.rows.remove(&row);
            }
        }
    }

    fn add(&mut self, endpoint: EndpointId, event: EventId) {
        if !self.readers.is_empty() && self.rows.insert((endpoint, event)) {
            self.by_age.push_back((self.tick, (endpoint, event)));
        }
    }

    fn has(&self, endpoint: EndpointId, event: EventId) -> bool {
        self.rows.contains(&(endpoint, event))
    }
}

impl Scheduler {
    /// `owned_since`: when the first shards were taken; lanes with a rate wait for one gap from then.
    pub fn new(limits: Limits, owned_since: Micros) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            ring: VecDeque::new(),
            hungry: VecDeque::new(),
            alarms: BinaryHeap::new(),
            in_flight: 0,
            body_bytes: 0,
            ghosts: Ghosts::default(),
            refill: None,
            owned_since,
        }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A publish is about to commit rows that it will [`Scheduler::offer`].
    pub fn reader_begins(&mut self, reader: Reader) {
        self.ghosts.begin(reader);
    }

    pub fn reader_ends(&mut self, reader: Reader) {
        self.ghosts.end(reader);
    }

    /// A committed row, fresh from publishing. False where the lane does not hold it: it will be read again.
    pub fn offer(&mut self, parcel: Parcel, now: Micros) -> bool {
        let (endpoint, event) = (parcel.row.endpoint_id, parcel.row.event_id);
        if self.ghosts.has(endpoint, event) {
            return true;
        }
        let room = self.lane_room();
        let lane = self.lanes.entry(endpoint).or_insert_with(|| Lane::new(self.owned_since, now));
        lane.used_at = now;
        if lane.known.contains(&event) {
            return true;
        }
        let taken = !lane.is_held() && !lane.more && !lane.reading && lane.ready.len() < room;
        if taken {
            lane.cursor = lane.cursor.max(event.uuid());
            Self::take_in(lane, &mut self.body_bytes, parcel);
        } else {
            lane.miss(before(event));
        }
        self.wake(endpoint, now);
        taken
    }

    fn take_in(lane: &mut Lane, body_bytes: &mut usize, parcel: Parcel) {
        *body_bytes += parcel.body.data.len();
        lane.known.insert(parcel.row.event_id);
        lane.ready.push_back(parcel);
    }

    fn lane_room(&self) -> usize {
        if self.body_bytes < self.limits.body_bytes {
            self.limits.lane_rows
        } else {
            self.limits.lane_rows_lean
        }
    }

    /// Says what an endpoint allows, where a lane waits for it.
    pub fn configure(&mut self, endpoint: EndpointId, terms: Terms, now: Micros) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        let was_held = lane.is_held();
        lane.terms = Some(terms);
        if terms.held || was_held {
            self.clear(endpoint, now);
        }
        self.wake(endpoint, now);
    }

    /// Drops the rows that wait in memory; what still stands is read again.
    pub fn clear(&mut self, endpoint: EndpointId, now: Micros) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        for parcel in lane.ready.drain(..) {
            lane.known.remove(&parcel.row.event_id);
            self.body_bytes -= parcel.body.data.len();
        }
        lane.miss(Uuid::nil());
        lane.look_for_timed(now);
        self.wake(endpoint, now);
    }

    /// There may be rows of this endpoint that were not offered: fresh ones above `after`, or timed ones.
    pub fn doubt(&mut self, endpoint: EndpointId, after: Uuid, now: Micros) {
        let lane = self.lanes.entry(endpoint).or_insert_with(|| Lane::new(self.owned_since, now));
        lane.miss(after);
        lane.look_for_timed(now);
        self.wake(endpoint, now);
    }

    /// Every row of every lane may have changed.
    pub fn doubt_all(&mut self, now: Micros) {
        let endpoints: Vec<EndpointId> = self.lanes.keys().copied().collect();
        for endpoint in endpoints {
            self.doubt(endpoint, Uuid::nil(), now);
        }
    }

    /// Whether the endpoint's terms are wanted before anything of it can be sent.
    pub fn is_stranger(&self, endpoint: EndpointId) -> bool {
        self.lanes.get(&endpoint).is_some_and(|lane| lane.terms.is_none())
    }

    /// The lanes of these shards, with terms or without.
    pub fn lanes_in(&self, shards: impl Fn(Shard) -> bool) -> Vec<EndpointId> {
        self.lanes.keys().filter(|endpoint| shards(endpoint.shard())).copied().collect()
    }

    /// The next row to send, if any may be sent now.
    pub fn next(&mut self, now: Micros) -> Option<Parcel> {
        self.ring_alarms(now);
        while self.in_flight < self.limits.slots {
            let endpoint = self.ring.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
            lane.in_ring = false;
            if !lane.may_send() {
                continue;
            }
            let start_at = lane.next_start_at();
            if start_at > now {
                Self::set_alarm(&mut self.alarms, lane, endpoint, start_at);
                continue;
            }
            let Some(parcel) = lane.ready.pop_front() else { continue };
            self.body_bytes -= parcel.body.data.len();
            lane.in_flight += 1;
            lane.last_start_at = now;
            lane.used_at = now;
            self.in_flight += 1;
            self.wake(endpoint, now);
            return Some(parcel);
        }
        None
    }

    /// The response is in, or there will be none: the slot is free.
    pub fn responded(&mut self, endpoint: EndpointId, now: Micros) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
        }
        self.wake(endpoint, now);
    }

    /// The result is on disk: gone from the queue, or due again at `due`.
    pub fn finished(&mut self, endpoint: EndpointId, event: EventId, due: Option<Micros>, now: Micros) {
        self.ghosts.add(endpoint, event);
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.known.remove(&event);
            if let Some(due) = due {
                lane.look_for_timed(due);
            }
        }
        self.wake(endpoint, now);
    }

    /// Lanes to read, and how much of each. One refill is under way at a time; [`Scheduler::refilled`] ends it.
    pub fn refills(&mut self, reader: Reader, now: Micros) -> Vec<LaneRoom> {
        let mut rooms = Vec::new();
        if self.refill.is_some() {
            return rooms;
        }
        self.ring_alarms(now);
        let room = self.lane_room();
        while rooms.len() < self.limits.refill_lanes {
            let Some(endpoint) = self.hungry.pop_front() else { break };
            let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
            lane.in_hungry = false;
            if !lane.wants(room, now) {
                continue;
            }
            let timed = lane.timed_at.is_some_and(|at| at <= now);
            // What is known is read again: it must not use up the room of what is not.
            let most = count(room.saturating_sub(lane.ready.len()) + lane.known.len());
            rooms.push(LaneRoom {
                endpoint_id: endpoint,
                after: lane.cursor,
                fresh: if lane.more { most } else { 0 },
                timed: if timed { most } else { 0 },
            });
            if timed {
                lane.timed_at = None;
            }
            lane.more = false;
            lane.reading = true;
        }
        if !rooms.is_empty() {
            self.refill = Some(reader);
            self.ghosts.begin(reader);
        }
        rooms
    }

    /// The answer to [`Scheduler::refills`], or its failure (`None`: look again).
    pub fn refilled(&mut self, rooms: &[LaneRoom], refill: Option<Refill>, now: Micros) {
        let failed = refill.is_none();
        let Refill { parcels, later } = refill.unwrap_or_default();
        for (endpoint, due) in later {
            if let Some(lane) = self.lanes.get_mut(&endpoint) {
                lane.look_for_timed(due);
            }
        }
        // Rows that were read a lane: fresh ones, and timed ones that are due.
        let mut read: HashMap<EndpointId, (u32, u32)> = HashMap::new();
        for parcel in parcels {
            let (endpoint, event) = (parcel.row.endpoint_id, parcel.row.event_id);
            let counts = read.entry(endpoint).or_default();
            let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
            if parcel.row.due_at.is_some() {
                counts.1 += 1;
            } else {
                counts.0 += 1;
                lane.cursor = lane.cursor.max(event.uuid());
            }
            if !lane.is_held() && !lane.known.contains(&event) && !self.ghosts.has(endpoint, event) {
                Self::take_in(lane, &mut self.body_bytes, parcel);
            }
        }
        if let Some(reader) = self.refill.take() {
            self.ghosts.end(reader);
        }
        for room in rooms {
            let (fresh, timed) = read.get(&room.endpoint_id).copied().unwrap_or_default();
            if let Some(lane) = self.lanes.get_mut(&room.endpoint_id) {
                lane.reading = false;
                let doubts = [
                    lane.doubt_after.take(),
                    (failed && room.fresh > 0).then_some(room.after),
                    (room.fresh > 0 && fresh >= room.fresh).then_some(lane.cursor),
                    lane.is_held().then_some(Uuid::nil()),
                ];
                for after in doubts.into_iter().flatten() {
                    lane.miss(after);
                }
                if room.timed > 0 && (failed || timed >= room.timed || lane.is_held()) {
                    lane.look_for_timed(now);
                }
            }
            self.wake(room.endpoint_id, now);
        }
    }

    /// These shards are somebody else's now. What is in flight ends on its own.
    pub fn drop_shards(&mut self, lost: impl Fn(Shard) -> bool) {
        let mut freed = 0;
        self.lanes.retain(|endpoint, lane| {
            let gone = lost(endpoint.shard());
            if gone {
                freed += lane.ready.iter().map(|parcel| parcel.body.data.len()).sum::<usize>();
            }
            !gone
        });
        self.body_bytes -= freed;
    }

    /// Forgets lanes that have had nothing to do since `before`, and names them.
    pub fn retire(&mut self, before: Micros) -> Vec<EndpointId> {
        let idle = |lane: &Lane| lane.is_idle() && lane.in_flight == 0 && lane.used_at < before;
        let retired: Vec<EndpointId> =
            self.lanes.iter().filter(|(_, lane)| idle(lane)).map(|(endpoint, _)| *endpoint).collect();
        for endpoint in &retired {
            self.lanes.remove(endpoint);
        }
        retired
    }

    /// When something changes by itself: a rate allows a start, a retry is due.
    pub fn next_alarm(&self) -> Option<Micros> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    fn ring_alarms(&mut self, now: Micros) {
        while let Some(Reverse((at, endpoint))) = self.alarms.peek().copied() {
            if at > now {
                break;
            }
            self.alarms.pop();
            if let Some(lane) =
                self.lanes.get_mut(&endpoint).filter(|lane| lane.alarm_at.is_some_and(|set| set <= now))
            {
                lane.alarm_at = None;
            }
            self.wake(endpoint, now);
        }
    }

    fn set_alarm(
        alarms: &mut BinaryHeap<Reverse<(Micros, EndpointId)>>,
        lane: &mut Lane,
        endpoint: EndpointId,
        at: Micros,
    ) {
        if lane.alarm_at.is_none_or(|set| at < set) {
            lane.alarm_at = Some(at);
            alarms.push(Reverse((at, endpoint)));
        }
    }

    /// Puts a lane where it belongs after any change.
    fn wake(&mut self, endpoint: EndpointId, now: Micros) {
        let room = self.lane_room();
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        if lane.may_send() && !lane.in_ring {
            let start_at = lane.next_start_at();
            if start_at > now {
                Self::set_alarm(&mut self.alarms, lane, endpoint, start_at);
            } else {
                lane.in_ring = true;
                self.ring.push_back(endpoint);
            }
        }
        if lane.wants(room, now) {
            if !lane.in_hungry {
                lane.in_hungry = true;
                self.hungry.push_back(endpoint);
            }
        } else if let Some(at) = lane.timed_at.filter(|at| *at > now) {
            Self::set_alarm(&mut self.alarms, lane, endpoint, at);
        }
    }
}

/// Least time between two starts at this rate.
fn gap_us(rate_per_s: u32) -> Micros {
    let rate = i64::from(rate_per_s.max(1));
    (1_000_000 + rate - 1) / rate
}

fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}

/// The id just below an event's.
fn before(event: EventId) -> Uuid {
    Uuid::from_u128(event.uuid().as_u128().saturating_sub(1))
}
