//! Which deliveries there are, in the order of their events, read from the edges of three keys.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::TEST;
use crate::{
    types::{EndpointId, EventId, LocationId, TenantId},
    web::filter::IdRange,
};

/// An endpoint whose deliveries are listed.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    pub id: EndpointId,
    /// Paused or disabled: what waits is held.
    pub is_held: bool,
}

/// The tenant's endpoints: all, those of one location, or one. There are at most [`crate::endpoints::queries::ENDPOINTS_MAX`].
pub async fn listed(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    location: Option<LocationId>,
    endpoint: Option<EndpointId>,
) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as!(
        Listed,
        r#"
        SELECT e.id AS "id: EndpointId", (e.paused_at IS NOT NULL OR h.disabled_at IS NOT NULL) AS "is_held!"
        FROM endpoints e JOIN endpoint_health h ON h.shard = e.shard AND h.endpoint_id = e.id
        WHERE e.tenant_id = $1 AND e.deleted_at IS NULL AND ($2::uuid IS NULL OR e.location_id = $2)
            AND ($3::uuid IS NULL OR e.id = $3)
        "#,
        tenant.uuid(),
        location.map(LocationId::uuid),
        endpoint.map(EndpointId::uuid)
    )
    .fetch_all(db)
    .await
}

/// Where deliveries are looked for: a state is a place (see the module of the deliveries).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    pub queue: bool,
    pub settled: bool,
    pub attempts: bool,
}

/// A part of an endpoint's deliveries, by event.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    pub endpoint_id: EndpointId,
    pub range: IdRange,
}

/// The newest deliveries of each lane (backwards: the oldest), so many of each, in no order.
///
/// Attempts are read by skipping from one delivery to the next: what a page costs does not depend on how often each was
/// tried.
pub async fn nearest(
    db: impl PgExecutor<'_>,
    lanes: &[Lane],
    places: Places,
    backwards: bool,
    of_each: i64,
) -> sqlx::Result<Vec<(EventId, EndpointId)>> {
    let shards: Vec<i32> = lanes.iter().map(|lane| lane.endpoint_id.shard().column()).collect();
    let endpoints: Vec<Uuid> = lanes.iter().map(|lane| lane.endpoint_id.uuid()).collect();
    let after: Vec<Uuid> = lanes.iter().map(|lane| lane.range.after).collect();
    let before: Vec<Uuid> = lanes.iter().map(|lane| lane.range.before).collect();
    let rows = sqlx::query!(
        r#"
        SELECT l.endpoint_id AS "endpoint_id!: EndpointId", r.event_id AS "event_id!: EventId"
        FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[]) AS l(shard, endpoint_id, after, before)
        CROSS JOIN LATERAL (
            (SELECT u.event_id FROM (
                (SELECT q.event_id FROM queue q WHERE NOT $5 AND $6 AND q.shard = l.shard AND q.endpoint_id = l.endpoint_id
                     AND q.event_id > l.after AND q.event_id < l.before ORDER BY q.event_id DESC LIMIT $9)
                UNION
                (SELECT s.event_id FROM settled s WHERE NOT $5 AND $7 AND s.shard = l.shard AND s.endpoint_id = l.endpoint_id
                     AND s.event_id > l.after AND s.event_id < l.before ORDER BY s.event_id DESC LIMIT $9)
                UNION
                (WITH RECURSIVE tried(event_id) AS (
                    (SELECT a.event_id FROM attempts a WHERE NOT $5 AND $8 AND a.shard = l.shard AND a.endpoint_id = l.endpoint_id
                         AND a.event_id > l.after AND a.event_id < l.before AND a.cause <> $10 ORDER BY a.event_id DESC LIMIT 1)
                    UNION ALL
                    SELECT n.event_id FROM tried t CROSS JOIN LATERAL (
                        SELECT a.event_id FROM attempts a WHERE a.shard = l.shard AND a.endpoint_id = l.endpoint_id
                            AND a.event_id > l.after AND a.event_id < t.event_id AND a.cause <> $10 ORDER BY a.event_id DESC LIMIT 1
                    ) n
                ) SELECT t.event_id FROM tried t LIMIT $9)
            ) u ORDER BY u.event_id DESC LIMIT $9)
            UNION ALL
            (SELECT u.event_id FROM (
                (SELECT q.event_id FROM queue q WHERE $5 AND $6 AND q.shard = l.shard AND q.endpoint_id = l.endpoint_id
                     AND q.event_id > l.after AND q.event_id < l.before ORDER BY q.event_id LIMIT $9)
                UNION
                (SELECT s.event_id FROM settled s WHERE $5 AND $7 AND s.shard = l.shard AND s.endpoint_id = l.endpoint_id
                     AND s.event_id > l.after AND s.event_id < l.before ORDER BY s.event_id LIMIT $9)
                UNION
                (WITH RECURSIVE tried(event_id) AS (
                    (SELECT a.event_id FROM attempts a WHERE $5 AND $8 AND a.shard = l.shard AND a.endpoint_id = l.endpoint_id
                         AND a.event_id > l.after AND a.event_id < l.before AND a.cause <> $10 ORDER BY a.event_id LIMIT 1)
                    UNION ALL
                    SELECT n.event_id FROM tried t CROSS JOIN LATERAL (
                        SELECT a.event_id FROM attempts a WHERE a.shard = l.shard AND a.endpoint_id = l.endpoint_id
                            AND a.event_id > t.event_id AND a.event_id < l.before AND a.cause <> $10 ORDER BY a.event_id LIMIT 1
                    ) n
                ) SELECT t.event_id FROM tried t LIMIT $9)
            ) u ORDER BY u.event_id LIMIT $9)
        ) r
        "#,
        &shards,
        &endpoints,
        &after,
        &before,
        backwards,
        places.queue,
        places.settled,
        places.attempts,
        of_each,
        TEST
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.event_id, row.endpoint_id)).collect())
}
