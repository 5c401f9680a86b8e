//! The bell: tells owners in other processes that there is something to send.
//!
//! Notifications take a database-wide lock at commit, so they are gathered and sent apart from the publishes. One that is
//! lost costs the time until the owner's next sweep, nothing else.

use std::{collections::HashSet, time::Duration};

use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{control, handoff::Handed};
use crate::types::EndpointId;

/// Time between two notifications.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Gathers endpoints and rings for them, until every sender is gone.
pub async fn run(pool: PgPool, mut endpoints: mpsc::UnboundedReceiver<EndpointId>) {
    let mut gathered = Vec::new();
    while endpoints.recv_many(&mut gathered, usize::MAX >> 1).await > 0 {
        let once: HashSet<EndpointId> = gathered.drain(..).collect();
        if let Err(error) = control::ring(&pool, &once.into_iter().collect::<Vec<_>>()).await {
            tracing::warn!(%error, "owners could not be told of new rows; their next sweep finds them");
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

/// For a process that publishes and does not send: rings for everything that it commits. After `stop` for what has been
/// handed over already; a connection that outlives the API must not keep the process.
pub async fn ring_for_all(pool: PgPool, mut handed: mpsc::Receiver<Handed>, stop: CancellationToken) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let bell = tokio::spawn(run(pool, receiver));
    loop {
        let one = tokio::select! {
            biased;
            one = handed.recv() => one,
            () = stop.cancelled(), if !handed.is_closed() => {
                handed.close();
                continue;
            }
        };
        let Some(one) = one else { break };
        if let Handed::Ends { committed, .. } = one {
            for parcel in committed {
                let _ = sender.send(parcel.row.endpoint_id);
            }
        }
    }
    drop(sender);
    let _ = bell.await;
}
