//! Reading what is not held in memory: which lanes, how much of each, and what to make of the answer.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Micros, Reader, Scheduler, hunger::Hunger, lane::EVER};
use crate::{
    queue::{Row, handoff::Parcel, refill::LaneRoom},
    types::EndpointId,
};

/// One part of so many of a refill's lanes is for those that a sweep has found.
const SWEPT: usize = 5;

/// What a refill found.
#[derive(Default)]
pub struct Refill {
    pub parcels: Vec<Parcel>,
    /// Rows whose event is gone.
    pub orphans: Vec<Row>,
    /// When the next row of a lane is due that is not due yet.
    pub later: Vec<(EndpointId, Micros)>,
}

/// Rows of a lane that were read.
#[derive(Clone, Copy, Default)]
struct Read {
    fresh: u32,
    /// Timed ones that are due, and when the last of them was.
    timed: u32,
    up_to: Micros,
}

impl Scheduler {
    /// Lanes to read, and how much of each. One refill is under way at a time; [`Scheduler::refilled`] ends it.
    pub fn refills(&mut self, reader: Reader, now: Micros) -> Vec<LaneRoom> {
        let mut rooms = Vec::new();
        if self.refill.is_some() {
            return rooms;
        }
        self.tick(now);
        let most = self.limits.refill_lanes;
        for (hunger, most) in
            [(Hunger::Hurried, most - most.div_ceil(SWEPT)), (Hunger::Swept, most), (Hunger::Hurried, most)]
        {
            self.take_hungry(hunger, most, &mut rooms, now);
        }
        if !rooms.is_empty() {
            self.refill = Some(reader);
            self.readers.begin(reader);
        }
        rooms
    }

    /// Takes lanes out of line until there are so many.
    fn take_hungry(&mut self, hunger: Hunger, most: usize, rooms: &mut Vec<LaneRoom>, now: Micros) {
        let room = self.lane_room();
        while rooms.len() < most {
            let Some(endpoint) = self.hungry.pop(hunger) else { return };
            let lane = self.lanes.get_mut(&endpoint).filter(|lane| lane.hunger == Some(hunger));
            let Some(lane) = lane else { continue };
            lane.hunger = None;
            let at = lane.reads_at(room).into_iter().chain(lane.reads_swept_at(room)).min();
            if at.is_some_and(|at| at <= now) {
                rooms.push(lane.begin_reading(endpoint, room, now));
            }
        }
    }

    /// The answer to [`Scheduler::refills`], or its failure (`None`: look again). Answers the rows that can't be sent any
    /// more since their event is gone: they are to be ended.
    pub fn refilled(&mut self, rooms: &[LaneRoom], refill: Option<Refill>, now: Micros) -> Vec<Row> {
        let Some(reader) = self.refill.take() else { return Vec::new() };
        let failed = refill.is_none();
        let Refill { parcels, orphans, later } = refill.unwrap_or_default();
        for (endpoint, due) in later {
            if let Some(lane) = self.lanes.get_mut(&endpoint) {
                lane.look_for_timed(due);
            }
        }
        let mut read: HashMap<EndpointId, Read> = HashMap::new();
        let mut ended = Vec::new();
        let parcels = parcels.into_iter().map(|parcel| (parcel.row, Some(parcel)));
        for (row, parcel) in parcels.chain(orphans.into_iter().map(|row| (row, None))) {
            let read = read.entry(row.endpoint_id).or_default();
            let Some(lane) = self.lanes.get_mut(&row.endpoint_id) else { continue };
            if let Some(due_at) = row.due_at {
                read.timed += 1;
                read.up_to = read.up_to.max(due_at.unix_us());
            } else {
                read.fresh += 1;
                lane.cursor = lane.cursor.max(row.event_id.uuid());
            }
            let outdated =
                self.readers.is_stale(reader, &row) || self.readers.is_void(reader, row.endpoint_id);
            if outdated || lane.foreign || lane.is_held() || lane.knows(&row) {
                continue;
            }
            match parcel {
                Some(parcel) => self.held_bytes += lane.take_in(parcel),
                None => {
                    lane.mark_sent(&row);
                    ended.push(row);
                }
            }
        }
        for room in rooms {
            let read = read.get(&room.endpoint_id).copied().unwrap_or_default();
            let void = self.readers.is_void(reader, room.endpoint_id);
            if let Some(lane) = self.lanes.get_mut(&room.endpoint_id) {
                let again = void || lane.is_held();
                let unread = [
                    (failed && room.fresh > 0).then_some(room.after),
                    (room.fresh > 0 && read.fresh >= room.fresh).then_some(lane.cursor),
                    again.then_some(Uuid::nil()),
                ];
                let unread_from = if again {
                    Some(EVER)
                } else if room.timed > 0 && failed {
                    Some(room.due_from.unix_us())
                } else {
                    (room.timed > 0 && read.timed >= room.timed).then_some(read.up_to)
                };
                lane.end_reading(unread.into_iter().flatten(), unread_from, now);
            }
            self.wake(room.endpoint_id, now);
        }
        self.readers.end(reader);
        ended
    }
}
