//! From publishing to sending without a read: committed rows are handed to the owner in this process, with their bodies.
//!
//! A publish announces itself before its statement runs and reports what it committed afterwards, so that the owner knows
//! for how long a row that it has finished may still be offered to it. One that is dropped in between (its caller has gone
//! away) reports as well: what it may have committed is found by a sweep.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;

use super::{Row, refill::EventBody};
use crate::formats::Format;

/// Publishes waiting to be taken up by the owner; a full channel makes publishes wait.
const WAITING_MAX: usize = 1_024;

/// A row with what its requests are made from.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub row: Row,
    pub body: Arc<EventBody>,
    /// `None`: the row's number is of no format that is known.
    pub format: Option<Arc<Format>>,
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
    pub async fn begins(&self) -> Publish {
        let publish = self.next.fetch_add(1, Ordering::Relaxed);
        let _ = self.sender.send(Handed::Begins { publish }).await;
        Publish { sender: Some(self.sender.clone()), publish }
    }

    /// After it, whatever came of it.
    pub async fn ends(&self, mut publish: Publish, committed: Vec<Parcel>) {
        if let Some(sender) = publish.sender.take() {
            let _ = sender.send(Handed::Ends { publish: publish.publish, committed }).await;
        }
    }
}

/// A publish under way.
pub struct Publish {
    sender: Option<mpsc::Sender<Handed>>,
    publish: u64,
}

impl Drop for Publish {
    fn drop(&mut self) {
        let Some(sender) = self.sender.take() else { return };
        let ends = Handed::Ends { publish: self.publish, committed: Vec::new() };
        if let Err(mpsc::error::TrySendError::Full(ends)) = sender.try_send(ends)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { sender.send(ends).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_publish_that_is_dropped_ends_all_the_same() {
        let (handoff, mut handed) = channel();
        let mut publishes = Vec::new();
        for _ in 0..WAITING_MAX {
            publishes.push(handoff.begins().await);
        }
        // The channel is full now.
        drop(publishes);
        for _ in 0..WAITING_MAX {
            assert!(matches!(handed.recv().await, Some(Handed::Begins { .. })));
        }
        for _ in 0..WAITING_MAX {
            let ends = handed.recv().await;
            assert!(matches!(ends, Some(Handed::Ends { committed, .. }) if committed.is_empty()));
        }
        handoff.ends(handoff.begins().await, Vec::new()).await;
        drop(handoff);
        let rest = [handed.recv().await, handed.recv().await, handed.recv().await];
        assert!(matches!(rest, [Some(Handed::Begins { .. }), Some(Handed::Ends { .. }), None]), "once");
    }
}
