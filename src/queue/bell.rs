//! The bell: tells owners in other processes that there is something to send.
//!
//! Notifications take a database-wide lock at commit, so they are gathered and sent apart from the publishes. One that is
//! lost costs the time until the owner's next sweep, nothing else.

use std::{collections::HashMap, time::Duration};

use sqlx::PgConnection;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::handoff::{Handed, Parcel};
use crate::{
    db::SharedPool,
    types::{EndpointId, EventId},
};

/// Channel of the notifications; the payload is rings, separated by spaces.
pub const BELL_CHANNEL: &str = "posthaste_bell";
/// Time between two notifications.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Rings in one notification: 73 bytes each, of 8,000 that a payload may have.
const RINGS_MAX: usize = 100;

/// An endpoint has rows to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    pub endpoint_id: EndpointId,
    /// Fresh ones are above this: the owner need not read again what lies below. The highest id of all where there are
    /// only rows with a due time.
    pub above: Uuid,
}

impl Ring {
    pub fn of(parcel: &Parcel) -> Self {
        Self::of_fresh(parcel.row.endpoint_id, parcel.row.event_id)
    }

    /// For a row that was just made.
    pub fn of_fresh(endpoint_id: EndpointId, event: EventId) -> Self {
        Self { endpoint_id, above: Uuid::from_u128(event.uuid().as_u128().saturating_sub(1)) }
    }

    /// For a row that was made due by hand.
    pub fn of_timed(endpoint_id: EndpointId) -> Self {
        Self { endpoint_id, above: Uuid::max() }
    }

    /// The rings of a payload; what can't be read is left to the owner's sweep.
    pub fn read(payload: &str) -> impl Iterator<Item = Self> {
        payload.split(' ').filter_map(|text| {
            let (endpoint, above) = text.split_once(':')?;
            let (endpoint, above) = (Uuid::try_parse(endpoint).ok()?, Uuid::try_parse(above).ok()?);
            Some(Self { endpoint_id: endpoint.into(), above })
        })
    }
}

/// Rings at once.
pub async fn ring(db: &mut PgConnection, rings: &[Ring]) -> sqlx::Result<()> {
    for some in rings.chunks(RINGS_MAX) {
        let texts: Vec<String> =
            some.iter().map(|ring| format!("{}:{}", ring.endpoint_id.uuid(), ring.above)).collect();
        sqlx::query!("SELECT pg_notify($1, $2)", BELL_CHANNEL, texts.join(" ")).execute(&mut *db).await?;
    }
    Ok(())
}

/// Gathers rings, one an endpoint, until every sender is gone.
pub async fn run(pool: SharedPool, mut rings: mpsc::UnboundedReceiver<Ring>) {
    let mut gathered = Vec::new();
    while rings.recv_many(&mut gathered, usize::MAX >> 1).await > 0 {
        let mut lowest: HashMap<EndpointId, Uuid> = HashMap::new();
        for ring in gathered.drain(..) {
            lowest
                .entry(ring.endpoint_id)
                .and_modify(|above| *above = ring.above.min(*above))
                .or_insert(ring.above);
        }
        let once: Vec<Ring> =
            lowest.into_iter().map(|(endpoint_id, above)| Ring { endpoint_id, above }).collect();
        if let Err(error) = ring_once(&pool, &once).await {
            tracing::warn!(%error, "owners could not be told of new rows; their next sweep finds them");
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

async fn ring_once(pool: &SharedPool, rings: &[Ring]) -> sqlx::Result<()> {
    let mut lease = pool.lease().await?;
    ring(&mut lease, rings).await?;
    lease.commit().await
}

/// For a process that publishes and does not send: rings for everything that it commits. After `stop` for what has been
/// handed over already; a connection that outlives the API must not keep the process.
pub async fn ring_for_all(pool: SharedPool, mut handed: mpsc::Receiver<Handed>, stop: CancellationToken) {
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
            for parcel in &committed {
                let _ = sender.send(Ring::of(parcel));
            }
        }
    }
    drop(sender);
    let _ = bell.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_reads_as_it_was_written() {
        let ring = Ring { endpoint_id: Uuid::from_u128(7).into(), above: Uuid::from_u128(9) };
        let text =
            format!("{}:{} nonsense {}:x", ring.endpoint_id.uuid(), ring.above, ring.endpoint_id.uuid());
        assert_eq!(Ring::read(&text).collect::<Vec<_>>(), [ring]);
    }
}
