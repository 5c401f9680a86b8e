//! From publishing to sending without a read: committed rows are handed to the owner in this process, with their bodies.
//!
//! A publish announces itself before its statement runs and reports what it committed afterwards, so that the owner knows
//! for how long a row that it has finished may still be offered to it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;

use super::{Row, refill::EventBody};

/// Publishes waiting to be taken up by the owner; a full channel makes publishes wait.
const WAITING_MAX: usize = 1_024;

/// A row with what its requests are made from.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub row: Row,
    pub body: Arc<EventBody>,
}

pub enum Handed {
    Begins { publish: u64 },
    Ends { publish: u64, committed: Vec<Parcel> },
}

/// The publishing side.
#[derive(Clone)]
pub struct Handoff {
    sender: mpsc::Sender<Handed>,
    next: Arc<AtomicU64>,
}

pub fn channel() -> (Handoff, mpsc::Receiver<Handed>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Handoff { sender, next: Arc::new(AtomicU64::new(1)) }, receiver)
}

impl Handoff {
    /// Before the statement. Nobody listening is fine: the owner reads the queue by itself.
    pub async fn begins(&self) -> u64 {
        let publish = self.next.fetch_add(1, Ordering::Relaxed);
        let _ = self.sender.send(Handed::Begins { publish }).await;
        publish
    }

    /// After it, whatever came of it.
    pub async fn ends(&self, publish: u64, committed: Vec<Parcel>) {
        let _ = self.sender.send(Handed::Ends { publish, committed }).await;
    }
}
