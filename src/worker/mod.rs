//! Sending: the owner of shards, its scheduler, its attempts, and what becomes of them.
//!
//! Four tasks: `keeper` beats and takes shards, `owner` holds all state and decides, `flusher` writes results in
//! batches, and one short task an attempt sends. Everything they tell the owner comes through one channel, so that there
//! is one order of things and no lock.
//!
//! Guarantees: an attempt begins only while this node's beat holds; a slot is free when the response is in; results wait
//! for Postgres as long as it takes, and while many wait, nothing more is sent. It deliberately keeps no state that the
//! database does not have: a worker that dies loses nothing but time.

mod attempt;
mod drain;
mod flusher;
mod health;
mod keeper;
mod leave;
mod owner;
mod reading;
pub mod retry;
pub mod scheduler;
mod silence;

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    db::Pools,
    egress::{Policy, Sender},
    format_book::FormatBook,
    queue::{bell, handoff::Handed},
    seal::Vault,
};

/// What a worker is made of.
pub struct WorkerParts {
    pub pools: Pools,
    pub vault: Arc<Vault>,
    pub policy: Arc<Policy>,
    pub formats: FormatBook,
    pub sender: Sender,
    /// Where this process's publishes hand their rows over; nothing comes in a process that does not publish.
    pub handed: mpsc::Receiver<Handed>,
}

/// Runs until `stop`, then finishes what is in flight, writes it, and gives everything back.
pub async fn run(parts: WorkerParts, stop: CancellationToken) {
    let (messages, inbox) = mpsc::unbounded_channel();
    let (results, flushes) = mpsc::unbounded_channel();
    let (rings, ringing) = mpsc::unbounded_channel();
    let (rests, rested) = mpsc::unbounded_channel();
    let released = CancellationToken::new();
    let keeper = tokio::spawn(keeper::run(
        parts.pools.clone(),
        messages.clone(),
        rested,
        stop.clone(),
        released.clone(),
    ));
    let listener = tokio::spawn(listen(parts.pools.api.pool().clone(), messages.clone(), released.clone()));
    let flusher = tokio::spawn(flusher::run(parts.pools.finish.clone(), flushes, messages.clone()));
    let bell = tokio::spawn(bell::run(parts.pools.api.clone(), ringing));
    owner::Owner::new(parts, messages, results, rings, rests).run(inbox, stop).await;
    // The owner is gone, and with it the last senders to the flusher and the bell.
    let _ = flusher.await;
    released.cancel();
    for task in [keeper, listener, bell] {
        let _ = task.await;
    }
}

/// Passes notifications on. What is missed while the connection is away, polling finds.
async fn listen(pool: PgPool, messages: mpsc::UnboundedSender<owner::Message>, stop: CancellationToken) {
    use crate::queue::{
        bell::{BELL_CHANNEL, Ring},
        control::COMMAND_CHANNEL,
    };
    const RECONNECT_AFTER: std::time::Duration = std::time::Duration::from_secs(1);
    while !stop.is_cancelled() {
        let listening = async {
            let mut listener = sqlx::postgres::PgListener::connect_with(&pool).await?;
            listener.listen_all([BELL_CHANNEL, COMMAND_CHANNEL]).await?;
            loop {
                let notification = listener.recv().await?;
                let message = if notification.channel() == COMMAND_CHANNEL {
                    owner::Message::Commanded
                } else {
                    owner::Message::Rang(Ring::read(notification.payload()).collect())
                };
                if messages.send(message).is_err() {
                    return Ok::<(), sqlx::Error>(());
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            ended = listening => if let Err(error) = ended {
                tracing::warn!(%error, "not listening for notifications; polling goes on");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RECONNECT_AFTER) => {}
        }
    }
}
