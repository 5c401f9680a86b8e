//! Connections that are open and not in use, or shared.
//!
//! Guarantees: a connection is handed out only to requests of the same scheme, host, port and client certificate; few idle
//! ones are kept per receiver, and for a short time; all connections together are no more than there is [`Room`] for. When
//! there is no room, the one that has been idle for longest makes place; when all are busy, one waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::http1::Http1;
use super::http2::Http2;
use super::room::{Place, Room};
use super::url::Origin;
use crate::telemetry::metrics::metrics;

/// Shorter than the 5 s after which many servers close, so that we seldom write into a closing connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// How often connections that were idle for too long are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What a connection is good for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) origin: Arc<Origin>,
    /// The fingerprint of the client certificate that the receiver was shown.
    pub(super) identity: Option<[u8; 32]>,
}

/// A connection that is ready for a request.
pub(super) enum Ready {
    Http1(Box<Http1>),
    Http2(Arc<Http2>),
}

pub(super) struct Pool {
    hosts: Mutex<Hosts>,
    pub(super) room: Room,
    max_idle_per_host: usize,
}

#[derive(Default)]
struct Hosts {
    by_key: HashMap<Key, Host>,
    /// A task looks for what was idle for too long.
    is_swept: bool,
}

#[derive(Default)]
struct Host {
    /// The newest last.
    idle: Vec<Idle>,
    shared: Option<Arc<Http2>>,
}

struct Idle {
    since: Instant,
    connection: Box<Http1>,
}

impl Pool {
    pub(super) fn new(max_connections: usize, max_idle_per_host: usize) -> Arc<Pool> {
        let (hosts, room) = (Mutex::default(), Room::new(max_connections));
        Arc::new(Pool { hosts, room, max_idle_per_host })
    }

    /// A connection that is open already, the one that was used last.
    pub(super) fn take(&self, key: &Key) -> Option<Ready> {
        let mut hosts = self.lock();
        let host = hosts.by_key.get_mut(key)?;
        if let Some(shared) = &host.shared {
            if shared.is_open() {
                return Some(Ready::Http2(Arc::clone(shared)));
            }
            host.shared = None;
        }
        // What is too old is closed by the sweep, outside of an exchange.
        let newest = host.idle.pop_if(|idle| idle.since.elapsed() < IDLE_TIMEOUT)?;
        Some(Ready::Http1(newest.connection))
    }

    /// Keeps a connection for the next request, if there is room for it.
    pub(super) fn put(self: &Arc<Self>, key: &Key, connection: Box<Http1>) {
        let idle = Idle { since: Instant::now(), connection };
        let surplus = {
            let mut hosts = self.lock();
            // Under the lock: whoever waits by now looks for idle ones later, or has looked and waits for this one.
            if self.room.is_wanted() { Some(idle) } else { self.keep(&mut hosts, key, idle) }
        };
        if let Some(surplus) = surplus {
            surplus.connection.close();
        }
    }

    /// What is too many then.
    fn keep(self: &Arc<Self>, hosts: &mut Hosts, key: &Key, idle: Idle) -> Option<Idle> {
        self.begin_sweeping(hosts);
        let host = match hosts.by_key.get_mut(key) {
            Some(host) => host,
            None => hosts.by_key.entry(key.clone()).or_default(),
        };
        host.idle.push(idle);
        (host.idle.len() > self.max_idle_per_host).then(|| host.idle.remove(0))
    }

    /// Shares a connection with whoever sends to the same receiver. If there is one already, that one is shared on.
    pub(super) fn share(self: &Arc<Self>, key: &Key, connection: Arc<Http2>) -> Arc<Http2> {
        let mut hosts = self.lock();
        self.begin_sweeping(&mut hosts);
        let shared = &mut hosts.by_key.entry(key.clone()).or_default().shared;
        match shared {
            Some(other) if other.is_open() => Arc::clone(other),
            _ => Arc::clone(shared.insert(connection)),
        }
    }

    /// A place for one more connection. `None`: there will be none.
    pub(super) async fn place(&self) -> Option<Place> {
        if let Some(place) = self.room.try_enter() {
            return Some(place);
        }
        let waiting = self.room.wait();
        self.evict();
        waiting.enter().await
    }

    /// A shared connection may have become idle.
    pub(super) fn give_way(&self) {
        if self.room.is_wanted() {
            self.evict();
        }
    }

    /// Closes the connection that has been idle for longest.
    fn evict(&self) {
        let mut hosts = self.lock();
        let oldest_of = |host: &Host| {
            let shared = host.shared.as_ref().and_then(|shared| shared.idle_since());
            host.idle.first().map(|idle| idle.since).into_iter().chain(shared).min()
        };
        let oldest = hosts
            .by_key
            .values_mut()
            .filter_map(|host| Some((oldest_of(host)?, host)))
            .min_by_key(|(since, _)| *since);
        let Some((since, host)) = oldest else { return };
        let idle = host.idle.first().is_some_and(|idle| idle.since == since).then(|| host.idle.remove(0));
        let shared = if idle.is_none() { host.shared.take() } else { None };
        drop(hosts);
        if let Some(idle) = idle {
            idle.connection.close();
        }
        drop(shared);
        metrics().egress_connections_evicted.increment(1);
    }

    /// Closes what has been idle for too long. False: nothing is left to look after.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let is_over = |since: Instant| now.saturating_duration_since(since) >= IDLE_TIMEOUT;
        let (mut over, mut shared) = (Vec::new(), Vec::new());
        let mut hosts = self.lock();
        hosts.by_key.retain(|_, host| {
            let end = host.idle.partition_point(|idle| is_over(idle.since));
            over.extend(host.idle.drain(..end));
            shared.extend(
                host.shared.take_if(|shared| !shared.is_open() || shared.idle_since().is_some_and(is_over)),
            );
            !host.idle.is_empty() || host.shared.is_some()
        });
        hosts.is_swept = !hosts.by_key.is_empty();
        let is_swept = hosts.is_swept;
        drop(hosts);
        over.into_iter().for_each(|idle| idle.connection.close());
        is_swept
    }

    fn begin_sweeping(self: &Arc<Self>, hosts: &mut Hosts) {
        if !hosts.is_swept {
            hosts.is_swept = true;
            tokio::spawn(sweep_while_needed(Arc::downgrade(self)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep_while_needed(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
            return;
        }
    }
}
