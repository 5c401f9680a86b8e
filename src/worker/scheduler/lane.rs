//! A lane: what the scheduler holds of one endpoint's queue, and what it knows to exist besides.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use super::{
    LATE_COMMIT, Micros, Terms,
    breaker::Breaker,
    hunger::Hunger,
    line::Place,
    share::{Share, Usual},
};
use crate::{
    queue::{Row, Turn, handoff::Parcel, refill::LaneRoom},
    types::{EndpointId, EventId, TenantId, Timestamp},
};

/// What a row takes besides its event's data.
const ROW_BYTES: usize = 512;
/// No row is due before.
pub const EVER: Micros = 0;

pub struct Lane {
    pub terms: Option<Terms>,
    pub ready: VecDeque<Parcel>,
    known: HashMap<EventId, Known>,
    pub in_flight: usize,
    pub last_start_at: Micros,
    /// In which tenant's line it stands, and where.
    pub in_line: Option<(TenantId, Place)>,
    pub share: Share,
    pub usual: Usual,
    pub breaker: Breaker,
    /// It has a probe to send, and waits until fewer are under way.
    pub awaits_probe: bool,
    /// Fresh rows up to here have been taken in.
    pub cursor: Uuid,
    /// There may be fresh rows above the cursor.
    pub more: bool,
    /// When to look for timed rows.
    pub timed_at: Option<Micros>,
    /// Timed rows that are due before have been taken in, or are gone.
    pub timed_from: Micros,
    /// How it stands in line to be read.
    pub hunger: Option<Hunger>,
    /// A sweep asks to read it: fresh rows above this, timed ones from then on.
    swept: Option<(Uuid, Micros)>,
    /// A refill of this lane is under way; the cursor that doubts meanwhile ask for.
    reading: bool,
    doubt_after: Option<Uuid>,
    /// The earliest alarm that is set.
    pub alarm_at: Option<Micros>,
    pub used_at: Micros,
    /// Its shard is somebody else's: it is kept for what is still in flight of it.
    pub foreign: bool,
}

/// A row that is ready, in flight, or whose result is not on disk yet.
struct Known {
    seq: i32,
    sent: bool,
}

impl Lane {
    pub fn new(last_start_at: Micros, now: Micros) -> Self {
        Self {
            terms: None,
            ready: VecDeque::new(),
            known: HashMap::new(),
            in_flight: 0,
            last_start_at,
            in_line: None,
            share: Share::default(),
            usual: Usual::default(),
            breaker: Breaker::default(),
            awaits_probe: false,
            cursor: Uuid::nil(),
            more: false,
            timed_at: None,
            timed_from: EVER,
            hunger: None,
            swept: None,
            reading: false,
            doubt_after: None,
            alarm_at: None,
            used_at: now,
            foreign: false,
        }
    }

    pub fn may_send(&self) -> bool {
        let most = if self.breaker.is_open() { 1 } else { usize::MAX };
        self.terms.is_some_and(|terms| !terms.held && self.in_flight < most.min(terms.max_in_flight as usize))
            && !self.ready.is_empty()
    }

    pub fn next_start_at(&self) -> Micros {
        let rate = self.terms.and_then(|terms| terms.rate_per_s);
        let rated = rate.map_or(Micros::MIN, |rate| self.last_start_at + gap_us(rate));
        rated.max(self.breaker.next_at())
    }

    pub fn is_held(&self) -> bool {
        self.terms.is_some_and(|terms| terms.held)
    }

    /// Whether this row, or a later turn of it, is in hand already. A row that has moved on while the result that moved it
    /// is still being reported is a new one.
    pub fn knows(&self, row: &Row) -> bool {
        self.known.get(&row.event_id).is_some_and(|known| !known.sent || row.seq <= known.seq)
    }

    /// Takes a row in, to be sent. Answers the bytes that it holds.
    pub fn take_in(&mut self, parcel: Parcel) -> usize {
        let bytes = weight(&parcel);
        self.known.insert(parcel.row.event_id, Known { seq: parcel.row.seq, sent: false });
        self.ready.push_back(parcel);
        bytes
    }

    /// Takes out the next row.
    pub fn send(&mut self, now: Micros) -> Option<Parcel> {
        let parcel = self.ready.pop_front()?;
        self.mark_sent(&parcel.row);
        self.in_flight += 1;
        self.last_start_at = now;
        self.used_at = now;
        Some(parcel)
    }

    /// The row is out of our hands; it is known until its result is on disk.
    pub fn mark_sent(&mut self, row: &Row) {
        self.known.insert(row.event_id, Known { seq: row.seq, sent: true });
    }

    /// The turn is over, and with it what is known of its row, unless that has moved on.
    pub fn forget(&mut self, turn: Turn) {
        if self.known.get(&turn.event_id).is_some_and(|known| known.sent && known.seq == turn.seq) {
            self.known.remove(&turn.event_id);
        }
    }

    /// Drops the rows that wait. Answers the bytes that they held.
    pub fn clear(&mut self, now: Micros) -> usize {
        let mut freed = 0;
        for parcel in self.ready.drain(..) {
            self.known.remove(&parcel.row.event_id);
            freed += weight(&parcel);
        }
        self.doubt(Uuid::nil(), now);
        freed
    }

    /// The shard is somebody else's now: nothing but what is in flight is of interest. Answers the bytes that are free.
    pub fn give_up(&mut self, now: Micros) -> usize {
        let freed = self.clear(now);
        self.terms = None;
        (self.cursor, self.more, self.doubt_after) = (Uuid::nil(), false, None);
        (self.timed_at, self.timed_from, self.swept) = (None, EVER, None);
        self.foreign = true;
        freed
    }

    pub fn is_unknown(&self) -> bool {
        self.known.is_empty()
    }

    /// Fresh rows above `after` may be missing here.
    pub fn miss(&mut self, after: Uuid) {
        if self.reading {
            self.doubt_after = Some(self.doubt_after.map_or(after, |other| other.min(after)));
        } else {
            self.more = true;
            self.cursor = self.cursor.min(after);
        }
    }

    /// There may be a row that is due at this time.
    pub fn look_for_timed(&mut self, at: Micros) {
        self.timed_at = Some(self.timed_at.map_or(at, |other| other.min(at)));
        self.timed_from = self.timed_from.min(at);
    }

    /// Fresh rows above `after` may be missing here, and timed ones: of any time where all fresh ones may be, else of
    /// those that commit late.
    pub fn doubt(&mut self, after: Uuid, now: Micros) {
        self.miss(after);
        self.look_for_timed(now);
        self.timed_from = self.timed_from.min(doubted_from(after, now));
    }

    /// A sweep doubts it, for when nothing is more urgent.
    pub fn sweep(&mut self, after: Uuid, now: Micros) {
        // From where it stands now: what is offered until it is read moves the cursor on.
        let (after, from) = (after.min(self.cursor), doubted_from(after, now));
        self.swept =
            Some(self.swept.map_or((after, from), |(other, since)| (other.min(after), since.min(from))));
    }

    /// Whether fresh rows may be there that have not been read.
    pub fn may_have_more(&self) -> bool {
        self.more || self.swept.is_some()
    }

    /// Whether an offered row can be taken in as it is: nothing below it is missing.
    pub fn takes_offers(&self, room: usize) -> bool {
        let is_open = !self.is_held() && !self.breaker.is_open();
        is_open && !self.more && !self.reading && self.ready.len() < room
    }

    /// When to read, where there is something to read and half of the room is free. While the breaker is open, nothing is
    /// held but what may be sent now.
    pub fn reads_at(&self, room: usize) -> Option<Micros> {
        self.may_read_at(if self.more { Micros::MIN } else { self.timed_at? }, room)
    }

    /// The same for what a sweep has found.
    pub fn reads_swept_at(&self, room: usize) -> Option<Micros> {
        self.swept.and_then(|_| self.may_read_at(Micros::MIN, room))
    }

    fn may_read_at(&self, at: Micros, room: usize) -> Option<Micros> {
        if self.reading || self.terms.is_none_or(|terms| terms.held) {
            return None;
        }
        if self.breaker.is_open() {
            let is_parked = self.in_flight == 0 && self.ready.is_empty();
            return is_parked.then(|| at.max(self.breaker.next_at()));
        }
        (self.ready.len() <= room / 2).then_some(at)
    }

    /// Begins a refill: what to read.
    pub fn begin_reading(&mut self, endpoint_id: EndpointId, room: usize, now: Micros) -> LaneRoom {
        if let Some((after, from)) = self.swept.take() {
            self.miss(after);
            self.look_for_timed(now);
            self.timed_from = self.timed_from.min(from);
        }
        // What is known is read again: it must not use up the room of what is not.
        let room = if self.breaker.is_open() { 1 } else { room };
        let most = room.saturating_sub(self.ready.len()) + self.known.len();
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let timed = self.timed_at.is_some_and(|at| at <= now);
        let fresh = self.more && !(timed && self.breaker.prefers_retries());
        let room = LaneRoom {
            endpoint_id,
            after: self.cursor,
            fresh: if fresh { most } else { 0 },
            due_from: Timestamp::from_unix_us(self.timed_from),
            timed: if timed { most } else { 0 },
        };
        if timed {
            // What is due from now on, and what is told of meanwhile, is read the next time.
            (self.timed_at, self.timed_from) = (None, now);
        }
        self.more &= !fresh;
        self.reading = true;
        room
    }

    /// Ends it; fresh rows above the lowest of `unread` are still to be read, and timed ones from `unread_from` on.
    pub fn end_reading(
        &mut self,
        unread: impl Iterator<Item = Uuid>,
        unread_from: Option<Micros>,
        now: Micros,
    ) {
        self.reading = false;
        for after in self.doubt_after.take().into_iter().chain(unread) {
            self.miss(after);
        }
        if let Some(from) = unread_from {
            self.look_for_timed(now);
            self.timed_from = self.timed_from.min(from);
        }
    }

    pub fn is_idle(&self) -> bool {
        self.known.is_empty()
            && !self.reading
            && (self.is_held() || (!self.may_have_more() && self.timed_at.is_none()))
    }
}

/// From when on timed rows may be missing where fresh ones above `after` may be.
fn doubted_from(after: Uuid, now: Micros) -> Micros {
    if after.is_nil() { EVER } else { now - LATE_COMMIT }
}

/// Bytes of a row that is held, with what is kept about it.
pub fn weight(parcel: &Parcel) -> usize {
    parcel.body.data.len() + ROW_BYTES
}

/// Least time between two starts at this rate.
fn gap_us(rate_per_s: u32) -> Micros {
    let rate = i64::from(rate_per_s.max(1));
    (1_000_000 + rate - 1) / rate
}
