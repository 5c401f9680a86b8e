//! Whose turn it is: lanes in line, and alarms for those whose time will come.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{Micros, Scheduler, lane::Lane};
use crate::{queue::handoff::Parcel, types::EndpointId};

impl Scheduler {
    /// The next row to send, if any may be sent now.
    pub fn next(&mut self, now: Micros) -> Option<Parcel> {
        self.tick(now);
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
            let Some(parcel) = lane.send(now) else { continue };
            self.body_bytes -= parcel.body.data.len();
            self.in_flight += 1;
            self.wake(endpoint, now);
            return Some(parcel);
        }
        None
    }

    /// When something changes by itself: a rate allows a start, a retry is due.
    pub fn next_alarm(&self) -> Option<Micros> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    /// Puts lanes where they belong whose time has come. Whether or not anything may be sent: an alarm is told once.
    pub fn tick(&mut self, now: Micros) {
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
    pub(super) fn wake(&mut self, endpoint: EndpointId, now: Micros) {
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
