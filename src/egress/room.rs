//! How many connections may be open at once, over all receivers: the one global cap.
//!
//! A [`Place`] belongs to a socket from before it connects until it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::open_files;
use crate::telemetry::metrics::metrics;

/// However many files the process may open.
const MAX_CONNECTIONS: usize = 4_096;
/// However few: below, deliveries to many receivers would wait for each other.
const MIN_CONNECTIONS: usize = 64;

/// Half of the files that the process may open: the rest is for callers of the API, Postgres and look-ups.
pub(super) fn max_connections() -> usize {
    (open_files::limit() / 2).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

pub(super) struct Room {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// One of the connections that may be open.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn new(places: usize) -> Room {
        metrics().egress_connections_limit.set(places as f64);
        Room { places: Arc::new(Semaphore::new(places)), waiting: AtomicUsize::new(0) }
    }

    /// A place, if one is free.
    pub(super) fn try_enter(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(Place::new)
    }

    /// Gets in line: from now on, what becomes idle is closed.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, SeqCst);
        Waiting(self)
    }

    /// Somebody waits: what is idle should be closed rather than kept.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }
}

impl Place {
    fn new(permit: OwnedSemaphorePermit) -> Place {
        metrics().egress_connections.increment(1.0);
        Place { _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics().egress_connections.decrement(1.0);
    }
}

/// One that waits for a place.
pub(super) struct Waiting<'a>(&'a Room);

impl Waiting<'_> {
    pub(super) async fn enter(self) -> Option<Place> {
        Arc::clone(&self.0.places).acquire_owned().await.ok().map(Place::new)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}
