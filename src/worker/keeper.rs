//! The keeper: beats, says when the beat no longer holds, and sees to it that this node owns its share of the shards: takes
//! what is free or whose node is dead, and has the owner give up what is too much.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{owner::Message, silence::Silence};
use crate::{
    db::Pools,
    queue::ownership::{self, BEAT_EVERY, HOLD_FOR, LOOK_EVERY as SETTLE_EVERY, Peer},
    types::{SHARD_COUNT, Shard},
};

/// A beat that takes longer has failed; the next one gets its chance before the hold ends.
const BEAT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest that the end of a lease goes unnoticed after the machine was suspended.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While Postgres is away: pause between tries.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// What a node may do until when. Shared with every attempt.
#[derive(Clone)]
pub struct Lease {
    until_us: Arc<AtomicI64>,
    /// Canceled when the lease ends: cuts what is in flight.
    pub ended: CancellationToken,
}

impl Lease {
    fn new(started_us: i64) -> Self {
        let lease = Self { until_us: Arc::default(), ended: CancellationToken::new() };
        lease.extend(started_us);
        lease
    }

    fn extend(&self, started_us: i64) {
        let hold_us = i64::try_from(HOLD_FOR.as_micros()).unwrap_or(i64::MAX);
        self.until_us.store(started_us + hold_us, Ordering::Relaxed);
    }

    /// How long it holds without a further beat.
    pub fn left(&self) -> Option<Duration> {
        let left_us = self.until_us.load(Ordering::Relaxed) - boot_time_us();
        u64::try_from(left_us).ok().filter(|left| *left > 0).map(Duration::from_micros)
    }

    /// Cuts what is in flight when the lease ends, whatever the keeper is waiting for then.
    fn watch(&self, node: Uuid) {
        let lease = self.clone();
        tokio::spawn(async move {
            while let Some(left) = lease.left() {
                // In slices: a sleep does not count the time that the machine was suspended.
                tokio::select! {
                    () = sleep(left.min(LOOK_EVERY)) => {}
                    () = lease.ended.cancelled() => return,
                }
            }
            tracing::error!(%node, "no beat got through: sending stops");
            lease.ended.cancel();
        });
    }

    /// Whether a request may begin now.
    pub fn holds(&self) -> bool {
        self.left().is_some() && !self.ended.is_cancelled()
    }
}

/// Microseconds since boot, suspended time included: wall clocks jump, and `Instant` stops in suspend.
fn boot_time_us() -> i64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// What the owner is told.
pub enum Tenure {
    /// This node exists and may own.
    Began { node: Uuid, lease: Lease },
    /// `unclean`: from a node that died; what it had in flight may be what killed it.
    Took { shards: Vec<Shard>, unclean: bool },
    /// The lease ended, but nobody has declared the node dead: it may go on with this one.
    Renewed(Lease),
    /// These are too many for this node: nothing of them is started any more, and the keeper is told as soon as each is at rest.
    Leave(Vec<Shard>),
    /// Declared dead: nothing is owned any more.
    Lost,
}

/// What the keeper is told of [`Tenure::Leave`], and of all shards at the end: nothing of these shards is in flight any more, nor waits to be written.
pub struct Rested {
    pub node: Uuid,
    pub shards: Vec<Shard>,
}

/// Runs until `stop`, then gives everything back. From `leave` on it takes nothing, and gives back what is at rest.
pub async fn run(
    pools: Pools,
    messages: mpsc::UnboundedSender<Message>,
    mut rested: mpsc::UnboundedReceiver<Rested>,
    leave: CancellationToken,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let node = Uuid::now_v7();
        let mut keeper = Keeper {
            pools: &pools,
            messages: &messages,
            leave: &leave,
            others_know: false,
            node,
            silence: Silence::default(),
            owned: HashSet::new(),
            leaving: HashSet::new(),
            rested: Vec::new(),
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = keeper.keep(&mut rested) => {}
        }
        if let Err(error) = ownership::release(&pools.engine, node).await {
            tracing::warn!(%error, "the shards could not be given back; another node takes them when the beat is old");
        }
    }
}

struct Keeper<'a> {
    pools: &'a Pools,
    messages: &'a mpsc::UnboundedSender<Message>,
    leave: &'a CancellationToken,
    /// That this node leaves.
    others_know: bool,
    node: Uuid,
    silence: Silence,
    /// What the owner has been told of, and of that what it has been told to leave, and what is at rest.
    owned: HashSet<Shard>,
    leaving: HashSet<Shard>,
    rested: Vec<Shard>,
}

/// What a node owns where all own alike.
fn share(nodes: usize) -> usize {
    usize::from(SHARD_COUNT).div_ceil(nodes.max(1))
}

impl Keeper<'_> {
    fn tell(&self, tenure: Tenure) {
        let _ = self.messages.send(Message::Tenure(tenure));
    }

    /// Until this node is declared dead.
    async fn keep(&mut self, rested: &mut mpsc::UnboundedReceiver<Rested>) {
        let mut started_us = boot_time_us();
        while let Err(error) = ownership::register(&self.pools.engine, self.node).await {
            tracing::warn!(%error, "Postgres is away; nothing is sent until it is back");
            sleep(TRY_AGAIN).await;
            started_us = boot_time_us();
        }
        let mut lease = Lease::new(started_us);
        match self.beat(&lease).await {
            Some(true) | None => {}
            Some(false) => return,
        }
        tracing::info!(node = %self.node, "this node works");
        lease.watch(self.node);
        self.tell(Tenure::Began { node: self.node, lease: lease.clone() });
        loop {
            let next = Instant::now() + BEAT_EVERY;
            self.settle_until(next, rested).await;
            let started_us = boot_time_us();
            match self.beat(&lease).await {
                Some(true) if lease.ended.is_cancelled() => {
                    tracing::info!(node = %self.node, "the beat is back: sending goes on");
                    lease = Lease::new(started_us);
                    lease.watch(self.node);
                    self.tell(Tenure::Renewed(lease.clone()));
                }
                Some(true) => {}
                Some(false) => {
                    tracing::error!(node = %self.node, "another node has declared this one dead and taken its shards");
                    lease.ended.cancel();
                    self.tell(Tenure::Lost);
                    return;
                }
                None => sleep(TRY_AGAIN).await,
            }
        }
    }

    /// `Some(false)`: declared dead. `None`: Postgres does not answer.
    async fn beat(&self, lease: &Lease) -> Option<bool> {
        let started_us = boot_time_us();
        match timeout(BEAT_TIMEOUT, ownership::beat(&self.pools.engine, self.node)).await {
            Ok(Ok(Some(now_us))) => {
                if !lease.ended.is_cancelled() {
                    lease.extend(started_us);
                }
                self.pools.clock.sync(now_us);
                Some(true)
            }
            Ok(Ok(None)) => Some(false),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a beat failed");
                None
            }
            Err(_) => {
                tracing::warn!("a beat took too long");
                None
            }
        }
    }

    /// Keeps this node's share what it should be, until it is time to beat.
    async fn settle_until(&mut self, next: Instant, rested: &mut mpsc::UnboundedReceiver<Rested>) {
        let mut knows = self.others_know;
        loop {
            // Whatever hangs must not keep the next beat: the lease is worth more than another node's shards.
            match timeout_at(next, self.settle()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "shards could not be taken or given back; tried again");
                }
                Err(_) => tracing::warn!("taking shards or giving them back took too long; tried again"),
            }
            let look = next.min(Instant::now() + SETTLE_EVERY);
            tokio::select! {
                () = sleep_until(look) => {}
                () = self.leave.cancelled(), if !knows => knows = true,
                Some(Rested { node, shards }) = rested.recv() => if node == self.node { self.rested.extend(shards) },
            }
            if Instant::now() >= next {
                return;
            }
        }
    }

    async fn settle(&mut self) -> sqlx::Result<()> {
        let db = &self.pools.engine;
        if !self.rested.is_empty() {
            ownership::give_back(db, self.node, &self.rested).await?;
            tracing::info!(node = %self.node, shards = self.rested.len(), "gave shards back");
            for shard in self.rested.drain(..) {
                self.leaving.remove(&shard);
                self.owned.remove(&shard);
            }
        }
        if self.leave.is_cancelled() {
            if !self.others_know {
                ownership::leave(db, self.node).await?;
                self.others_know = true;
            }
            return Ok(());
        }
        let peers = ownership::peers(db, self.node).await?;
        let beats: Vec<(Uuid, i64)> = peers.iter().map(|peer| (peer.id, peer.beat)).collect();
        let dead = self.silence.look(&beats, boot_time_us());
        let stays = |peer: &&Peer| !peer.leaving && dead.iter().all(|(id, _)| *id != peer.id);
        let share = share(1 + peers.iter().filter(stays).count());
        for (peer, beat) in dead {
            let room = share.saturating_sub(self.owned.len());
            if ownership::take_over(db, self.node, peer, beat, room).await? {
                tracing::warn!(node = %self.node, dead = %peer, "took over from a node that has stopped beating");
                self.took().await?;
            }
        }
        let room = share.saturating_sub(self.owned.len());
        if room > 0 {
            ownership::take_free(db, self.node, room).await?;
            self.took().await?;
        }
        let surplus = (self.owned.len() - self.leaving.len()).saturating_sub(share);
        if surplus > 0 {
            // In the order of the set, which is none: every node keeps shards of all places.
            let leave: Vec<Shard> = self.owned.difference(&self.leaving).take(surplus).copied().collect();
            tracing::info!(node = %self.node, shards = leave.len(), "has more than its share of the shards");
            self.leaving.extend(&leave);
            self.tell(Tenure::Leave(leave));
        }
        Ok(())
    }

    /// What is owned is read rather than gathered from answers: one that is lost would leave shards without anybody.
    async fn took(&mut self) -> sqlx::Result<()> {
        let mut taken = ownership::owned(&self.pools.engine, self.node).await?;
        taken.retain(|owned| self.owned.insert(owned.shard));
        for unclean in [false, true] {
            let shards = taken.iter().filter(|owned| owned.unclean == unclean);
            let shards: Vec<Shard> = shards.map(|owned| owned.shard).collect();
            if !shards.is_empty() {
                tracing::info!(node = %self.node, shards = shards.len(), unclean, "took shards");
                self.tell(Tenure::Took { shards, unclean });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(duration: Duration) -> i64 {
        boot_time_us() - i64::try_from(duration.as_micros()).unwrap()
    }

    #[test]
    fn a_lease_is_counted_from_the_start_of_its_last_beat() {
        let lease = Lease::new(ago(HOLD_FOR));
        assert!(!lease.holds(), "the answer came too late");
        lease.extend(ago(HOLD_FOR - Duration::from_secs(5)));
        assert!(lease.holds() && lease.left().unwrap() <= Duration::from_secs(5));
        lease.ended.cancel();
        assert!(!lease.holds(), "what has ended does not begin again");
        assert!(HOLD_FOR < ownership::DEAD_AFTER && BEAT_EVERY + BEAT_TIMEOUT < HOLD_FOR);
    }

    #[tokio::test]
    async fn a_lease_that_ends_cuts_what_is_in_flight() {
        let lease = Lease::new(ago(HOLD_FOR - Duration::from_millis(50)));
        lease.watch(Uuid::nil());
        lease.ended.cancelled().await;
        assert!(!lease.holds());
    }
}
