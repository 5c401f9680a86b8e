//! SQL of the deliveries.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::model::Delivery;
use crate::{
    queue::{Cause, finish::Attempt},
    types::{AttemptId, EndpointId, EventId, LocationId, TenantId, Timestamp},
    web::page::Keyset,
};

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
            (ep.paused_at IS NOT NULL OR h.disabled_at IS NOT NULL) AS "held!",
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
                (true, false, _) => ("pending".to_owned(), Some(row.due_at.unwrap_or(created_at))),
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

/// A page of an endpoint's deliveries: the edges of three indexes, merged.
pub async fn page_of_endpoint(
    db: impl PgExecutor<'_>,
    endpoint: EndpointId,
    page: Keyset,
) -> sqlx::Result<Vec<EventId>> {
    sqlx::query_scalar!(
        r#"
        SELECT p.event_id AS "event_id!: EventId" FROM (
            (SELECT u.event_id FROM (
                (SELECT event_id FROM queue WHERE NOT $3 AND shard = $1 AND endpoint_id = $2 AND event_id < $4
                 ORDER BY event_id DESC LIMIT $5)
                UNION (SELECT event_id FROM settled WHERE NOT $3 AND shard = $1 AND endpoint_id = $2 AND event_id < $4
                 ORDER BY event_id DESC LIMIT $5)
                UNION (SELECT DISTINCT event_id FROM attempts WHERE NOT $3 AND shard = $1 AND endpoint_id = $2 AND event_id < $4
                 AND cause <> $6 ORDER BY event_id DESC LIMIT $5)
            ) u ORDER BY u.event_id DESC LIMIT $5)
            UNION ALL
            (SELECT u.event_id FROM (
                (SELECT event_id FROM queue WHERE $3 AND shard = $1 AND endpoint_id = $2 AND event_id > $4
                 ORDER BY event_id LIMIT $5)
                UNION (SELECT event_id FROM settled WHERE $3 AND shard = $1 AND endpoint_id = $2 AND event_id > $4
                 ORDER BY event_id LIMIT $5)
                UNION (SELECT DISTINCT event_id FROM attempts WHERE $3 AND shard = $1 AND endpoint_id = $2 AND event_id > $4
                 AND cause <> $6 ORDER BY event_id LIMIT $5)
            ) u ORDER BY u.event_id LIMIT $5)
        ) p ORDER BY p.event_id DESC
        "#,
        endpoint.shard().column(),
        endpoint.uuid(),
        page.backwards,
        page.edge,
        page.fetch(),
        TEST
    )
    .fetch_all(db)
    .await
}

/// An attempt as it is stored.
#[derive(Debug)]
pub struct AttemptRow {
    pub id: AttemptId,
    pub at: Timestamp,
    pub number: i32,
    pub endpoint_version: i32,
    pub format_version: i32,
    pub cause: Cause,
    pub succeeded: bool,
    pub error: Option<String>,
    pub error_detail: Option<String>,
    pub duration_ms: i32,
    pub dns_ms: Option<i32>,
    pub connect_ms: Option<i32>,
    pub tls_ms: Option<i32>,
    pub first_byte_ms: Option<i32>,
    pub remote_addr: Option<String>,
    pub response_status: Option<i16>,
    pub response_headers: Option<Vec<u8>>,
    pub response_body: Option<Vec<u8>>,
    pub truncated: bool,
}

impl From<Attempt> for AttemptRow {
    /// As it is stored, without reading it again.
    fn from(attempt: Attempt) -> Self {
        let (error, error_detail) = attempt.error.map(|(class, detail)| (class.to_owned(), detail)).unzip();
        let response = attempt.response;
        Self {
            id: attempt.id,
            at: attempt.at,
            number: attempt.number,
            endpoint_version: attempt.endpoint_version,
            format_version: attempt.format_version,
            cause: attempt.cause,
            succeeded: error.is_none(),
            error,
            error_detail,
            duration_ms: attempt.duration_ms,
            dns_ms: attempt.dns_ms,
            connect_ms: attempt.connect_ms,
            tls_ms: attempt.tls_ms,
            first_byte_ms: attempt.first_byte_ms,
            remote_addr: attempt.remote_addr,
            response_status: response.as_ref().map(|response| response.status),
            truncated: response.as_ref().is_some_and(|response| response.truncated),
            response_headers: response.as_ref().map(|response| response.headers.to_vec()),
            response_body: response.map(|response| response.body.to_vec()),
        }
    }
}

/// All attempts of a delivery, oldest first.
pub async fn attempts(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
    event: EventId,
) -> sqlx::Result<Vec<AttemptRow>> {
    let rows = sqlx::query!(
        r#"
        SELECT id AS "id: AttemptId", at AS "at: Timestamp", number, endpoint_version, format_version, cause, succeeded, error,
            error_detail, duration_ms, dns_ms, connect_ms, tls_ms, first_byte_ms, remote_addr, response_status,
            response_headers, response_body, truncated
        FROM attempts WHERE shard = $1 AND endpoint_id = $2 AND event_id = $3 AND tenant_id = $4 AND cause <> $5
        ORDER BY number, id
        "#,
        endpoint.shard().column(),
        endpoint.uuid(),
        event.uuid(),
        tenant.uuid(),
        TEST
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| AttemptRow {
            id: row.id,
            at: row.at,
            number: row.number,
            endpoint_version: row.endpoint_version,
            format_version: row.format_version,
            cause: Cause::from_column(row.cause),
            succeeded: row.succeeded,
            error: row.error,
            error_detail: row.error_detail,
            duration_ms: row.duration_ms,
            dns_ms: row.dns_ms,
            connect_ms: row.connect_ms,
            tls_ms: row.tls_ms,
            first_byte_ms: row.first_byte_ms,
            remote_addr: row.remote_addr,
            response_status: row.response_status,
            response_headers: row.response_headers,
            response_body: row.response_body,
            truncated: row.truncated,
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
