//! Which delivery is sent next: a pure state machine over lanes, one lane an endpoint.
//!
//! No I/O, no clock of its own: times come in as microseconds. A slot goes to the tenant that has had least slot-time
//! (`share`), and within it to the lane that has had least, so neither rows that wait nor endpoints nor slowness buy more
//! than an equal share. A tenant holds at most twice as many slots as are free (`turns`): whoever comes finds some, however
//! many others hang. A lane sends no more at once than its cap, and starts no sooner than its rate allows. Rows stay *known*
//! from when they are taken in until their result is on disk, so that no second copy of a row, from whichever source, is ever
//! sent beside the first.
//!
//! It deliberately holds few rows a lane: what it does not hold, it knows to exist ([`Scheduler::refills`]).

mod breaker;
mod hunger;
mod lane;
mod line;
mod readers;
mod refills;
mod share;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use uuid::Uuid;

use crate::{
    queue::{Turn, handoff::Parcel},
    types::{EndpointId, EventId, Shard, TenantId, Timestamp},
};
use breaker::Breaker;
use hunger::Hungry;
use lane::Lane;
use line::Line;
use readers::Readers;
use turns::Party;

pub use breaker::Sign;
pub use readers::Reader;
pub use refills::Refill;
pub use turns::{Start, Started};

/// Microseconds of database time.
pub type Micros = i64;

/// A row commits within this time of the moment at which its id was minted or its due time set; those that come later than
/// their neighbours are looked for this far back.
pub const LATE_COMMIT: Micros = 60_000_000;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Attempts at once.
    pub slots: usize,
    /// Of them, for lanes whose breaker is open, together.
    pub probes: usize,
    /// Rows held a lane.
    pub lane_rows: usize,
    /// Lanes read in one refill.
    pub refill_lanes: usize,
    /// Bytes held for rows that wait; beyond it lanes hold [`Limits::lane_rows_lean`], and beyond twice as many one row.
    pub held_bytes: usize,
    pub lane_rows_lean: usize,
}

/// What a lane's endpoint allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub tenant_id: TenantId,
    pub max_in_flight: u32,
    pub rate_per_s: Option<u32>,
    /// Paused, disabled or deleted: nothing is sent.
    pub held: bool,
    /// How the breaker was found by whoever owned the lane before. It counts for a lane that is new here, and when somebody
    /// has reset the breaker since.
    pub throttled_until: Option<Micros>,
    pub throttle_resets: i32,
}

/// What the scheduler holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Lanes whose breaker is open.
    pub throttled: usize,
    /// Rows that are ready to be sent.
    pub rows: usize,
    /// For how long the oldest of those that may be sent has been due.
    pub due_lag: Duration,
}

pub struct Scheduler {
    limits: Limits,
    lanes: HashMap<EndpointId, Lane>,
    /// Held lanes that were forgotten: they have rows, perhaps, that nobody will tell of again.
    unread: HashSet<EndpointId>,
    /// Tenants, and those with a lane that may send now in line.
    parties: HashMap<TenantId, Party>,
    line: Line<TenantId>,
    /// The line's clock.
    clock: Micros,
    /// Lanes that want rows.
    hungry: Hungry,
    alarms: BinaryHeap<Reverse<(Micros, EndpointId)>>,
    in_flight: usize,
    probes: usize,
    awaiting_probe: VecDeque<EndpointId>,
    held_bytes: usize,
    readers: Readers,
    refill: Option<Reader>,
    /// Starts of whoever owned the lanes before are no later than this.
    owned_since: Micros,
}

impl Scheduler {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            unread: HashSet::new(),
            parties: HashMap::new(),
            line: Line::default(),
            clock: 0,
            hungry: Hungry::default(),
            alarms: BinaryHeap::new(),
            in_flight: 0,
            probes: 0,
            awaiting_probe: VecDeque::new(),
            held_bytes: 0,
            readers: Readers::default(),
            refill: None,
            owned_since: Micros::MIN / 2,
        }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// How things stand at `now`. Looks at every lane.
    pub fn survey(&self, now: Micros) -> Survey {
        let due_at = |lane: &Lane| {
            let row = lane.ready.front()?.row;
            Some(row.due_at.unwrap_or_else(|| Timestamp::of_id(row.event_id.uuid())).unix_us())
        };
        let (mut throttled, mut rows, mut oldest) = (0, 0, now);
        for lane in self.lanes.values() {
            throttled += usize::from(lane.breaker.is_open());
            rows += lane.ready.len();
            if lane.may_send() && lane.next_start_at() <= now {
                oldest = oldest.min(due_at(lane).unwrap_or(now));
            }
        }
        let due_lag = Duration::from_micros(u64::try_from(now - oldest).unwrap_or_default());
        Survey { throttled, rows, due_lag }
    }

    /// Shards were taken just now. Whoever had them may have sent till then: lanes with a rate wait for one gap, and
    /// publishes under way may offer what has been sent already.
    pub fn took(&mut self, now: Micros) {
        self.readers.void_all();
        self.owned_since = now;
    }

    /// A publish is about to commit rows that it will [`Scheduler::offer`].
    pub fn reader_begins(&mut self, reader: Reader) {
        self.readers.begin(reader);
    }

    pub fn reader_ends(&mut self, reader: Reader) {
        self.readers.end(reader);
    }

    /// A committed row, fresh from publishing. One that the lane has no place for is read again.
    pub fn offer(&mut self, reader: Reader, parcel: Parcel, now: Micros) {
        let row = parcel.row;
        if self.readers.is_stale(reader, &row) {
            return;
        }
        let (room, void) = (self.lane_room(), self.readers.is_void(reader, row.endpoint_id));
        let lane = self.lane(row.endpoint_id, now);
        lane.used_at = now;
        if lane.knows(&row) {
            return;
        }
        let bytes = if !void && lane.takes_offers(room) {
            lane.cursor = lane.cursor.max(row.event_id.uuid());
            lane.take_in(parcel)
        } else {
            lane.miss(before(row.event_id));
            0
        };
        self.held_bytes += bytes;
        self.wake(row.endpoint_id, now);
    }

    fn lane(&mut self, endpoint: EndpointId, now: Micros) -> &mut Lane {
        let owned_since = self.owned_since;
        let lane = self.lanes.entry(endpoint).or_insert_with(|| {
            let mut lane = Lane::new(owned_since, now);
            lane.more = self.unread.remove(&endpoint);
            lane
        });
        if lane.foreign {
            lane.foreign = false;
            lane.last_start_at = lane.last_start_at.max(owned_since);
        }
        lane
    }

    fn lane_room(&self) -> usize {
        match self.held_bytes / self.limits.held_bytes {
            0 => self.limits.lane_rows,
            1 => self.limits.lane_rows_lean,
            _ => 1,
        }
    }

    /// Says what an endpoint allows, where a lane waits for it.
    pub fn configure(&mut self, endpoint: EndpointId, terms: Terms, now: Micros) {
        let Some(lane) = self.lanes.get_mut(&endpoint).filter(|lane| !lane.foreign) else { return };
        let was_held = lane.is_held();
        let is_told = lane.terms.is_none_or(|known| known.throttle_resets != terms.throttle_resets);
        if is_told {
            lane.breaker = Breaker::told(terms.throttled_until);
        }
        lane.terms = Some(terms);
        if terms.held || was_held || is_told && lane.breaker.is_open() {
            self.held_bytes -= lane.clear(now);
        }
        self.wake(endpoint, now);
    }

    /// Somebody has changed rows of these shards: what waits in memory, or is on its way here, is read again.
    pub fn clear_shards(&mut self, shards: &HashSet<Shard>, now: Micros) {
        self.readers.void(shards.iter().copied());
        for endpoint in self.lanes_in(|shard| shards.contains(&shard)) {
            self.empty(endpoint, now);
        }
    }

    /// The same of one lane.
    pub fn clear_lane(&mut self, endpoint: EndpointId, now: Micros) {
        self.readers.void_lane(endpoint);
        self.empty(endpoint, now);
    }

    fn empty(&mut self, endpoint: EndpointId, now: Micros) {
        if let Some(lane) = self.lanes.get_mut(&endpoint).filter(|lane| !lane.foreign) {
            self.held_bytes -= lane.clear(now);
        }
        self.wake(endpoint, now);
    }

    /// There may be rows of this endpoint that were not offered: fresh ones above `after`, or timed ones.
    pub fn doubt(&mut self, endpoint: EndpointId, after: Uuid, now: Micros) {
        self.lane(endpoint, now).doubt(after, now);
        self.wake(endpoint, now);
    }

    /// A sweep has found the endpoint to have rows; they are doubted when there is nothing more urgent to read. A lane that is
    /// new here begins with that.
    pub fn sweep(&mut self, endpoint: EndpointId, after: Uuid, now: Micros) {
        match self.lanes.get_mut(&endpoint).filter(|lane| !lane.foreign && lane.terms.is_some()) {
            Some(lane) => lane.sweep(after, now),
            None => self.lane(endpoint, now).doubt(after, now),
        }
        self.wake(endpoint, now);
    }

    /// Every row of every lane may have changed.
    pub fn doubt_all(&mut self, now: Micros) {
        for endpoint in self.lanes_in(|_| true) {
            if self.lanes.get(&endpoint).is_some_and(|lane| !lane.foreign) {
                self.doubt(endpoint, Uuid::nil(), now);
            }
        }
    }

    /// Whether the endpoint's terms are wanted before anything of it can be sent.
    pub fn is_stranger(&self, endpoint: EndpointId) -> bool {
        self.lanes.get(&endpoint).is_some_and(|lane| lane.terms.is_none())
    }

    /// The lanes of these shards, with terms or without, oldest first.
    pub fn lanes_in(&self, shards: impl Fn(Shard) -> bool) -> Vec<EndpointId> {
        let mut lanes: Vec<EndpointId> =
            self.lanes.keys().filter(|endpoint| shards(endpoint.shard())).copied().collect();
        lanes.sort_unstable();
        lanes
    }

    /// The result is on disk: gone from the queue, or due again at `due`.
    pub fn finished(&mut self, turn: Turn, due: Option<Micros>, now: Micros) {
        self.readers.finished(turn);
        self.forget(turn);
        if let (Some(lane), Some(due)) = (self.lanes.get_mut(&turn.endpoint_id), due) {
            lane.look_for_timed(due);
        }
        self.wake(turn.endpoint_id, now);
    }

    /// There is no result, or it could not be written: the row is still there, and will be read again.
    pub fn lost(&mut self, turn: Turn, now: Micros) {
        self.forget(turn);
        if let Some(lane) = self.lanes.get_mut(&turn.endpoint_id).filter(|lane| !lane.foreign) {
            lane.doubt(Uuid::nil(), now);
        }
        self.wake(turn.endpoint_id, now);
    }

    fn forget(&mut self, turn: Turn) {
        let Some(lane) = self.lanes.get_mut(&turn.endpoint_id) else { return };
        lane.forget(turn);
        if lane.foreign && lane.is_unknown() {
            self.remove(&[turn.endpoint_id]);
        }
    }

    /// These shards are somebody else's now. What is in flight ends on its own.
    pub fn drop_shards(&mut self, lost: impl Fn(Shard) -> bool, now: Micros) {
        self.readers.void_all();
        self.unread.retain(|endpoint| !lost(endpoint.shard()));
        let mut gone = Vec::new();
        for (endpoint, lane) in self.lanes.iter_mut().filter(|(endpoint, _)| lost(endpoint.shard())) {
            self.held_bytes -= lane.give_up(now);
            if lane.is_unknown() {
                gone.push(*endpoint);
            }
        }
        for endpoint in self.lanes_in(lost) {
            self.wake(endpoint, now);
        }
        self.remove(&gone);
    }

    /// Forgets lanes that have had nothing to do since `before`, and names them.
    pub fn retire(&mut self, before: Micros) -> Vec<EndpointId> {
        let idle = |lane: &Lane| lane.is_idle() && lane.used_at < before;
        let lanes = self.lanes.iter().filter(|(_, lane)| idle(lane));
        let retired: Vec<EndpointId> = lanes
            .map(|(endpoint, lane)| {
                if lane.may_have_more() {
                    self.unread.insert(*endpoint);
                }
                *endpoint
            })
            .collect();
        self.remove(&retired);
        let clock = self.clock;
        self.parties.retain(|_, party| !party.is_idle(clock));
        retired
    }

    /// A lane that comes back later must not find itself in line already.
    fn remove(&mut self, endpoints: &[EndpointId]) {
        if endpoints.is_empty() {
            return;
        }
        for endpoint in endpoints {
            self.stand(*endpoint, false);
            self.lanes.remove(endpoint);
        }
        self.hungry.retain(|endpoint| self.lanes.contains_key(endpoint));
    }
}

/// The id just below an event's.
fn before(event: EventId) -> Uuid {
    Uuid::from_u128(event.uuid().as_u128().saturating_sub(1))
}
