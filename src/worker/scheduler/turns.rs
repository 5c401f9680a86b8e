//! Whose turn it is: tenants in line, lanes in their tenant's line, and alarms for those whose time will come.
//!
//! Slots are not taken back, and a receiver may hang for half a minute: who comes later must find some free. So a tenant
//! holds at most twice as many slots as are free; for a lane that has few in flight ([`FEW`]) it may be three times as many,
//! so that endpoints beside those that hang find some, too. The last slots ([`Scheduler::reserve`]) are for tenants that hold
//! none. What is not needed is not set aside: a tenant alone may hold two thirds, and of `n` that hang each two in 2n + 1.
//! Nobody has to be known for slow.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    Micros, Scheduler, Sign,
    hunger::Hunger,
    lane::{Lane, weight},
    line::{Line, Place},
    share::Share,
};
use crate::{
    queue::{finish::Throttle, handoff::Parcel},
    types::{EndpointId, TenantId, Timestamp},
};

/// A lane with fewer in flight has few.
const FEW: usize = 4;
/// One part of so many slots is for tenants that hold none.
const RESERVE: usize = 16;

/// Where lanes with few in flight stand in their tenant's line; the others stand behind.
const HAS_FEW: usize = 0;
const HAS_MANY: usize = 1;

/// What the scheduler knows of a tenant.
#[derive(Default)]
pub struct Party {
    in_flight: usize,
    share: Share,
    /// Its lanes that may send now, and the clock of their line.
    line: Line<EndpointId>,
    clock: Micros,
    place: Option<Place>,
}

impl Party {
    /// Where it belongs in a line whose limit is six times what is free.
    fn stands(&self, reserve: usize, clock: Micros) -> Option<Place> {
        let has_few = self.line.least_held()? == HAS_FEW;
        let holds = match (self.in_flight, has_few) {
            (0, _) => 0,
            (held, true) => 6 * reserve + 2 * held,
            (held, false) => 6 * reserve + 3 * held,
        };
        Some(Place { holds, served: self.share.at(clock) })
    }

    /// The lane that is next, where the tenant may start something while so many slots are free.
    fn next(&self, free: usize, reserve: usize) -> Option<EndpointId> {
        let may_start_any = self.in_flight == 0 || self.in_flight < 2 * free.saturating_sub(reserve);
        self.line.first(if may_start_any { HAS_MANY + 1 } else { HAS_FEW + 1 })
    }

    #[cfg(test)]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    #[cfg(test)]
    pub fn in_line(&self) -> Vec<EndpointId> {
        self.line.keys()
    }

    /// Whether forgetting it changes nothing.
    pub fn is_idle(&self, clock: Micros) -> bool {
        self.in_flight == 0 && self.place.is_none() && self.share.is_even(clock)
    }
}

/// A start, to be told of again when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    tenant_id: TenantId,
    at: Micros,
    charged: Micros,
    /// It began while the lane's breaker was open.
    probe: bool,
}

/// A row to send now.
pub struct Started {
    pub parcel: Parcel,
    pub start: Start,
}

impl Scheduler {
    /// The next row to send, if any may be sent now.
    pub fn next(&mut self, now: Micros) -> Option<Started> {
        self.tick(now);
        for _ in self.probes..self.limits.probes {
            let Some(endpoint) = self.awaiting_probe.pop_front() else { break };
            if let Some(lane) = self.lanes.get_mut(&endpoint) {
                lane.awaits_probe = false;
            }
            self.wake(endpoint, now);
        }
        let (tenant_id, endpoint) = self.first()?;
        let party = self.parties.get_mut(&tenant_id)?;
        let lane = self.lanes.get_mut(&endpoint)?;
        let probe = lane.breaker.is_open();
        let parcel = lane.send(now)?;
        let charged = lane.usual.guess();
        lane.share.charge(&mut party.clock, charged);
        party.share.charge(&mut self.clock, charged);
        party.in_flight += 1;
        self.in_flight += 1;
        self.probes += usize::from(probe);
        self.held_bytes -= weight(&parcel);
        self.wake(endpoint, now);
        Some(Started { parcel, start: Start { tenant_id, at: now, charged, probe } })
    }

    /// The tenant and the lane that are next. Probes beyond their number are put off.
    fn first(&mut self) -> Option<(TenantId, EndpointId)> {
        let free = self.limits.slots.saturating_sub(self.in_flight);
        loop {
            let tenant_id = self.line.first(6 * free)?;
            let endpoint = self.parties.get(&tenant_id)?.next(free, self.reserve())?;
            let lane = self.lanes.get_mut(&endpoint)?;
            if !lane.breaker.is_open() || self.probes < self.limits.probes {
                return Some((tenant_id, endpoint));
            }
            lane.awaits_probe = true;
            self.awaiting_probe.push_back(endpoint);
            self.stand(endpoint, false);
        }
    }

    /// The response is in, or there will be none: the slot is free. Answers what the endpoint's owner is to know of its
    /// breaker, where that has changed.
    pub fn responded(
        &mut self,
        endpoint: EndpointId,
        start: Start,
        sign: Sign,
        now: Micros,
    ) -> Option<Throttle> {
        let took = (now - start.at).max(0);
        let missing = took - start.charged;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.probes -= usize::from(start.probe);
        let mut throttle = None;
        let party = self.parties.entry(start.tenant_id).or_default();
        party.in_flight = party.in_flight.saturating_sub(1);
        party.share.settle(self.clock, missing);
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
            lane.usual.learn(took);
            lane.share.settle(party.clock, missing);
            let was_open = lane.breaker.is_open();
            if let Some(terms) = lane.terms
                && let Some(change) = lane.breaker.ended(sign, start.probe, now)
            {
                let until = change.map(Timestamp::from_unix_us);
                throttle = Some(Throttle { until, resets: terms.throttle_resets });
            }
            if lane.breaker.is_open() && !was_open {
                self.held_bytes -= lane.clear(now);
            }
        }
        self.move_up(start.tenant_id);
        self.wake(endpoint, now);
        throttle
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
        let start_at = lane.may_send().then(|| lane.next_start_at());
        if let Some(at) = start_at.filter(|at| *at > now) {
            Self::set_alarm(&mut self.alarms, lane, endpoint, at);
        }
        let mut hunger = None;
        for (kind, at) in [(Hunger::Swept, lane.reads_swept_at(room)), (Hunger::Hurried, lane.reads_at(room))]
        {
            match at {
                Some(at) if at > now => Self::set_alarm(&mut self.alarms, lane, endpoint, at),
                Some(_) => hunger = Some(kind),
                None => {}
            }
        }
        if let (Some(kind), Some(terms)) = (hunger, lane.terms)
            && lane.hunger < hunger
        {
            lane.hunger = hunger;
            self.hungry.push(kind, terms.tenant_id, endpoint);
        }
        let is_put_off = lane.awaits_probe && lane.breaker.is_open();
        self.stand(endpoint, !is_put_off && start_at.is_some_and(|at| at <= now));
    }

    /// Puts a lane in its tenant's line, or takes it out, and the tenant along with it.
    pub(super) fn stand(&mut self, endpoint: EndpointId, may_start: bool) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        let tenant_id = lane.terms.filter(|_| may_start).map(|terms| terms.tenant_id);
        if let Some((left, place)) = lane.in_line.filter(|(tenant, _)| tenant_id != Some(*tenant)) {
            lane.in_line = None;
            if let Some(party) = self.parties.get_mut(&left) {
                party.line.shift(endpoint, Some(place), None);
            }
            self.move_up(left);
        }
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        let Some(tenant_id) = tenant_id else { return };
        let party = self.parties.entry(tenant_id).or_default();
        let place = Place {
            holds: if lane.in_flight < FEW { HAS_FEW } else { HAS_MANY },
            served: lane.share.at(party.clock),
        };
        party.line.shift(endpoint, lane.in_line.map(|(_, place)| place), Some(place));
        lane.in_line = Some((tenant_id, place));
        self.move_up(tenant_id);
    }

    /// Slots for tenants that hold none.
    fn reserve(&self) -> usize {
        self.limits.slots / RESERVE
    }

    /// Puts a tenant where it belongs.
    fn move_up(&mut self, tenant_id: TenantId) {
        let reserve = self.reserve();
        let Some(party) = self.parties.get_mut(&tenant_id) else { return };
        let place = party.stands(reserve, self.clock);
        self.line.shift(tenant_id, party.place, place);
        party.place = place;
    }
}
