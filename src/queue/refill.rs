//! Reading what is to be sent: no locks, no writes, a few rows of each lane that has room.
//!
//! A lane is the queue of one endpoint. Fresh rows are read by primary key from a lower bound, retries by the partial
//! index on `due_at`, from a lower bound as well; both stop at the lane's room, so a lane with a million rows waiting costs
//! as much as one with ten, and what is dead below the bounds costs nothing.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Cause, Row};
use crate::types::{EndpointId, EventId, SHARD_COUNT, Shard, Timestamp};

/// What one lane has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRoom {
    pub endpoint_id: EndpointId,
    /// Fresh rows are read above this.
    pub after: Uuid,
    /// Fresh rows to read; 0 reads none.
    pub fresh: u32,
    /// Due rows are read from here on.
    pub due_from: Timestamp,
    /// Due rows to read, earliest first; with them comes the first that is not due yet, which tells when to look again.
    pub timed: u32,
}

/// Rows of the lanes: fresh ones, those due at `now`, and of those that are not the next one.
pub async fn read(db: impl PgExecutor<'_>, lanes: &[LaneRoom], now: Timestamp) -> sqlx::Result<Vec<Row>> {
    let shards: Vec<i32> = lanes.iter().map(|lane| lane.endpoint_id.shard().column()).collect();
    let endpoints: Vec<Uuid> = lanes.iter().map(|lane| lane.endpoint_id.uuid()).collect();
    let after: Vec<Uuid> = lanes.iter().map(|lane| lane.after).collect();
    let fresh: Vec<i64> = lanes.iter().map(|lane| i64::from(lane.fresh)).collect();
    let due_from: Vec<OffsetDateTime> = lanes.iter().map(|lane| lane.due_from.datetime()).collect();
    let timed: Vec<i64> = lanes.iter().map(|lane| i64::from(lane.timed)).collect();
    let rows = sqlx::query!(
        r#"
        SELECT r.endpoint_id AS "endpoint_id!", r.event_id AS "event_id!", r.due_at AS "due_at: Timestamp",
            r.seq AS "seq!", r.step AS "step!", r.format_version AS "format_version!", r.cause AS "cause!"
        FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::bigint[], $5::timestamptz[], $6::bigint[])
            AS lane(shard, endpoint_id, after, fresh, due_from, timed)
        CROSS JOIN LATERAL (
            (SELECT q.endpoint_id, q.event_id, q.due_at, q.seq, q.step, q.format_version, q.cause FROM queue q
             WHERE q.shard = lane.shard AND q.endpoint_id = lane.endpoint_id AND q.event_id > lane.after AND q.due_at IS NULL
             ORDER BY q.event_id LIMIT lane.fresh)
            UNION ALL
            (SELECT q.endpoint_id, q.event_id, q.due_at, q.seq, q.step, q.format_version, q.cause FROM queue q
             WHERE q.shard = lane.shard AND q.endpoint_id = lane.endpoint_id
                 AND q.due_at >= lane.due_from AND q.due_at <= $7
             ORDER BY q.due_at LIMIT lane.timed)
            UNION ALL
            (SELECT q.endpoint_id, q.event_id, q.due_at, q.seq, q.step, q.format_version, q.cause FROM queue q
             WHERE q.shard = lane.shard AND q.endpoint_id = lane.endpoint_id AND q.due_at > $7
             ORDER BY q.due_at LIMIT least(lane.timed, 1))
        ) r
        "#,
        &shards,
        &endpoints,
        &after,
        &fresh,
        &due_from,
        &timed,
        now.datetime()
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Row {
            endpoint_id: row.endpoint_id.into(),
            event_id: row.event_id.into(),
            due_at: row.due_at,
            seq: row.seq,
            step: row.step,
            format_version: row.format_version,
            cause: Cause::from_column(row.cause),
        })
        .collect())
}

/// Times that a row may be at the head of its lane when its node dies; then it is taken for what kills them.
pub const SUSPECTS_MAX: i16 = 5;

/// Counts these rows as suspects of the death of the node that had them in flight, before they are sent again. Returns
/// those that have been suspected too often.
pub async fn suspect(db: impl PgExecutor<'_>, rows: &[Row]) -> sqlx::Result<Vec<(EndpointId, EventId)>> {
    let shards: Vec<i32> = rows.iter().map(|row| row.shard().column()).collect();
    let endpoints: Vec<Uuid> = rows.iter().map(|row| row.endpoint_id.uuid()).collect();
    let events: Vec<Uuid> = rows.iter().map(|row| row.event_id.uuid()).collect();
    let counted = sqlx::query!(
        r#"
        UPDATE queue q SET suspects = q.suspects + 1
        FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS s(shard, endpoint_id, event_id)
        -- So that it is looked up by index: see `queue/finish.rs`.
        WHERE q.shard = ANY(ARRAY[s.shard]) AND q.endpoint_id = s.endpoint_id AND q.event_id = s.event_id
        RETURNING q.endpoint_id AS "endpoint_id: EndpointId", q.event_id AS "event_id: EventId", q.suspects
        "#,
        &shards,
        &endpoints,
        &events
    )
    .fetch_all(db)
    .await?;
    let poison = counted.into_iter().filter(|row| row.suspects >= SUSPECTS_MAX);
    Ok(poison.map(|row| (row.endpoint_id, row.event_id)).collect())
}

/// Every lane of these shards that has rows, found by skipping from one to the next: the cost is that of the lanes, not of
/// their rows, and the shards of others are skipped at the first lane that is met there. To ask each shard for its lanes
/// would cost 4,096 probes, however little waits.
pub async fn waiting_lanes(db: impl PgExecutor<'_>, mine: &[Shard]) -> sqlx::Result<Vec<EndpointId>> {
    let rows = sqlx::query_scalar!(
        r#"
        WITH RECURSIVE lane(shard, endpoint_id) AS (
            (SELECT q.shard, q.endpoint_id FROM queue q
             WHERE (q.shard, q.endpoint_id) > (($1::int[])[1], '00000000-0000-0000-0000-000000000000'::uuid)
             ORDER BY q.shard, q.endpoint_id LIMIT 1)
            UNION ALL
            SELECT n.shard, n.endpoint_id FROM lane l CROSS JOIN LATERAL (
                SELECT q.shard, q.endpoint_id FROM queue q
                WHERE (q.shard, q.endpoint_id) > (($1::int[])[l.shard + 1],
                    CASE WHEN ($1::int[])[l.shard + 1] = l.shard THEN l.endpoint_id
                         ELSE '00000000-0000-0000-0000-000000000000'::uuid END)
                ORDER BY q.shard, q.endpoint_id LIMIT 1) n
        )
        SELECT l.endpoint_id AS "endpoint_id!: EndpointId" FROM lane l WHERE ($1::int[])[l.shard + 1] = l.shard
        "#,
        &next_of(mine)
    )
    .fetch_all(db)
    .await?;
    Ok(rows)
}

/// For every shard the first of these that is not before it; past the last, one that there is not.
fn next_of(mine: &[Shard]) -> Vec<i32> {
    let mut next = vec![i32::from(SHARD_COUNT); usize::from(SHARD_COUNT)];
    for shard in mine {
        next[shard.index()] = shard.column();
    }
    for at in (1..next.len()).rev() {
        next[at - 1] = next[at - 1].min(next[at]);
    }
    next
}

/// What of an event goes into its requests.
#[derive(Clone, Debug)]
pub struct EventBody {
    pub event_type: String,
    pub occurred_at: Timestamp,
    pub channel: Option<String>,
    pub api_version: Option<String>,
    pub live_mode: bool,
    pub data: bytes::Bytes,
}

/// The bodies of these events; what has been expunged or has expired is missing.
pub async fn bodies(
    db: impl PgExecutor<'_>,
    events: &[(Shard, EventId)],
) -> sqlx::Result<Vec<(EventId, EventBody)>> {
    let shards: Vec<i32> = events.iter().map(|(shard, _)| shard.column()).collect();
    let ids: Vec<Uuid> = events.iter().map(|(_, id)| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"
        SELECT e.id, e.event_type, e.occurred_at AS "occurred_at: Timestamp", e.channel, e.api_version, e.live_mode, e.data AS "data!"
        FROM unnest($1::int[], $2::uuid[]) AS wanted(shard, id)
        -- A join could be turned round, and read all events to find these.
        CROSS JOIN LATERAL (
            SELECT * FROM events e WHERE e.shard = wanted.shard AND e.id = wanted.id AND e.data IS NOT NULL LIMIT 1
        ) e
        "#,
        &shards,
        &ids
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let body = EventBody {
                event_type: row.event_type,
                occurred_at: row.occurred_at,
                channel: row.channel,
                api_version: row.api_version,
                live_mode: row.live_mode,
                data: row.data.into(),
            };
            (EventId::from_uuid(row.id), body)
        })
        .collect())
}
