//! The scheduler against a simulated queue, with everything that may come late coming late.
//!
//! A world holds the queue's rows as the database would. Steps, chosen by proptest, publish, offer, refill, send, respond,
//! write, report, cancel, hold, retry by hand, lose the shards to another owner and get them back, in any order. What must
//! never happen is checked at every send; what must have happened in the end is checked when the world has come to rest.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

const LANES: u8 = 4;
/// Few of everything, so that limits are met all the time.
const LIMITS: Limits =
    Limits { slots: 5, probes: 1, lane_rows: 4, refill_lanes: 2, held_bytes: 8 * ROW, lane_rows_lean: 2 };

type Name = (EndpointId, EventId);

#[derive(Clone, Copy)]
struct Stored {
    due: Option<Micros>,
    seq: i32,
    /// The event is gone: the row can't be sent.
    orphan: bool,
}

/// A publish under way; `committed` once its rows are stored.
struct Publish {
    reader: Reader,
    rows: Vec<(u8, u32)>,
    committed: bool,
}

struct Reading {
    rooms: Vec<LaneRoom>,
    now: Micros,
    seen: Option<Refill>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Succeeded,
    Retry(Micros),
    Failed,
    /// Nobody knows: cut off, or refused by the database.
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Result {
    turn: Turn,
    outcome: Outcome,
    written: bool,
    /// Whether the database did what was asked, and when a retry is due.
    applied: bool,
    due: Option<Micros>,
}

struct World {
    now: Micros,
    /// When the scheduler last looked at its alarms.
    seen_at: Micros,
    scheduler: Scheduler,
    rows: BTreeMap<Name, Stored>,
    attempts: BTreeMap<Name, i32>,
    /// Turns whose result is in the database.
    done: HashSet<Turn>,
    /// Rows that somebody canceled, once the owner obeys.
    canceled: HashSet<Name>,
    canceling: Vec<Name>,
    terms: BTreeMap<EndpointId, Terms>,
    publishes: Vec<Publish>,
    reading: Option<Reading>,
    in_flight: Vec<(Turn, Start)>,
    results: Vec<Result>,
    last_start: BTreeMap<EndpointId, Micros>,
    /// The lowest row that was stored since the last sweep without anybody being told.
    untold: Option<Uuid>,
    /// How breakers stand, as their owner has told it; and how often it has.
    throttles: BTreeMap<EndpointId, Throttle>,
    throttled: usize,
    is_owner: bool,
    full_sweep: bool,
    events: u32,
    readers: Reader,
    sent: usize,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            now: 1_000 * SECOND,
            seen_at: 1_000 * SECOND,
            scheduler: Scheduler::new(LIMITS),
            rows: BTreeMap::new(),
            attempts: BTreeMap::new(),
            done: HashSet::new(),
            canceled: HashSet::new(),
            canceling: Vec::new(),
            terms: BTreeMap::new(),
            publishes: Vec::new(),
            reading: None,
            in_flight: Vec::new(),
            results: Vec::new(),
            last_start: BTreeMap::new(),
            untold: None,
            throttles: BTreeMap::new(),
            throttled: 0,
            is_owner: true,
            full_sweep: true,
            events: 0,
            readers: 0,
            sent: 0,
        };
        for lane in 0..LANES {
            let terms = Terms {
                tenant_id: tenant(lane % 3),
                max_in_flight: u32::from(lane % 3) + 1,
                rate_per_s: (lane % 2 == 1).then_some(2),
                held: false,
                throttled_until: None,
                throttle_resets: 0,
            };
            world.terms.insert(endpoint(lane), terms);
        }
        world.scheduler.took(world.now);
        world.sweep();
        world
    }

    fn reader(&mut self) -> Reader {
        self.readers += 1;
        self.readers
    }

    fn doubt(&mut self, endpoint: EndpointId, after: Uuid) {
        if self.is_owner {
            self.scheduler.doubt(endpoint, after, self.now);
            self.introduce(endpoint);
        }
    }

    fn introduce(&mut self, endpoint: EndpointId) {
        if self.scheduler.is_stranger(endpoint) {
            self.scheduler.configure(endpoint, self.read_terms(endpoint), self.now);
        }
    }

    /// The endpoint as the database has it, with what was told of its breaker.
    fn read_terms(&self, lane: EndpointId) -> Terms {
        let terms = self.terms[&lane];
        let told = self.throttles.get(&lane).filter(|told| told.resets == terms.throttle_resets);
        let throttled_until = told.and_then(|told| told.until).map(Timestamp::unix_us);
        Terms { throttled_until, ..terms }
    }

    fn begin_publish(&mut self, lanes: u8) {
        let reader = self.reader();
        self.scheduler.reader_begins(reader);
        self.events += 1;
        let rows =
            (0..LANES).filter(|lane| lanes & (1 << lane) != 0).map(|lane| (lane, self.events)).collect();
        self.publishes.push(Publish { reader, rows, committed: false });
    }

    fn commit(&mut self, which: usize) {
        let open: Vec<usize> =
            (0..self.publishes.len()).filter(|at| !self.publishes[*at].committed).collect();
        let Some(at) = pick(&open, which) else { return };
        self.publishes[at].committed = true;
        for (lane, number) in self.publishes[at].rows.clone() {
            self.store(lane, number);
        }
    }

    fn store(&mut self, lane: u8, number: u32) {
        let orphan = number.is_multiple_of(7);
        self.rows.insert((endpoint(lane), event(number)), Stored { due: None, seq: 0, orphan });
    }

    /// The publish tells what it has committed; or its caller has gone away, and it tells nothing.
    fn end_publish(&mut self, which: usize, tells: bool) {
        let at: Vec<usize> = (0..self.publishes.len()).collect();
        let Some(at) = pick(&at, which) else { return };
        let Publish { reader, rows, committed } = self.publishes.swap_remove(at);
        for (lane, number) in rows.into_iter().filter(|_| committed) {
            if tells && self.is_owner {
                self.scheduler.offer(reader, parcel(lane, number), self.now);
                self.introduce(endpoint(lane));
            } else {
                self.nobody_told(event(number));
            }
        }
        self.scheduler.reader_ends(reader);
    }

    fn nobody_told(&mut self, event: EventId) {
        let below = before(event);
        self.untold = Some(self.untold.map_or(below, |other| other.min(below)));
    }

    /// Another node publishes; an id from long ago may turn up now.
    fn remote_publish(&mut self, lane: u8, rings: bool) {
        self.events += 1;
        let number = self.events;
        self.store(lane % LANES, number);
        if rings {
            self.doubt(endpoint(lane % LANES), before(event(number)));
        } else {
            self.nobody_told(event(number));
        }
    }

    fn begin_refill(&mut self) {
        let reader = self.reader();
        let rooms = self.scheduler.refills(reader, self.now);
        if !rooms.is_empty() {
            assert!(self.reading.is_none(), "one refill at a time");
            assert!(rooms.len() <= LIMITS.refill_lanes);
            self.reading = Some(Reading { rooms, now: self.now, seen: None });
        }
    }

    /// The moment of the refill's snapshot.
    fn read(&mut self) {
        let Some(reading) = self.reading.as_mut().filter(|reading| reading.seen.is_none()) else { return };
        let mut seen = Refill::default();
        for room in &reading.rooms {
            let lane = || self.rows.iter().filter(|((lane, _), _)| *lane == room.endpoint_id);
            let fresh = lane()
                .filter(|((_, event), row)| row.due.is_none() && event.uuid() > room.after)
                .take(room.fresh.try_into().unwrap());
            let mut timed: Vec<_> = lane().filter_map(|(name, row)| Some((row.due?, name, row))).collect();
            timed.sort_unstable_by_key(|(due, name, _)| (*due, **name));
            let later = timed.iter().find(|(due, ..)| *due > reading.now);
            seen.later.extend(later.filter(|_| room.timed > 0).map(|(due, ..)| (room.endpoint_id, *due)));
            let timed = timed
                .iter()
                .filter(|(due, ..)| (room.due_from.unix_us()..=reading.now).contains(due))
                .take(room.timed.try_into().unwrap())
                .map(|(_, name, row)| (*name, *row));
            for ((_, event), row) in fresh.chain(timed) {
                let mut parcel = turn(0, 0, row.seq, row.due);
                (parcel.row.endpoint_id, parcel.row.event_id) = (room.endpoint_id, *event);
                if row.orphan {
                    seen.orphans.push(parcel.row);
                } else {
                    seen.parcels.push(parcel);
                }
            }
        }
        reading.seen = Some(seen);
    }

    fn end_refill(&mut self, fails: bool) {
        let Some(reading) = self.reading.take() else { return };
        let seen = reading.seen.filter(|_| !fails);
        for row in self.scheduler.refilled(&reading.rooms, seen, self.now) {
            let turn = row.turn();
            assert!(!self.done.contains(&turn) && self.is_owner);
            assert!(self.results.iter().all(|result| result.turn != turn), "ended twice: {turn:?}");
            self.results.push(Result {
                turn,
                outcome: Outcome::Failed,
                written: false,
                applied: false,
                due: None,
            });
        }
    }

    fn send(&mut self, most: usize) {
        for _ in 0..most {
            let Some(sent) = self.scheduler.next(self.now) else { return };
            self.sent += 1;
            let (turn, start) = (sent.parcel.row.turn(), sent.start);
            let (lane, name) = (turn.endpoint_id, (turn.endpoint_id, turn.event_id));
            let terms = self.terms[&lane];
            let throttle =
                self.throttles.get(&lane).filter(|throttle| throttle.resets == terms.throttle_resets);
            if let Some(until) = throttle.and_then(|throttle| throttle.until) {
                assert!(self.now >= until.unix_us(), "sent although it is throttled");
                assert!(
                    self.in_flight.iter().all(|(other, _)| other.endpoint_id != lane),
                    "two probes at once"
                );
            }
            if let Some(due) = self.rows.get(&name).filter(|row| row.seq == turn.seq).and_then(|row| row.due)
            {
                assert!(self.now >= due, "sent before it is due");
            }
            assert!(self.is_owner, "sent although the shards are somebody else's");
            assert!(!terms.held, "a held lane sends");
            assert!(!self.canceled.contains(&name), "sent after a cancel was obeyed: {turn:?}");
            assert!(!self.done.contains(&turn), "sent again after it was finished: {turn:?}");
            assert!(
                self.in_flight.iter().all(|(other, _)| (other.endpoint_id, other.event_id) != name),
                "at once: {turn:?}"
            );
            assert!(self.results.iter().all(|other| other.turn != turn), "not written yet: {turn:?}");
            if let (Some(rate), Some(last)) = (terms.rate_per_s, self.last_start.get(&lane)) {
                assert!((self.now - last) * Micros::from(rate) >= SECOND, "too soon");
            }
            self.last_start.insert(lane, self.now);
            self.in_flight.push((turn, start));
            let beside = self.in_flight.iter().filter(|(turn, _)| turn.endpoint_id == lane).count();
            assert!(beside <= usize::try_from(terms.max_in_flight).unwrap(), "over the cap");
            assert!(self.in_flight.len() <= LIMITS.slots, "over the slots");
        }
    }

    fn respond(&mut self, which: usize, outcome: Outcome) {
        let at: Vec<usize> = (0..self.in_flight.len()).collect();
        let Some(at) = pick(&at, which) else { return };
        let (turn, start) = self.in_flight.swap_remove(at);
        let lane = turn.endpoint_id;
        // Receivers fail for long stretches, so that breakers open.
        let sign = match outcome {
            Outcome::Succeeded => Sign::Good,
            Outcome::Retry(_) | Outcome::Failed => Sign::Bad,
            Outcome::Lost => Sign::Neither,
        };
        if let Some(throttle) = self.scheduler.responded(lane, start, sign, self.now) {
            assert!(self.is_owner);
            self.throttled += 1;
            self.throttles.insert(lane, throttle);
        }
        if outcome == Outcome::Lost && which.is_multiple_of(2) {
            self.scheduler.lost(turn, self.now);
        } else {
            self.results.push(Result { turn, outcome, written: false, applied: false, due: None });
        }
    }

    /// The flush, as far as the database goes. `fenced`: the shards are another node's.
    fn write(&mut self, which: usize) {
        let open: Vec<usize> = (0..self.results.len()).filter(|at| !self.results[*at].written).collect();
        let Some(at) = pick(&open, which) else { return };
        let mut result = self.results[at];
        result.written = true;
        let (turn, name) = (result.turn, (result.turn.endpoint_id, result.turn.event_id));
        let stands = self.rows.get(&name).is_some_and(|row| row.seq == turn.seq) && self.is_owner;
        result.applied = stands || result.outcome == Outcome::Succeeded;
        match result.outcome {
            Outcome::Lost => {}
            Outcome::Succeeded => {
                self.rows.remove(&name);
                self.attempted(turn);
            }
            Outcome::Failed => {
                if stands {
                    self.rows.remove(&name);
                }
                self.attempted(turn);
            }
            Outcome::Retry(delay) => {
                if stands && let Some(row) = self.rows.get_mut(&name) {
                    (row.due, row.seq) = (Some(self.now + delay), turn.seq + 1);
                    result.due = row.due;
                }
                self.attempted(turn);
            }
        }
        let still_there = self.rows.get(&name).is_some_and(|row| row.seq == turn.seq);
        if result.outcome != Outcome::Lost && !still_there {
            self.done.insert(turn);
        }
        self.results[at] = result;
    }

    fn attempted(&mut self, turn: Turn) {
        let number = self.attempts.entry((turn.endpoint_id, turn.event_id)).or_default();
        *number = (*number).max(turn.seq + 1);
    }

    /// Everything fails for a while, which opens breakers.
    fn storm(&mut self, lanes: u8) {
        for _ in 0..12 {
            self.begin_publish(lanes);
            self.commit(self.publishes.len() - 1);
            self.end_publish(self.publishes.len() - 1, true);
            self.begin_refill();
            self.read();
            self.end_refill(false);
            self.send(LIMITS.slots);
            while !self.in_flight.is_empty() {
                self.respond(0, Outcome::Retry(SECOND));
            }
            while !self.results.is_empty() {
                self.write(0);
                self.report(0);
            }
        }
    }

    fn report(&mut self, which: usize) {
        let written: Vec<usize> = (0..self.results.len()).filter(|at| self.results[*at].written).collect();
        let Some(at) = pick(&written, which) else { return };
        let Result { turn, outcome, applied, due, .. } = self.results.swap_remove(at);
        match outcome {
            Outcome::Lost => self.scheduler.lost(turn, self.now),
            _ if applied => self.scheduler.finished(turn, due, self.now),
            _ => {
                self.scheduler.finished(turn, None, self.now);
                self.doubt(turn.endpoint_id, Uuid::nil());
            }
        }
    }

    fn cancel(&mut self, which: usize) {
        let names: Vec<Name> = self.rows.keys().copied().collect();
        let Some(name) = pick(&names, which) else { return };
        self.rows.remove(&name);
        self.canceling.push(name);
    }

    /// The owner reads the commands and the terms anew.
    fn obey(&mut self) {
        if !self.is_owner {
            return;
        }
        let shards = self.terms.keys().map(|lane| lane.shard()).collect();
        self.scheduler.clear_shards(&shards, self.now);
        for lane in self.terms.keys() {
            self.scheduler.configure(*lane, self.read_terms(*lane), self.now);
        }
        self.canceled.extend(self.canceling.drain(..));
    }

    /// The same of commands to one endpoint.
    fn obey_one(&mut self, lane: u8) {
        if !self.is_owner {
            return;
        }
        let lane = endpoint(lane % LANES);
        self.scheduler.clear_lane(lane, self.now);
        self.scheduler.configure(lane, self.read_terms(lane), self.now);
        let (obeyed, rest) = self.canceling.drain(..).partition(|(other, _)| *other == lane);
        self.canceling = rest;
        let obeyed: Vec<Name> = obeyed;
        self.canceled.extend(obeyed);
    }

    fn hold(&mut self, lane: u8, held: bool) {
        if let Some(terms) = self.terms.get_mut(&endpoint(lane % LANES)) {
            terms.held = held;
        }
        self.obey_one(lane);
    }

    /// A resume, or another URL.
    fn reset(&mut self, lane: u8) {
        if let Some(terms) = self.terms.get_mut(&endpoint(lane % LANES)) {
            terms.throttle_resets += 1;
        }
        self.obey_one(lane);
    }

    fn change_rate(&mut self, lane: u8, rate_per_s: u8) {
        if let Some(terms) = self.terms.get_mut(&endpoint(lane % LANES)) {
            terms.rate_per_s = (rate_per_s > 127).then_some(u32::from(rate_per_s) % 5 + 1);
        }
        self.obey_one(lane);
    }

    /// By hand: due now, or queued again, and the owner is rung for. The commit took some time.
    fn retry(&mut self, which: usize, took: Micros) {
        let names: BTreeSet<Name> = self.attempts.keys().chain(self.rows.keys()).copied().collect();
        let names: Vec<Name> = names.into_iter().collect();
        let Some(name) = pick(&names, which) else { return };
        let number = self.attempts.get(&name).copied().unwrap_or_default();
        let due = Some(self.now - took.min(LATE_COMMIT));
        let row = self.rows.entry(name).or_insert(Stored { due, seq: number, orphan: false });
        if row.due.is_some() {
            row.due = due;
        }
        self.canceled.remove(&name);
        self.canceling.retain(|other| *other != name);
        self.doubt(name.0, Uuid::max());
    }

    fn sweep(&mut self) {
        if !self.is_owner {
            return;
        }
        let after = if std::mem::take(&mut self.full_sweep) {
            Uuid::nil()
        } else {
            self.untold.unwrap_or(Uuid::max())
        };
        self.untold = None;
        let lanes: BTreeSet<EndpointId> = self.rows.keys().map(|(lane, _)| *lane).collect();
        for lane in lanes {
            self.scheduler.sweep(lane, after, self.now);
            self.introduce(lane);
        }
    }

    fn lose(&mut self) {
        if self.is_owner {
            self.is_owner = false;
            self.scheduler.drop_shards(|_| true, self.now);
        }
    }

    /// The owner in between sends a row: nothing of ours is in flight by then, for the lease was cut.
    fn other_owner(&mut self, which: usize, succeeds: bool) {
        let names: Vec<Name> = self.rows.keys().copied().collect();
        let Some(name) = pick(&names, which).filter(|_| !self.is_owner && self.in_flight.is_empty()) else {
            return;
        };
        let Some(row) = self.rows.get_mut(&name) else { return };
        let turn = Turn { endpoint_id: name.0, event_id: name.1, seq: row.seq };
        (row.due, row.seq) = (Some(self.now + SECOND), row.seq + 1);
        if succeeds {
            self.rows.remove(&name);
        }
        self.attempted(turn);
        self.done.insert(turn);
        self.last_start.insert(name.0, self.now);
    }

    fn take_back(&mut self) {
        if !self.is_owner {
            self.is_owner = true;
            self.scheduler.took(self.now);
            self.canceled.extend(self.canceling.drain(..));
            self.full_sweep = true;
            self.sweep();
        }
    }

    fn step(&mut self, (kind, a, b): (u8, u8, u8)) {
        let which = usize::from(a);
        match kind {
            0..=5 => self.begin_publish(a),
            6..=11 => self.commit(which),
            12..=16 => self.end_publish(which, b > 20),
            17..=19 => self.remote_publish(a, b > 100),
            20..=25 => self.begin_refill(),
            26..=31 => self.read(),
            32..=37 => self.end_refill(b < 20),
            38..=45 => self.send(1 + which % 4),
            46..=53 => {
                let outcome = match b % 8 {
                    0 => Outcome::Succeeded,
                    1..=5 => Outcome::Retry(Micros::from(b) * SECOND / 20),
                    6 => Outcome::Failed,
                    _ => Outcome::Lost,
                };
                self.respond(which, outcome);
            }
            54..=59 => self.write(which),
            60..=65 => self.report(which),
            66..=68 => self.now += Micros::from(a) * SECOND / 50,
            69 => self.cancel(which),
            70 if b < 128 => self.obey(),
            70 => self.obey_one(a),
            71 => self.hold(a, b > 127),
            72 => self.retry(which, Micros::from(b) * SECOND / 4),
            73 => self.sweep(),
            74 if b < 100 => self.lose(),
            75 => self.other_owner(which, b > 127),
            76 => self.take_back(),
            77 if b < 40 => self.reset(a),
            78 => self.change_rate(a, b),
            79 => self.storm(a),
            _ => {
                self.scheduler.retire(self.now - SECOND);
            }
        }
        self.scheduler.tick(self.now);
        self.seen_at = self.now;
        self.check();
    }

    /// What holds at any time.
    fn check(&self) {
        assert_eq!(self.scheduler.in_flight(), self.in_flight.len());
        let held: usize = self.scheduler.lanes.values().flat_map(|lane| &lane.ready).map(lane::weight).sum();
        assert_eq!(self.scheduler.held_bytes, held);
        let held: usize = self.scheduler.parties.values().map(|party| party.in_flight()).sum();
        assert_eq!(held, self.in_flight.len());
        // Who stands in line may start, and nobody else does: in the tenant's line, and it in the line of tenants.
        let lanes = self.scheduler.lanes.iter().filter(|(_, lane)| lane.in_line.is_some());
        let standing: BTreeSet<EndpointId> = lanes.map(|(endpoint, _)| *endpoint).collect();
        let in_lines: Vec<EndpointId> =
            self.scheduler.parties.values().flat_map(|party| party.in_line()).collect();
        assert_eq!(in_lines.len(), standing.len(), "a lane is in line twice");
        assert_eq!(in_lines.into_iter().collect::<BTreeSet<_>>(), standing);
        for (endpoint, lane) in &self.scheduler.lanes {
            let is_put_off = lane.awaits_probe && lane.breaker.is_open();
            let may_start = lane.may_send() && lane.next_start_at() <= self.seen_at && !is_put_off;
            assert_eq!(lane.in_line.is_some(), may_start, "{endpoint}");
        }
        let tenants: BTreeSet<TenantId> = standing.iter().map(|lane| self.terms[lane].tenant_id).collect();
        assert_eq!(self.scheduler.line.keys().into_iter().collect::<BTreeSet<_>>(), tenants);
    }

    /// Everything that is under way ends, time passes, and after a sweep or two nothing is left that could be sent.
    fn rest(&mut self) {
        self.take_back();
        while !self.publishes.is_empty() {
            self.commit(0);
            self.end_publish(0, true);
        }
        self.sweep();
        let (mut rounds, most) = (0, 1_000 + 2 * self.rows.len());
        while self.rows.iter().any(|((lane, _), _)| !self.terms[lane].held) || !self.is_quiet() {
            rounds += 1;
            assert!(rounds < most, "these rows are forgotten: {:?}", self.rows.keys().take(5));
            self.begin_refill();
            self.read();
            self.end_refill(false);
            self.send(usize::MAX);
            while !self.in_flight.is_empty() {
                self.respond(0, Outcome::Succeeded);
            }
            while !self.results.is_empty() {
                self.write(0);
                self.report(0);
            }
            if let Some(at) = self.scheduler.next_alarm() {
                self.now = self.now.max(at);
            }
            self.scheduler.tick(self.now);
            self.seen_at = self.now;
            self.check();
        }
        assert_eq!(self.scheduler.in_flight(), 0);
        assert_eq!(self.scheduler.held_bytes, 0);
    }

    fn is_quiet(&self) -> bool {
        let under_way = self.in_flight.len() + self.results.len() + self.scheduler.held_bytes;
        under_way == 0 && self.reading.is_none()
    }
}

fn pick<T: Copy>(from: &[T], which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[which % from.len()])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_sent_twice_and_nothing_is_forgotten(
        steps in proptest::collection::vec((0_u8..81, any::<u8>(), any::<u8>()), 0..400),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.rest();
    }
}

/// The model is worth something only if its steps get through to sending.
#[test]
fn the_model_sends() {
    let mut world = World::new();
    let mut rng = <rand::rngs::SmallRng as rand::SeedableRng>::seed_from_u64(7);
    for _ in 0..20_000 {
        use rand::RngExt;
        world.step((rng.random_range(0..81), rng.random(), rng.random()));
    }
    world.rest();
    assert!(world.sent > 500, "{}", world.sent);
    assert!(world.throttled > 10, "{}", world.throttled);
}
