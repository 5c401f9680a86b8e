//! Simulated receivers on a simulated clock: who gets how much of the slots, and who waits for whom.

use std::collections::{BTreeMap, HashMap};

use super::*;

/// An endpoint with rows waiting, and how long its receiver takes.
#[derive(Clone, Copy)]
pub struct Receiver {
    pub tenant: u8,
    pub max_in_flight: u32,
    pub took: Micros,
    pub waiting: u32,
    pub sign: Sign,
}

pub struct Simulation {
    pub now: Micros,
    pub scheduler: Scheduler,
    receivers: Vec<Receiver>,
    next_row: Vec<u32>,
    /// Attempts under way, by their end.
    ends: BTreeMap<(Micros, u64), (usize, Turn, Start)>,
    /// Publishes to come: when, and to whom.
    arrivals: BTreeMap<(Micros, u64), usize>,
    arrived: HashMap<(usize, EventId), Micros>,
    count: u64,
    /// Slot-time of each receiver.
    pub served: Vec<Micros>,
    /// How long each arrival waited for its start, by receiver.
    pub waits: Vec<Vec<Micros>>,
    pub starts: Vec<(Micros, usize)>,
}

fn lane_of(receiver: usize) -> EndpointId {
    Uuid::from_u128(0xf000_0000 | u128::try_from(receiver).unwrap()).into()
}

impl Simulation {
    pub fn new(slots: usize, receivers: &[Receiver]) -> Self {
        let limits = Limits {
            slots,
            probes: slots / 8,
            lane_rows: 64,
            refill_lanes: 50,
            held_bytes: 8 << 20,
            lane_rows_lean: 8,
        };
        let count = receivers.len();
        let mut simulation = Self {
            now: 1_000 * SECOND,
            scheduler: Scheduler::new(limits),
            receivers: receivers.to_vec(),
            next_row: vec![1; count],
            ends: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            arrived: HashMap::new(),
            count: 0,
            served: vec![0; count],
            waits: vec![Vec::new(); count],
            starts: Vec::new(),
        };
        for (at, receiver) in receivers.iter().enumerate() {
            simulation.scheduler.doubt(lane_of(at), Uuid::nil(), simulation.now);
            let terms =
                Terms { tenant_id: tenant(receiver.tenant), max_in_flight: receiver.max_in_flight, ..OPEN };
            simulation.scheduler.configure(lane_of(at), terms, simulation.now);
        }
        simulation
    }

    /// An event for this receiver, so long from now.
    pub fn arrives(&mut self, receiver: usize, after: Micros) {
        self.count += 1;
        self.arrivals.insert((self.now + after, self.count), receiver);
    }

    /// So many rows more are found waiting for this receiver.
    pub fn waits_for(&mut self, receiver: usize, rows: u32) {
        self.receivers[receiver].waiting += rows;
        self.scheduler.doubt(lane_of(receiver), Uuid::nil(), self.now);
    }

    fn row(&mut self, receiver: usize) -> Parcel {
        let number = self.next_row[receiver];
        self.next_row[receiver] += 1;
        let mut parcel = parcel(0, number);
        parcel.row.endpoint_id = lane_of(receiver);
        parcel
    }

    fn refill(&mut self) {
        loop {
            let rooms = self.scheduler.refills(REFILL, self.now);
            if rooms.is_empty() {
                return;
            }
            let mut parcels = Vec::new();
            for room in &rooms {
                let receiver = (0..self.receivers.len()).find(|at| lane_of(*at) == room.endpoint_id).unwrap();
                for _ in 0..room.fresh.min(self.receivers[receiver].waiting) {
                    self.receivers[receiver].waiting -= 1;
                    parcels.push(self.row(receiver));
                }
            }
            self.scheduler.refilled(&rooms, Some(Refill { parcels, ..Refill::default() }), self.now);
        }
    }

    fn start_all(&mut self) {
        self.refill();
        while let Some(Started { parcel, start }) = self.scheduler.next(self.now) {
            let row = parcel.row;
            let receiver =
                (0..self.receivers.len()).find(|at| lane_of(*at) == row.endpoint_id).expect("a receiver");
            self.count += 1;
            let ends_at = self.now + self.receivers[receiver].took;
            self.ends.insert((ends_at, self.count), (receiver, row.turn(), start));
            self.starts.push((self.now, receiver));
            if let Some(at) = self.arrived.remove(&(receiver, row.event_id)) {
                self.waits[receiver].push(self.now - at);
            }
            self.refill();
        }
    }

    /// Lets this much time pass.
    pub fn run(&mut self, time: Micros) {
        let until = self.now + time;
        loop {
            self.start_all();
            let next = [
                self.ends.first_key_value().map(|((at, _), _)| *at),
                self.arrivals.first_key_value().map(|((at, _), _)| *at),
                self.scheduler.next_alarm(),
            ];
            let next = next.into_iter().flatten().min().unwrap_or(until);
            if next > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.ends.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (receiver, turn, start) = entry.remove();
                self.served[receiver] += self.receivers[receiver].took;
                let sign = self.receivers[receiver].sign;
                self.scheduler.responded(lane_of(receiver), start, sign, self.now);
                self.scheduler.finished(turn, None, self.now);
            }
            while let Some(entry) = self.arrivals.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let receiver = entry.remove();
                let parcel = self.row(receiver);
                self.arrived.insert((receiver, parcel.row.event_id), self.now);
                publish(&mut self.scheduler, [parcel], self.now);
            }
            if self.now == until && self.ends.is_empty() && self.arrivals.is_empty() {
                return;
            }
        }
    }

    pub fn in_flight(&self, receiver: usize) -> usize {
        self.ends.values().filter(|(at, ..)| *at == receiver).count()
    }
}
