//! Second chances for many deliveries: what has ended is taken out of its end and queued again.
//!
//! The ladder starts again, attempt numbers go on, and the wire format stays the one of the attempts before. What is pending
//! is left alone: a row is queued by whoever takes it out of its end, so two that do it at once move each row once. The
//! caller holds a lock on the endpoints, so that nothing is queued behind a deletion.
//!
//! Whether a row is there is asked for each by its key, as a scalar sub-select or a `LATERAL … LIMIT`: a join could be
//! planned as one over all that waits, by statistics that are always wrong.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::stats::{self, Change, End};
use crate::types::{
    EndpointId, EventId, TenantId,
    event_type::{OPERATIONAL_PREFIX, Pattern},
};

/// Deliveries that one statement looks at, so that it stays short whatever few of them are wanted.
const SCAN: i64 = 2_000;

/// Where counting stops: beyond, it would take longer than a request may.
const COUNT_MAX: i64 = 500_000;

/// Which deliveries of an endpoint are to be sent again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// Events with ids from this one on, and below that one.
    pub from: Uuid,
    pub below: Uuid,
    pub status: Status,
    /// Any of these; `None` is all.
    pub event_types: Option<Vec<Pattern>>,
}

/// How they have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Failed,
    Canceled,
    Succeeded,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Succeeded => "succeeded",
        }
    }
}

impl Status {
    fn end(self) -> End {
        match self {
            Self::Failed => End::Failed,
            Self::Canceled => End::Canceled,
            Self::Succeeded => End::Succeeded,
        }
    }
}

impl Wanted {
    fn patterns(&self) -> Option<Vec<String>> {
        let patterns = self.event_types.as_ref()?;
        Some(patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect())
    }
}

/// How many there are now, counted up to `COUNT_MAX`.
pub async fn count(
    db: &mut PgConnection,
    tenant: TenantId,
    endpoint: EndpointId,
    wanted: &Wanted,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        SELECT count(*) AS "count!" FROM (
        SELECT 1
        FROM (
            (SELECT s.event_id FROM settled s
             WHERE $5 <> 'succeeded' AND s.shard = $1 AND s.endpoint_id = $2 AND s.event_id >= $3 AND s.event_id < $4
                AND s.tenant_id = $6 AND s.status = $5)
            UNION ALL
            (SELECT DISTINCT a.event_id FROM attempts a
             WHERE $5 = 'succeeded' AND a.shard = $1 AND a.endpoint_id = $2 AND a.event_id >= $3 AND a.event_id < $4
                AND a.tenant_id = $6 AND a.succeeded AND a.cause <> 3
                AND (SELECT s.event_id FROM settled s WHERE s.shard = $1 AND s.endpoint_id = $2 AND s.event_id = a.event_id)
                    IS NULL)
        ) c
        CROSS JOIN LATERAL (SELECT e.event_type FROM events e
            WHERE e.shard = $1 AND e.id = c.event_id AND e.data IS NOT NULL LIMIT 1) e
        WHERE (SELECT q.event_id FROM queue q WHERE q.shard = $1 AND q.endpoint_id = $2 AND q.event_id = c.event_id) IS NULL
            AND ($7::text[] IS NULL OR EXISTS (SELECT 1 FROM unnest($7) AS p(pattern)
                WHERE e.event_type = p.pattern OR p.pattern = '*' AND NOT starts_with(e.event_type, $8)
                    OR p.pattern LIKE '%.*' AND starts_with(e.event_type, left(p.pattern, -1))))
        LIMIT $9) wanted
        "#,
        endpoint.shard().column(),
        endpoint.uuid(),
        wanted.from,
        wanted.below,
        wanted.status.as_str(),
        tenant.uuid(),
        wanted.patterns() as _,
        OPERATIONAL_PREFIX,
        COUNT_MAX
    )
    .fetch_one(db)
    .await
}

/// What came of [`some`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub queued: i64,
    /// Everything up to this event has been seen to. `None`: there is nothing left.
    pub up_to: Option<Uuid>,
}

/// Queues at most `most` of them, those of the earliest events above `after`.
pub async fn some(
    db: &mut PgConnection,
    tenant: TenantId,
    endpoint: EndpointId,
    wanted: &Wanted,
    after: Option<Uuid>,
    most: i64,
    format_version: i32,
) -> sqlx::Result<Moved> {
    let from = after.map_or(wanted.from, |after| Uuid::from_u128(after.as_u128().saturating_add(1)));
    let row = sqlx::query!(
        r#"
        WITH seen AS MATERIALIZED (
            (SELECT s.event_id, s.status FROM settled s
             WHERE $5 <> 'succeeded' AND s.shard = $1 AND s.endpoint_id = $2 AND s.event_id >= $3 AND s.event_id < $4
                AND s.tenant_id = $6
             ORDER BY s.event_id LIMIT $9)
            UNION ALL
            (SELECT DISTINCT a.event_id, 'succeeded' FROM attempts a
             WHERE $5 = 'succeeded' AND a.shard = $1 AND a.endpoint_id = $2 AND a.event_id >= $3 AND a.event_id < $4
                AND a.tenant_id = $6 AND a.succeeded AND a.cause <> 3
             ORDER BY a.event_id LIMIT $9)
        ), chosen AS MATERIALIZED (
            SELECT c.event_id FROM seen c
            CROSS JOIN LATERAL (SELECT e.event_type FROM events e
                WHERE e.shard = $1 AND e.id = c.event_id AND e.data IS NOT NULL LIMIT 1) e
            WHERE c.status = $5
                AND (SELECT q.event_id FROM queue q WHERE q.shard = $1 AND q.endpoint_id = $2 AND q.event_id = c.event_id) IS NULL
                AND ($5 <> 'succeeded' OR (SELECT s.event_id FROM settled s
                    WHERE s.shard = $1 AND s.endpoint_id = $2 AND s.event_id = c.event_id) IS NULL)
                AND ($7::text[] IS NULL OR EXISTS (SELECT 1 FROM unnest($7) AS p(pattern)
                    WHERE e.event_type = p.pattern OR p.pattern = '*' AND NOT starts_with(e.event_type, $8)
                        OR p.pattern LIKE '%.*' AND starts_with(e.event_type, left(p.pattern, -1))))
            ORDER BY c.event_id LIMIT $10
        ), ended AS (
            DELETE FROM settled s
            WHERE s.shard = $1 AND s.endpoint_id = $2 AND s.event_id = ANY(ARRAY(SELECT c.event_id FROM chosen c))
                AND s.status = $5
            RETURNING s.event_id
        ), queued AS (
            INSERT INTO queue AS t (shard, endpoint_id, event_id, due_at, seq, format_version, cause)
            SELECT $1, $2, c.event_id, n.now, coalesce(p.number, 0), coalesce(p.format_version, $11), 2
            FROM (SELECT d.event_id FROM ended d UNION ALL SELECT c.event_id FROM chosen c WHERE $5 = 'succeeded') c
            CROSS JOIN (SELECT clock_timestamp() AS now) n
            CROSS JOIN LATERAL (
                SELECT max(a.number) AS number, (array_agg(a.format_version ORDER BY a.id DESC))[1] AS format_version
                FROM attempts a
                WHERE a.shard = $1 AND a.endpoint_id = $2 AND a.event_id = c.event_id AND a.tenant_id = $6 AND a.cause <> 3
            ) p
            ON CONFLICT DO NOTHING
            RETURNING t.event_id
        )
        SELECT (SELECT coalesce(array_agg(q.event_id), '{}') FROM queued q) AS "queued!: Vec<EventId>",
            (SELECT count(*) FROM seen) AS "seen!", (SELECT count(*) FROM chosen) AS "chosen!",
            (SELECT c.event_id FROM seen c ORDER BY c.event_id DESC LIMIT 1) AS last_seen,
            (SELECT c.event_id FROM chosen c ORDER BY c.event_id DESC LIMIT 1) AS last_chosen
        "#,
        endpoint.shard().column(),
        endpoint.uuid(),
        from,
        wanted.below,
        wanted.status.as_str(),
        tenant.uuid(),
        wanted.patterns() as _,
        OPERATIONAL_PREFIX,
        SCAN,
        most,
        format_version
    )
    .fetch_one(&mut *db)
    .await?;
    let from = Some(wanted.status.end());
    let changes: Vec<Change> = row
        .queued
        .iter()
        .map(|event| Change { endpoint_id: endpoint, event_id: *event, from, to: None })
        .collect();
    stats::count(db, &changes).await?;
    let queued = i64::try_from(row.queued.len()).unwrap_or(i64::MAX);
    let up_to = if row.chosen >= most {
        row.last_chosen
    } else if row.seen >= SCAN {
        row.last_seen
    } else {
        None
    };
    Ok(Moved { queued, up_to })
}

/// The endpoints of these that one event can be sent to again: in its location, and not deleted.
pub async fn replayable(
    db: &mut PgConnection,
    tenant: TenantId,
    event: EventId,
    endpoints: &[EndpointId],
) -> sqlx::Result<Vec<Replayable>> {
    let ids: Vec<Uuid> = endpoints.iter().map(|endpoint| endpoint.uuid()).collect();
    sqlx::query_as!(
        Replayable,
        r#"
        SELECT n.id AS "id: EndpointId", n.format_version,
            (SELECT q.event_id FROM queue q WHERE q.shard = $1 AND q.endpoint_id = n.id AND q.event_id = $2) IS NOT NULL
                AS "pending!"
        FROM events e JOIN endpoints n ON n.tenant_id = e.tenant_id AND n.location_id = e.location_id
        WHERE e.shard = $1 AND e.id = $2 AND e.tenant_id = $3 AND n.id = ANY($4) AND n.deleted_at IS NULL
        "#,
        event.shard().column(),
        event.uuid(),
        tenant.uuid(),
        &ids
    )
    .fetch_all(db)
    .await
}

/// An endpoint that an event can be sent to.
#[derive(Debug)]
pub struct Replayable {
    pub id: EndpointId,
    pub format_version: i32,
    pub pending: bool,
}

/// Queues one event for these endpoints; those it was queued for. One that never got it gets a delivery of its own.
pub async fn event(
    db: &mut PgConnection,
    tenant: TenantId,
    event: EventId,
    endpoints: &[EndpointId],
) -> sqlx::Result<Vec<EndpointId>> {
    let ids: Vec<Uuid> = endpoints.iter().map(|endpoint| endpoint.uuid()).collect();
    let rows = sqlx::query!(
        r#"
        WITH there AS MATERIALIZED (
            SELECT n.id, n.format_version FROM endpoints n
            WHERE n.tenant_id = $3 AND n.id = ANY($4) AND n.deleted_at IS NULL
                AND n.location_id = (SELECT e.location_id FROM events e WHERE e.shard = $1 AND e.id = $2 AND e.tenant_id = $3)
            ORDER BY n.id FOR NO KEY UPDATE
        ), ended AS (
            DELETE FROM settled s
            WHERE s.shard = $1 AND s.endpoint_id = ANY(ARRAY(SELECT n.id FROM there n)) AND s.event_id = $2
                AND (SELECT q.event_id FROM queue q WHERE q.shard = $1 AND q.endpoint_id = s.endpoint_id AND q.event_id = $2)
                    IS NULL
            RETURNING s.endpoint_id, s.status
        ), past AS MATERIALIZED (
            SELECT n.id, coalesce(p.number, 0) AS number, coalesce(p.format_version, n.format_version) AS format_version,
                coalesce(p.succeeded, false) AS succeeded
            FROM there n CROSS JOIN LATERAL (
                SELECT max(a.number) AS number, (array_agg(a.format_version ORDER BY a.id DESC))[1] AS format_version,
                    bool_or(a.succeeded) AS succeeded
                FROM attempts a
                WHERE a.shard = $1 AND a.endpoint_id = n.id AND a.event_id = $2 AND a.tenant_id = $3 AND a.cause <> 3
            ) p
            -- One that is pending may be settled at this very moment.
            WHERE (SELECT q.event_id FROM queue q WHERE q.shard = $1 AND q.endpoint_id = n.id AND q.event_id = $2) IS NULL
        ), queued AS (
            INSERT INTO queue AS t (shard, endpoint_id, event_id, due_at, seq, format_version, cause)
            SELECT $1, p.id, $2, clock_timestamp(), p.number, p.format_version, 2 FROM past p
            -- What was settled when this began waits for whoever takes it out of there at this moment.
            LEFT JOIN ended d ON d.endpoint_id = p.id
            WHERE d.endpoint_id IS NOT NULL
                OR (SELECT s.event_id FROM settled s WHERE s.shard = $1 AND s.endpoint_id = p.id AND s.event_id = $2) IS NULL
            ON CONFLICT DO NOTHING
            RETURNING t.endpoint_id
        ), named AS (
            UPDATE events e SET endpoint_ids = e.endpoint_ids || n.ids
            FROM (SELECT array_agg(q.endpoint_id) AS ids FROM queued q
                  WHERE q.endpoint_id <> ALL (SELECT unnest(o.endpoint_ids) FROM events o WHERE o.shard = $1 AND o.id = $2)) n
            WHERE e.shard = $1 AND e.id = $2 AND n.ids IS NOT NULL
        )
        SELECT q.endpoint_id AS "endpoint_id: EndpointId", d.status AS "settled?", p.succeeded AS "succeeded!"
        FROM queued q JOIN past p ON p.id = q.endpoint_id LEFT JOIN ended d ON d.endpoint_id = q.endpoint_id
        "#,
        event.shard().column(),
        event.uuid(),
        tenant.uuid(),
        &ids
    )
    .fetch_all(&mut *db)
    .await?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in &rows {
        let from = match &row.settled {
            Some(status) => End::from_settled(status),
            None => row.succeeded.then_some(End::Succeeded),
        };
        changes.push(Change { endpoint_id: row.endpoint_id, event_id: event, from, to: None });
    }
    stats::count(db, &changes).await?;
    Ok(rows.into_iter().map(|row| row.endpoint_id).collect())
}
