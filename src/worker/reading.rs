//! Reading what is to be sent: rows with the bodies of their events, and what can't be sent at all.
//!
//! A payload that kills the process would kill every node that takes it over. So the first rows of a lane whose node died,
//! as many as may have been in flight, are counted as suspects before they are sent again; five times is enough.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sqlx::PgPool;

use super::scheduler::Refill;
use crate::{
    format_book::FormatBook,
    queue::{
        Row, Turn,
        handoff::Parcel,
        refill::{self, EventBody, LaneRoom},
    },
    types::{EndpointId, EventId, Shard, Timestamp},
};

/// What a refill found.
pub struct Found {
    pub refill: Refill,
    /// Among its orphans, those that have killed too many nodes.
    pub poison: HashSet<Turn>,
}

/// Rows with their bodies and formats; apart from them those whose event is gone, and those that have killed too many nodes.
pub async fn read(
    pool: &PgPool,
    formats: &FormatBook,
    rooms: &[LaneRoom],
    suspicious: &HashMap<EndpointId, usize>,
    now: Timestamp,
) -> sqlx::Result<Found> {
    let (due, later): (Vec<Row>, Vec<Row>) = refill::read(pool, rooms, now)
        .await?
        .into_iter()
        .partition(|row| row.due_at.is_none_or(|at| at <= now));
    let poison =
        if suspicious.is_empty() { HashSet::new() } else { suspects(pool, &due, suspicious).await? };
    let mut events: Vec<(Shard, EventId)> = due.iter().map(|row| (row.shard(), row.event_id)).collect();
    events.sort_unstable();
    events.dedup();
    let bodies: HashMap<EventId, Arc<EventBody>> =
        refill::bodies(pool, &events).await?.into_iter().map(|(id, body)| (id, Arc::new(body))).collect();
    let formats = formats.of(pool, due.iter().map(|row| row.format_version)).await?;
    let later = later.into_iter().filter_map(|row| Some((row.endpoint_id, row.due_at?.unix_us()))).collect();
    let (mut parcels, mut orphans) = (Vec::with_capacity(due.len()), Vec::new());
    for row in due {
        match bodies.get(&row.event_id).filter(|_| !poison.contains(&row.turn())) {
            Some(body) => {
                let format = formats.get(&row.format_version).cloned();
                parcels.push(Parcel { row, body: Arc::clone(body), format });
            }
            None => orphans.push(row),
        }
    }
    Ok(Found { refill: Refill { parcels, orphans, later }, poison })
}

/// Counts the first rows of these lanes, as many as may have been in flight; those counted too often.
async fn suspects(
    pool: &PgPool,
    due: &[Row],
    suspicious: &HashMap<EndpointId, usize>,
) -> sqlx::Result<HashSet<Turn>> {
    let mut left = suspicious.clone();
    let is_first = |row: &&Row| match left.get_mut(&row.endpoint_id) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    };
    let first: Vec<Row> = due.iter().filter(is_first).copied().collect();
    let poison: HashSet<_> = refill::suspect(pool, &first).await?.into_iter().collect();
    Ok(first.iter().filter(|row| poison.contains(&(row.endpoint_id, row.event_id))).map(Row::turn).collect())
}
