//! SQL of the events, but for what publishing does.

use serde_json::Value;
use sqlx::PgExecutor;

use crate::{
    types::{EndpointId, EventId, LocationId, Shard, TenantId, Timestamp},
    web::{filter::IdRange, page::Keyset},
};

/// An event without its data.
#[derive(Debug)]
pub struct EventRow {
    pub id: EventId,
    pub location_id: LocationId,
    pub event_type: String,
    pub occurred_at: Timestamp,
    pub channel: Option<String>,
    pub api_version: Option<String>,
    pub live_mode: bool,
    pub tags: Option<Value>,
    pub endpoint_ids: Vec<EndpointId>,
    pub expunged_at: Option<Timestamp>,
}

pub async fn page(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    location: LocationId,
    range: IdRange,
    page: Keyset,
) -> sqlx::Result<Vec<EventRow>> {
    let (after, before) = if page.backwards {
        (range.after.max(page.edge), range.before)
    } else {
        (range.after, range.before.min(page.edge))
    };
    sqlx::query_as!(
        EventRow,
        r#"
        SELECT p.id AS "id!: EventId", p.location_id AS "location_id!: LocationId", p.event_type AS "event_type!",
            p.occurred_at AS "occurred_at!: Timestamp", p.channel, p.api_version, p.live_mode AS "live_mode!", p.tags,
            p.endpoint_ids AS "endpoint_ids!: Vec<EndpointId>", p.expunged_at AS "expunged_at: Timestamp"
        FROM (
            (SELECT * FROM events WHERE NOT $4 AND shard = $1 AND location_id = $2 AND tenant_id = $3 AND id > $5 AND id < $6
             ORDER BY id DESC LIMIT $7)
            UNION ALL
            (SELECT * FROM events WHERE $4 AND shard = $1 AND location_id = $2 AND tenant_id = $3 AND id > $5 AND id < $6
             ORDER BY id LIMIT $7)
        ) p ORDER BY p.id DESC
        "#,
        location.shard().column(),
        location.uuid(),
        tenant.uuid(),
        page.backwards,
        after,
        before,
        page.fetch()
    )
    .fetch_all(db)
    .await
}

/// One event, and its data as JSON text, unless they were expunged.
pub async fn find(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EventId,
) -> sqlx::Result<Option<(EventRow, Option<Vec<u8>>)>> {
    let row = sqlx::query!(
        r#"
        SELECT id AS "id: EventId", location_id AS "location_id: LocationId", event_type,
            occurred_at AS "occurred_at: Timestamp", channel, api_version, live_mode, tags,
            endpoint_ids AS "endpoint_ids: Vec<EndpointId>", data, expunged_at AS "expunged_at: Timestamp"
        FROM events e WHERE shard = $1 AND id = $2 AND tenant_id = $3
            AND EXISTS (SELECT 1 FROM locations l WHERE l.shard = $1 AND l.id = e.location_id AND l.deleted_at IS NULL)
        "#,
        id.shard().column(),
        id.uuid(),
        tenant.uuid()
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let event = EventRow {
            id: row.id,
            location_id: row.location_id,
            event_type: row.event_type,
            occurred_at: row.occurred_at,
            channel: row.channel,
            api_version: row.api_version,
            live_mode: row.live_mode,
            tags: row.tags,
            endpoint_ids: row.endpoint_ids,
            expunged_at: row.expunged_at,
        };
        (event, row.data)
    }))
}

/// Whether it was made to test an endpoint.
pub async fn is_test(db: impl PgExecutor<'_>, tenant: TenantId, event: &EventRow) -> sqlx::Result<bool> {
    if event.live_mode || !event.endpoint_ids.is_empty() {
        return Ok(false);
    }
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM endpoints e CROSS JOIN LATERAL (
                   SELECT 1 FROM attempts a WHERE a.shard = $3 AND a.endpoint_id = e.id AND a.event_id = $4 AND a.cause = 3 LIMIT 1) a
               WHERE e.tenant_id = $1 AND e.location_id = $2
           ) AS "test!""#,
        tenant.uuid(),
        event.location_id.uuid(),
        event.id.shard().column(),
        event.id.uuid()
    )
    .fetch_one(db)
    .await
}

/// Fingerprint and answer of the first request with this key.
pub async fn first_answer(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    shard: Shard,
    route: &str,
    key: &str,
) -> sqlx::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let row = sqlx::query!(
        "SELECT fingerprint, answer FROM idempotency WHERE shard = $1 AND tenant_id = $2 AND route = $3 AND key = $4",
        shard.column(),
        tenant.uuid(),
        route,
        key
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.fingerprint, row.answer)))
}
