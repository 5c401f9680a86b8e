//! What the owner is told, and what follows from it.

use std::{collections::HashSet, time::Duration};

use uuid::Uuid;

use super::{
    super::{
        attempt::Outcome,
        drain::Scope,
        flusher::{Item, Report, Written},
        keeper::Tenure,
        reading::Found,
        retry::Next,
        scheduler::{LATE_COMMIT, Micros, Sign, Terms},
    },
    Attempted, Loaded, Message, Owner, Targets,
};
use crate::{
    endpoints::Target,
    queue::{bell::Ring, handoff::Handed, refill::LaneRoom},
    types::{EndpointId, Shard, TenantId, Timestamp},
};

/// Lanes and targets that were not used for so long are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Why a delivery fails whose sending has killed the process again and again.
const POISON: &str = "poison: the process died each time that this was sent";

/// Readers of the queue, as the scheduler knows them: publishes have even numbers, refills odd ones.
fn publish_reader(publish: u64) -> u64 {
    publish * 2
}

impl Owner {
    pub(super) fn take_in(&mut self, message: Message) {
        let now = self.now();
        match message {
            Message::Tenure(tenure) => self.tenure(tenure, now),
            Message::Rang(rings) => {
                for ring in rings {
                    self.doubt(ring.endpoint_id, ring.above, now);
                }
            }
            Message::Commanded => self.commands_rung = true,
            Message::Commands(node, pending) => {
                self.reading_commands = false;
                if node == self.node {
                    pending.unwrap_or_default().iter().for_each(|pending| self.drain.hear(pending));
                }
            }
            Message::NotAcknowledged(acks) => self.drain.not_acknowledged(&acks),
            Message::Loaded(loaded) => self.loaded(loaded, now),
            Message::Refilled { rooms, found } => self.refilled(&rooms, found, now),
            Message::Swept { full, lanes } => self.swept(full, lanes, now),
            Message::Attempted(attempted) => self.attempted(*attempted, now),
            Message::Flushed(report) => self.flushed(report, now),
        }
    }

    pub(super) fn tenure(&mut self, tenure: Tenure, now: Micros) {
        match tenure {
            Tenure::Began { node, lease } => {
                self.node = node;
                self.lease = Some(lease);
            }
            Tenure::Took { shards, unclean } => {
                for shard in shards {
                    self.owned[shard.index()] = true;
                    if unclean {
                        self.unclean.insert(shard);
                        self.cleared.retain(|endpoint| endpoint.shard() != shard);
                    }
                }
                self.scheduler.took(now);
                self.full_sweep = true;
                self.commands_rung = true;
                if self.stopping {
                    self.leave_all();
                }
            }
            Tenure::Renewed(lease) => {
                self.lease = Some(lease);
                self.scheduler.doubt_all(now);
                self.full_sweep = true;
            }
            Tenure::Leave(shards) => self.leave_shards(&shards, now),
            Tenure::Lost => {
                self.lease = None;
                self.node = Uuid::nil();
                self.owned.fill(false);
                self.unclean.clear();
                self.cleared.clear();
                self.scheduler.drop_shards(|_| true, now);
                self.drain.forget();
                self.leave.forget();
                // Changes are told to the new owner from now on.
                self.targets.clear();
                self.plans.clear();
                self.wanted.clear();
                self.gone.clear();
            }
        }
    }

    /// Told to stop: each shard goes to another node as soon as it is at rest, whatever hangs elsewhere.
    pub(super) fn leave_all(&mut self) {
        let owned = (0_i32..).zip(&self.owned).filter(|(_, owned)| **owned);
        let shards: Vec<Shard> = owned.map(|(column, _)| Shard::from_column(column)).collect();
        self.leave_shards(&shards, self.now());
    }

    /// Nothing of these shards is started any more; whoever takes them reads everything anew.
    fn leave_shards(&mut self, shards: &[Shard], now: Micros) {
        let leaving: HashSet<Shard> = shards.iter().copied().collect();
        let is_left = |endpoint: &EndpointId| leaving.contains(&endpoint.shard());
        for shard in shards {
            self.owned[shard.index()] = false;
            self.unclean.remove(shard);
        }
        self.scheduler.drop_shards(|shard| leaving.contains(&shard), now);
        self.cleared.retain(|endpoint| !is_left(endpoint));
        self.targets.retain(|endpoint, _| !is_left(endpoint));
        self.plans.retain(|endpoint, _| !is_left(endpoint));
        self.wanted.retain(|endpoint| !is_left(endpoint));
        self.gone.retain(|endpoint, _| !is_left(endpoint));
        self.leave.told(shards);
    }

    /// Rows of publishes that are not older than this may still turn up below their neighbours.
    pub(super) fn late_bound(&self) -> Uuid {
        Timestamp::from_unix_us(self.now() - LATE_COMMIT).lowest_id()
    }

    pub(super) fn doubt(&mut self, endpoint: EndpointId, after: Uuid, now: Micros) {
        if self.owns(endpoint) {
            self.scheduler.doubt(endpoint, after, now);
            self.introduce(endpoint, now);
        }
    }

    /// A lane that is new to the scheduler gets its terms, or they are asked for.
    pub(super) fn introduce(&mut self, endpoint: EndpointId, now: Micros) {
        if !self.scheduler.is_stranger(endpoint) {
            return;
        }
        match self.targets.get(&endpoint) {
            Some(target) => self.scheduler.configure(endpoint, terms(target), now),
            None => {
                self.wanted.insert(endpoint);
            }
        }
    }

    pub(super) fn handed(&mut self, handed: Handed) {
        let now = self.now();
        match handed {
            Handed::Begins { publish } => self.scheduler.reader_begins(publish_reader(publish)),
            Handed::Ends { publish, committed } => {
                for parcel in committed {
                    let endpoint = parcel.row.endpoint_id;
                    if self.owns(endpoint) {
                        self.scheduler.offer(publish_reader(publish), parcel, now);
                        self.introduce(endpoint, now);
                    } else {
                        let _ = self.rings.send(Ring::of(&parcel));
                    }
                }
                self.scheduler.reader_ends(publish_reader(publish));
            }
        }
    }

    pub(super) fn loaded(&mut self, loaded: Loaded, now: Micros) {
        self.loading = false;
        let Loaded { node, orders, asked, targets } = loaded;
        if node != self.node {
            return;
        }
        match targets {
            Some(targets) => {
                let mut shards = HashSet::new();
                for order in &orders {
                    match order.scope {
                        Scope::Endpoint(endpoint) => self.scheduler.clear_lane(endpoint, now),
                        Scope::Shard(shard) => {
                            shards.insert(shard);
                        }
                    }
                }
                if !shards.is_empty() {
                    self.scheduler.clear_shards(&shards, now);
                }
                self.know(&asked, targets, now);
                self.drain.loaded(&orders);
            }
            None => {
                self.wanted.extend(asked);
                self.drain.not_loaded(&orders);
            }
        }
    }

    /// What was asked for and is not among the targets no longer exists, or can't be opened: nothing is sent to it.
    pub(super) fn know(&mut self, asked: &[EndpointId], mut targets: Targets, now: Micros) {
        // What has been left meanwhile is read anew should it come back.
        for endpoint in asked.iter().filter(|endpoint| self.owned[endpoint.shard().index()]) {
            self.plans.remove(endpoint);
            let is_news = |written: &Option<u64>| written.is_some_and(|load| load < self.loads);
            if self.gone.get(endpoint).is_some_and(|(_, written)| is_news(written)) {
                self.gone.remove(endpoint);
            }
            match targets.remove(endpoint).filter(|_| !self.gone.contains_key(endpoint)) {
                Some(target) => {
                    self.scheduler.configure(*endpoint, terms(&target), now);
                    self.targets.insert(*endpoint, target);
                }
                None => {
                    self.targets.remove(endpoint);
                    let nothing = Terms {
                        tenant_id: TenantId::from_uuid(Uuid::nil()),
                        max_in_flight: 0,
                        rate_per_s: None,
                        held: true,
                        throttled_until: None,
                        throttle_resets: 0,
                    };
                    self.scheduler.configure(*endpoint, nothing, now);
                }
            }
        }
    }

    pub(super) fn refilled(&mut self, rooms: &[LaneRoom], found: Option<Found>, now: Micros) {
        let (refill, poison) = match found {
            None => (None, HashSet::new()),
            Some(Found { refill, poison }) => {
                let unclean =
                    rooms.iter().map(|room| room.endpoint_id).filter(|id| self.unclean.contains(&id.shard()));
                self.cleared.extend(unclean);
                (Some(refill), poison)
            }
        };
        for row in self.scheduler.refilled(rooms, refill, now) {
            let reason = if poison.contains(&row.turn()) { POISON } else { "the event's data are gone" };
            self.write_failure(row, reason, now);
        }
    }

    pub(super) fn swept(&mut self, full: bool, lanes: Option<Vec<EndpointId>>, now: Micros) {
        self.sweeping = false;
        let Some(lanes) = lanes else {
            self.full_sweep |= full;
            return;
        };
        let after = if full { Uuid::nil() } else { self.late_bound() };
        for endpoint in lanes {
            if self.owns(endpoint) {
                self.scheduler.sweep(endpoint, after, now);
                self.introduce(endpoint, now);
            }
        }
        let forget_us = i64::try_from(FORGET_AFTER.as_micros()).unwrap_or_default();
        for endpoint in self.scheduler.retire(now - forget_us) {
            self.targets.remove(&endpoint);
            self.plans.remove(&endpoint);
        }
    }

    pub(super) fn attempted(&mut self, attempted: Attempted, now: Micros) {
        let Attempted { row, start, plan, generation, outcome } = attempted;
        self.leave.ends(row.shard());
        let sign = match outcome {
            Outcome::Cut => Sign::Neither,
            Outcome::Sent { sign, .. } => sign,
        };
        let throttle = self.scheduler.responded(row.endpoint_id, start, sign, now);
        match outcome {
            Outcome::Cut => {
                self.drain.ends(row.endpoint_id, generation);
                self.scheduler.lost(row.turn(), now);
            }
            Outcome::Sent { finished, next, .. } => {
                // Sent before by a node that this process was, and not written since.
                if let Some(before) = self.writing.insert(row.turn(), generation) {
                    self.drain.ends(row.endpoint_id, before);
                }
                if next == Next::Gone {
                    let held = Terms { held: true, ..terms(plan.target()) };
                    self.scheduler.configure(row.endpoint_id, held, now);
                    self.gone.insert(row.endpoint_id, (row.turn(), None));
                    self.targets.remove(&row.endpoint_id);
                    self.plans.remove(&row.endpoint_id);
                }
                self.write(Item {
                    node: self.node,
                    finished: *finished,
                    next,
                    was_failing: plan.target().failing,
                    throttle,
                });
            }
        }
    }

    pub(super) fn flushed(&mut self, report: Report, now: Micros) {
        for (turn, written) in report {
            self.unwritten = self.unwritten.saturating_sub(1);
            self.leave.ends(turn.endpoint_id.shard());
            if let Some(generation) = self.writing.remove(&turn) {
                self.drain.ends(turn.endpoint_id, generation);
            }
            match written {
                Written::Ended => self.scheduler.finished(turn, None, now),
                Written::Due(at) => self.scheduler.finished(turn, Some(at.unix_us()), now),
                Written::Unsure => {
                    self.scheduler.finished(turn, None, now);
                    if self.owns(turn.endpoint_id) {
                        self.scheduler.doubt(turn.endpoint_id, Uuid::nil(), now);
                    }
                }
                Written::Lost => self.scheduler.lost(turn, now),
            }
            if let Some((gone, load)) = self.gone.get_mut(&turn.endpoint_id)
                && *gone == turn
            {
                *load = Some(self.loads);
                self.wanted.insert(turn.endpoint_id);
            }
        }
    }
}

fn terms(target: &Target) -> Terms {
    Terms {
        tenant_id: target.tenant_id,
        max_in_flight: target.max_in_flight,
        rate_per_s: target.rate_per_s,
        held: target.held,
        throttled_until: target.throttled_until.map(Timestamp::unix_us),
        throttle_resets: target.throttle_resets,
    }
}
