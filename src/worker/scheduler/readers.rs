//! Whoever reads the queue outside the scheduler's sight may bring back what is no longer so.
//!
//! A refill, or a publish that will offer what it commits, takes its picture of the queue at some moment after it began.
//! What has happened since it began must not be undone by it: rows that were finished ([`Readers::is_stale`]), and lanes and
//! whole shards whose rows may have changed by somebody else's hand ([`Readers::is_void`]).

use std::collections::{HashMap, VecDeque};

use crate::{
    queue::{Row, Turn},
    types::{EndpointId, EventId, Shard},
};

/// A refill, or a publish.
pub type Reader = u64;

#[derive(Default)]
pub struct Readers {
    /// Counts beginnings; everything else happens at the tick of the last one.
    tick: u64,
    began: HashMap<Reader, u64>,
    finished: HashMap<(EndpointId, EventId), Finished>,
    by_age: VecDeque<(u64, (EndpointId, EventId))>,
    voided: HashMap<Shard, u64>,
    voided_lanes: HashMap<EndpointId, u64>,
    all_voided: u64,
}

#[derive(Clone, Copy)]
struct Finished {
    at: u64,
    seq: i32,
}

impl Readers {
    pub fn begin(&mut self, reader: Reader) {
        self.tick += 1;
        self.began.insert(reader, self.tick);
    }

    pub fn end(&mut self, reader: Reader) {
        self.began.remove(&reader);
        let oldest = self.began.values().copied().min().unwrap_or(u64::MAX);
        while self.by_age.front().is_some_and(|(at, _)| *at < oldest) {
            if let Some((at, row)) = self.by_age.pop_front()
                && self.finished.get(&row).is_some_and(|last| last.at == at)
            {
                self.finished.remove(&row);
            }
        }
        self.voided.retain(|_, at| *at >= oldest);
        self.voided_lanes.retain(|_, at| *at >= oldest);
    }

    /// The result of this turn is on disk.
    pub fn finished(&mut self, turn: Turn) {
        if self.began.is_empty() {
            return;
        }
        let row = (turn.endpoint_id, turn.event_id);
        self.finished.insert(row, Finished { at: self.tick, seq: turn.seq });
        self.by_age.push_back((self.tick, row));
    }

    /// Rows of these shards may have been changed or finished by others.
    pub fn void(&mut self, shards: impl Iterator<Item = Shard>) {
        if !self.began.is_empty() {
            self.voided.extend(shards.map(|shard| (shard, self.tick)));
        }
    }

    /// Rows of this lane may have been.
    pub fn void_lane(&mut self, endpoint: EndpointId) {
        if !self.began.is_empty() {
            self.voided_lanes.insert(endpoint, self.tick);
        }
    }

    pub fn void_all(&mut self) {
        self.all_voided = self.tick;
    }

    fn began(&self, reader: Reader) -> u64 {
        self.began.get(&reader).copied().unwrap_or_default()
    }

    /// The row's turn was finished after the reader began, so the row is a picture of before.
    pub fn is_stale(&self, reader: Reader, row: &Row) -> bool {
        let last = self.finished.get(&(row.endpoint_id, row.event_id));
        last.is_some_and(|last| self.began(reader) <= last.at && row.seq <= last.seq)
    }

    /// Nothing that the reader says of the lane counts.
    pub fn is_void(&self, reader: Reader, endpoint: EndpointId) -> bool {
        let began = self.began(reader);
        let shard = self.voided.get(&endpoint.shard()).is_some_and(|at| began <= *at);
        let lane = self.voided_lanes.get(&endpoint).is_some_and(|at| began <= *at);
        began <= self.all_voided || shard || lane
    }
}
