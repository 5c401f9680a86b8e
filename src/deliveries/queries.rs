//! SQL of the deliveries.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::model::Delivery;
use crate::types::{EndpointId, EventId, LocationId, TenantId, Timestamp};

mod attempts;
mod lanes;
mod stats;

pub use attempts::{AttemptKey, AttemptRow, attempt_keys, attempts, attempts_of, event_types};
pub use lanes::{Lane, Listed, Places, listed, nearest};
pub use stats::{Counted, counted};

/// Column value of attempts that belong to no delivery.
const TEST: i16 = 3;

/// These deliveries of the tenant, in their order; those that do not exist are left out.
pub async fn describe(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    pairs: &[(EndpointId, EventId)],
) -> sqlx::Result<Vec<Delivery>> {
    let shards: Vec<i32> = pairs.iter().map(|(endpoint, _)| endpoint.shard().column()).collect();
    let endpoints: Vec<Uuid> = pairs.iter().map(|(endpoint, _)| endpoint.uuid()).collect();
    let events: Vec<Uuid> = pairs.iter().map(|(_, event)| event.uuid()).collect();
    let rows = sqlx::query!(
        r#"
        SELECT w.endpoint_id AS "endpoint_id!: EndpointId", w.event_id AS "event_id!: EventId",
            e.location_id AS "location_id?: LocationId", e.event_type AS "event_type?",
            (q.event_id IS NOT NULL) AS "queued!", q.due_at AS "due_at?: Timestamp",
            (ep.paused_at IS NOT NULL OR h.disabled_at IS NOT NULL) AS "held!", h.throttled_until AS "throttled_until: Timestamp",
            s.status AS "settled?", s.reason AS "reason?", a.attempts AS "attempts!", coalesce(a.succeeded, false) AS "succeeded!",
            l.at AS "last_at?: Timestamp", l.response_status AS "last_status?", l.error_detail AS "last_error?"
        FROM unnest($2::int[], $3::uuid[], $4::uuid[]) WITH ORDINALITY AS w(shard, endpoint_id, event_id, place)
        JOIN endpoints ep ON ep.tenant_id = $1 AND ep.id = w.endpoint_id AND ep.deleted_at IS NULL
        JOIN endpoint_health h ON h.shard = w.shard AND h.endpoint_id = w.endpoint_id
        LEFT JOIN events e ON e.shard = w.shard AND e.id = w.event_id
        LEFT JOIN queue q ON q.shard = w.shard AND q.endpoint_id = w.endpoint_id AND q.event_id = w.event_id
        LEFT JOIN settled s ON s.shard = w.shard AND s.endpoint_id = w.endpoint_id AND s.event_id = w.event_id
        CROSS JOIN LATERAL (
            SELECT count(*) AS attempts, bool_or(a.succeeded) AS succeeded FROM attempts a
            WHERE a.shard = w.shard AND a.endpoint_id = w.endpoint_id AND a.event_id = w.event_id AND a.cause <> $5
        ) a
        LEFT JOIN LATERAL (
            SELECT a.at, a.response_status, a.error_detail FROM attempts a
            WHERE a.shard = w.shard AND a.endpoint_id = w.endpoint_id AND a.event_id = w.event_id AND a.cause <> $5
            ORDER BY a.id DESC LIMIT 1
        ) l ON true
        WHERE q.event_id IS NOT NULL OR s.event_id IS NOT NULL OR a.attempts > 0
        ORDER BY w.place
        "#,
        tenant.uuid(),
        &shards,
        &endpoints,
        &events,
        TEST
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let created_at = Timestamp::of_id(row.event_id.uuid());
            let (status, next_attempt_at) = match (row.queued, row.held, row.settled) {
                (true, false, _) => {
                    let due_at = row.due_at.unwrap_or(created_at);
                    (
                        "pending".to_owned(),
                        Some(row.throttled_until.map_or(due_at, |until| until.max(due_at))),
                    )
                }
                (true, true, _) => ("held".to_owned(), None),
                (false, _, Some(settled)) => (settled, None),
                (false, _, None) => (if row.succeeded { "succeeded" } else { "expired" }.to_owned(), None),
            };
            Delivery {
                event_id: row.event_id,
                endpoint_id: row.endpoint_id,
                location_id: row.location_id,
                event_type: row.event_type,
                status,
                attempt_count: row.attempts,
                last_response_status: row.last_status,
                last_error: row.last_error.or(row.reason),
                last_attempt_at: row.last_at,
                next_attempt_at,
                created_at,
            }
        })
        .collect())
}

/// The wire format that a delivery was created with, as far as the queue or its attempts still tell; else the endpoint's.
pub async fn format_version(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
    event: EventId,
) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!(
        r#"
        SELECT coalesce(
            (SELECT q.format_version FROM queue q WHERE q.shard = $1 AND q.endpoint_id = $2 AND q.event_id = $3),
            (SELECT a.format_version FROM attempts a WHERE a.shard = $1 AND a.endpoint_id = $2 AND a.event_id = $3
             ORDER BY a.id DESC LIMIT 1),
            e.format_version) AS "format_version!"
        FROM endpoints e WHERE e.tenant_id = $4 AND e.id = $2 AND e.deleted_at IS NULL
        "#,
        endpoint.shard().column(),
        endpoint.uuid(),
        event.uuid(),
        tenant.uuid()
    )
    .fetch_optional(db)
    .await
}

/// What went wrong at the latest attempt: a class and a sentence.
pub async fn last_error(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
    event: EventId,
) -> sqlx::Result<Option<(String, String)>> {
    let last = sqlx::query!(
        "SELECT error, error_detail FROM attempts
         WHERE shard = $1 AND endpoint_id = $2 AND event_id = $3 AND tenant_id = $4 AND cause <> $5
         ORDER BY id DESC LIMIT 1",
        endpoint.shard().column(),
        endpoint.uuid(),
        event.uuid(),
        tenant.uuid(),
        TEST
    )
    .fetch_optional(db)
    .await?;
    Ok(last.and_then(|row| row.error.zip(row.error_detail)))
}
