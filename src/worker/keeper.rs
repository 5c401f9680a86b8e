//! The keeper: beats, takes shards that are free or whose node is dead, and says when the beat no longer holds.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::owner::Message;
use crate::{
    db::Pools,
    queue::ownership::{self, BEAT_EVERY, DEAD_AFTER, HOLD_FOR},
    types::Shard,
};

/// A beat that takes longer has failed; the next one gets its chance before the hold ends.
const BEAT_TIMEOUT: Duration = Duration::from_secs(3);
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

    fn left(&self) -> Option<Duration> {
        let left_us = self.until_us.load(Ordering::Relaxed) - boot_time_us();
        u64::try_from(left_us).ok().filter(|left| *left > 0).map(Duration::from_micros)
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
    /// Declared dead: nothing is owned any more.
    Lost,
}

/// Runs until `stop`, then gives everything back.
pub async fn run(pools: Pools, messages: mpsc::UnboundedSender<Message>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let node = Uuid::now_v7();
        let mut keeper = Keeper { pools: &pools, messages: &messages, node, seen: HashMap::new() };
        tokio::select! {
            () = stop.cancelled() => {}
            () = keeper.keep() => {}
        }
        if let Err(error) = ownership::release(&pools.engine, node).await {
            tracing::warn!(%error, "the shards could not be given back; another node takes them when the beat is old");
        }
    }
}

struct Keeper<'a> {
    pools: &'a Pools,
    messages: &'a mpsc::UnboundedSender<Message>,
    node: Uuid,
    /// Beats of the others, and since when (µs of boot time) they have not changed.
    seen: HashMap<Uuid, (i64, i64)>,
}

impl Keeper<'_> {
    fn tell(&self, tenure: Tenure) {
        let _ = self.messages.send(Message::Tenure(tenure));
    }

    /// Until this node is declared dead.
    async fn keep(&mut self) {
        while let Err(error) = ownership::register(&self.pools.engine, self.node).await {
            tracing::warn!(%error, "Postgres is away; nothing is sent until it is back");
            sleep(TRY_AGAIN).await;
        }
        let mut lease = Lease::new(boot_time_us());
        match self.beat(&lease).await {
            Some(true) | None => {}
            Some(false) => return,
        }
        tracing::info!(node = %self.node, "this node works");
        self.tell(Tenure::Began { node: self.node, lease: lease.clone() });
        loop {
            self.take().await;
            let next = tokio::time::Instant::now() + BEAT_EVERY;
            // The lease may end before the next beat gets through: then everything in flight is cut in time.
            loop {
                let Some(left) = lease.left() else {
                    if !lease.ended.is_cancelled() {
                        tracing::error!(node = %self.node, "no beat got through: sending stops");
                        lease.ended.cancel();
                    }
                    break;
                };
                tokio::select! {
                    () = tokio::time::sleep_until(next) => break,
                    () = sleep(left) => {}
                }
            }
            let ended = lease.ended.is_cancelled();
            let started_us = boot_time_us();
            match self.beat(&lease).await {
                Some(true) if ended || lease.ended.is_cancelled() => {
                    tracing::info!(node = %self.node, "the beat is back: sending goes on");
                    lease = Lease::new(started_us);
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
        let (started_us, sent) = (boot_time_us(), Instant::now());
        match timeout(BEAT_TIMEOUT, ownership::beat(&self.pools.engine, self.node)).await {
            Ok(Ok(Some(now_us))) => {
                if !lease.ended.is_cancelled() {
                    lease.extend(started_us);
                }
                self.pools.clock.sync(now_us, sent);
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

    /// Takes what nobody owns, and what the dead owned.
    async fn take(&mut self) {
        match self.try_take().await {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "shards could not be taken; tried again with the next beat"),
        }
    }

    fn took(&self, shards: Vec<Shard>, unclean: bool) {
        if !shards.is_empty() {
            tracing::info!(node = %self.node, shards = shards.len(), unclean, "took shards");
            self.tell(Tenure::Took { shards, unclean });
        }
    }

    async fn try_take(&mut self) -> sqlx::Result<()> {
        self.took(ownership::take_free(&self.pools.engine, self.node).await?, false);
        let peers: HashMap<Uuid, i64> =
            ownership::peers(&self.pools.engine, self.node).await?.into_iter().collect();
        let now_us = boot_time_us();
        self.seen.retain(|peer, _| peers.contains_key(peer));
        for (peer, beat) in peers {
            let (last, since_us) = self.seen.entry(peer).or_insert((beat, now_us));
            if *last != beat {
                (*last, *since_us) = (beat, now_us);
            }
            let silent_us = u64::try_from(now_us - *since_us).unwrap_or_default();
            if Duration::from_micros(silent_us) >= DEAD_AFTER {
                tracing::warn!(node = %self.node, dead = %peer, "a node has stopped beating");
                self.took(ownership::take_over(&self.pools.engine, self.node, peer, beat).await?, true);
            }
        }
        Ok(())
    }
}
