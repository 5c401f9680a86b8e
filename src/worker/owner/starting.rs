//! What the owner starts: attempts, reads, loads, sweeps. Each ends in a message.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

use super::{
    super::{
        attempt::{Plan, attempt},
        drain::Scope,
        flusher::Item,
        keeper::Lease,
        reading::read,
        retry::Next,
        scheduler::{Micros, Sign, Start, Started},
    },
    Attempted, Loaded, Message, Owner,
};
use crate::{
    endpoints::target,
    queue::{
        Row, control,
        finish::{Finished, Verdict},
        handoff::Parcel,
        refill::{self, LaneRoom},
    },
    types::{EndpointId, Shard, Timestamp},
};

/// Sweeps until one that trusts nothing.
const FULL_SWEEP_EVERY: u32 = 120;
const TRY_AGAIN: Duration = Duration::from_millis(200);

impl Owner {
    pub(super) fn send(&mut self, Started { parcel, start }: Started, lease: Lease) {
        let row = parcel.row;
        let generation = self.drain.begins(row.endpoint_id);
        self.leave.begins(row.shard());
        let at = self.parts.pools.clock.now();
        let Some(plan) = self.plan(&parcel, at) else {
            self.cannot_be_sent(
                row,
                start,
                generation,
                "the wire format that it was created with can't be signed any more",
            );
            return;
        };
        let (sender, clock) = (self.parts.sender.clone(), self.parts.pools.clock.clone());
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let outcome = attempt(&sender, &clock, &lease, &plan, parcel, at).await;
            let _ = messages.send(Message::Attempted(Box::new(Attempted {
                row,
                start,
                plan,
                generation,
                outcome,
            })));
        });
    }

    pub(super) fn plan(&mut self, parcel: &Parcel, now: Timestamp) -> Option<Arc<Plan>> {
        let row = parcel.row;
        let plans = self.plans.entry(row.endpoint_id).or_default();
        plans.retain(|(_, plan)| plan.sending.until.is_none_or(|until| until > now));
        if let Some((_, plan)) = plans.iter().find(|(format, _)| *format == row.format_version) {
            return Some(Arc::clone(plan));
        }
        let target = Arc::clone(self.targets.get(&row.endpoint_id)?);
        let plan = Arc::new(Plan::new(target, parcel.format.clone()?, now)?);
        plans.push((row.format_version, Arc::clone(&plan)));
        Some(plan)
    }

    /// Ends a delivery without an attempt.
    pub(super) fn cannot_be_sent(&mut self, row: Row, start: Start, generation: u64, reason: &'static str) {
        let now = self.now();
        self.drain.ends(row.endpoint_id, generation);
        self.leave.ends(row.shard());
        self.scheduler.responded(row.endpoint_id, start, Sign::Neither, now);
        self.write_failure(row, reason, now);
    }

    pub(super) fn write_failure(&mut self, row: Row, reason: &'static str, now: Micros) {
        let Some(target) = self.targets.get(&row.endpoint_id) else {
            // Sweeps find the row again, and by then its endpoint.
            self.scheduler.finished(row.turn(), None, now);
            return;
        };
        let finished = Finished {
            endpoint_id: row.endpoint_id,
            event_id: row.event_id,
            tenant_id: target.tenant_id,
            seq: row.seq,
            // Not known without its body; whoever tells of it looks.
            operational: false,
            attempt: None,
            verdict: Verdict::Failed { reason },
        };
        let item = Item {
            node: self.node,
            finished,
            next: Next::Exhausted,
            was_failing: target.failing,
            throttle: None,
        };
        self.write(item);
    }

    pub(super) fn write(&mut self, item: Item) {
        self.unwritten += 1;
        self.leave.begins(item.finished.endpoint_id.shard());
        let _ = self.results.send(item);
    }

    pub(super) fn refill(&mut self, now: Micros) {
        let reader = self.refills * 2 + 1;
        let rooms = self.scheduler.refills(reader, now);
        if rooms.is_empty() {
            return;
        }
        self.refills += 1;
        let (pool, formats) = (self.parts.pools.engine.clone(), self.parts.formats.clone());
        let suspicious = self.suspicious(&rooms);
        self.tell_later(async move {
            match read(&pool, &formats, &rooms, &suspicious, Timestamp::from_unix_us(now)).await {
                Ok(found) => Message::Refilled { rooms, found: Some(found) },
                Err(error) => {
                    tracing::warn!(%error, "the queue could not be read; tried again");
                    sleep(TRY_AGAIN).await;
                    Message::Refilled { rooms, found: None }
                }
            }
        });
    }

    /// Lanes that are read for the first time since their node died, and how many of their rows it may have had in flight.
    pub(super) fn suspicious(&self, rooms: &[LaneRoom]) -> HashMap<EndpointId, usize> {
        let is_suspicious = |endpoint: &EndpointId| {
            self.unclean.contains(&endpoint.shard()) && !self.cleared.contains(endpoint)
        };
        let lanes = rooms.iter().map(|room| room.endpoint_id).filter(is_suspicious);
        let most = |endpoint| self.targets.get(&endpoint).map_or(0, |target| target.max_in_flight as usize);
        lanes.map(|endpoint| (endpoint, most(endpoint))).collect()
    }

    pub(super) fn load(&mut self) {
        if self.loading || (self.wanted.is_empty() && !self.drain.is_asked()) {
            return;
        }
        self.loading = true;
        self.loads += 1;
        let (node, orders) = (self.node, self.drain.load());
        let mut asked = std::mem::take(&mut self.wanted);
        let mut shards: HashSet<Shard> = HashSet::new();
        for order in &orders {
            match order.scope {
                Scope::Endpoint(endpoint) => asked.insert(endpoint),
                Scope::Shard(shard) => shards.insert(shard),
            };
        }
        if !shards.is_empty() {
            asked.extend(self.scheduler.lanes_in(|shard| shards.contains(&shard)));
            asked.extend(self.targets.keys().filter(|endpoint| shards.contains(&endpoint.shard())));
        }
        let asked: Vec<EndpointId> = asked.into_iter().collect();
        let (pool, formats) = (self.parts.pools.engine.clone(), self.parts.formats.clone());
        let (vault, policy) = (Arc::clone(&self.parts.vault), Arc::clone(&self.parts.policy));
        self.tell_later(async move {
            let loading = async {
                let mut connection = pool.acquire().await?;
                target::load(&mut connection, &formats, &vault, &policy, &asked).await
            };
            let targets = match loading.await {
                Ok(targets) => Some(targets),
                Err(error) => {
                    tracing::warn!(%error, "endpoints could not be read; tried again");
                    sleep(TRY_AGAIN).await;
                    None
                }
            };
            Message::Loaded(Loaded { node, orders, asked, targets })
        });
    }

    pub(super) fn read_commands(&mut self) {
        if self.reading_commands || self.lease.is_none() {
            return;
        }
        self.reading_commands = true;
        self.commands_rung = false;
        let (pool, node) = (self.parts.pools.engine.clone(), self.node);
        self.tell_later(async move { Message::Commands(node, control::pending(&pool, node).await.ok()) });
    }

    pub(super) fn sweep(&mut self) {
        if self.sweeping || self.lease.is_none() {
            return;
        }
        self.sweeping = true;
        let full = std::mem::take(&mut self.full_sweep) || self.sweeps.is_multiple_of(FULL_SWEEP_EVERY);
        self.sweeps = self.sweeps.wrapping_add(1);
        let pool = self.parts.pools.engine.clone();
        let owned = (0..).zip(&self.owned).filter(|(_, owned)| **owned);
        let mine: Vec<Shard> = owned.map(|(column, _)| Shard::from_column(column)).collect();
        self.tell_later(async move {
            let lanes = refill::waiting_lanes(&pool, &mine).await;
            if let Err(error) = &lanes {
                tracing::warn!(%error, "the queue could not be swept");
                sleep(TRY_AGAIN).await;
            }
            Message::Swept { full, lanes: lanes.ok() }
        });
    }
}
