//! Attempts: of a delivery, and of an endpoint in order.

use std::collections::HashMap;

use sqlx::PgExecutor;
use uuid::Uuid;

use super::TEST;
use crate::{
    queue::{Cause, finish::Attempt},
    types::{AttemptId, EndpointId, EventId, Shard, TenantId, Timestamp},
    web::{
        filter::{IdRange, above, below},
        page::Keyset,
    },
};

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
    sqlx::query_as!(
        AttemptRow,
        r#"
        SELECT id AS "id: AttemptId", at AS "at: Timestamp", number, endpoint_version,
            format_version, cause AS "cause: Cause", succeeded, error, error_detail, duration_ms, dns_ms, connect_ms, tls_ms,
            first_byte_ms, remote_addr, response_status, response_headers, response_body, truncated
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
    .await
}

/// What of an attempt decides whether a list shows it.
#[derive(Debug)]
pub struct AttemptKey {
    pub event_id: EventId,
    pub id: AttemptId,
    pub succeeded: bool,
    /// Where it was asked for.
    pub event_type: Option<String>,
}

/// Attempts of an endpoint, tests among them, newest event first, and newest attempt of an event.
pub async fn attempt_keys(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
    range: IdRange,
    page: Keyset<(Uuid, Uuid)>,
    with_types: bool,
) -> sqlx::Result<Vec<AttemptKey>> {
    let (event, attempt) = page.edge;
    let (after, before) = if page.backwards {
        (range.after.max(below(event)), range.before)
    } else {
        (range.after, range.before.min(above(event)))
    };
    sqlx::query_as!(
        AttemptKey,
        r#"
        SELECT p.event_id AS "event_id!: EventId", p.id AS "id!: AttemptId", p.succeeded AS "succeeded!",
            e.event_type AS "event_type?"
        FROM (
            (SELECT a.event_id, a.id, a.succeeded FROM attempts a WHERE NOT $4 AND a.shard = $1 AND a.endpoint_id = $2
                 AND a.tenant_id = $3 AND a.event_id > $5 AND a.event_id < $6 AND (a.event_id, a.id) < ($7, $8)
             ORDER BY a.event_id DESC, a.id DESC LIMIT $9)
            UNION ALL
            (SELECT a.event_id, a.id, a.succeeded FROM attempts a WHERE $4 AND a.shard = $1 AND a.endpoint_id = $2
                 AND a.tenant_id = $3 AND a.event_id > $5 AND a.event_id < $6 AND (a.event_id, a.id) > ($7, $8)
             ORDER BY a.event_id, a.id LIMIT $9)
        ) p
        LEFT JOIN LATERAL (SELECT e.event_type FROM events e WHERE $10 AND e.shard = $1 AND e.id = p.event_id) e ON true
        ORDER BY p.event_id DESC, p.id DESC
        "#,
        endpoint.shard().column(),
        endpoint.uuid(),
        tenant.uuid(),
        page.backwards,
        after,
        before,
        event,
        attempt,
        page.fetch(),
        with_types
    )
    .fetch_all(db)
    .await
}

/// These attempts of an endpoint, in their order; those that are gone are left out.
pub async fn attempts_of(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
    keys: &[(EventId, AttemptId)],
) -> sqlx::Result<Vec<AttemptRow>> {
    let (events, ids): (Vec<Uuid>, Vec<Uuid>) =
        keys.iter().map(|(event, attempt)| (event.uuid(), attempt.uuid())).unzip();
    sqlx::query_as!(
        AttemptRow,
        r#"
        SELECT a.id AS "id: AttemptId", a.at AS "at: Timestamp", a.number,
            a.endpoint_version, a.format_version, a.cause AS "cause: Cause", a.succeeded, a.error, a.error_detail,
            a.duration_ms, a.dns_ms, a.connect_ms, a.tls_ms, a.first_byte_ms, a.remote_addr, a.response_status,
            a.response_headers, a.response_body, a.truncated
        FROM unnest($4::uuid[], $5::uuid[]) WITH ORDINALITY AS k(event_id, id, place)
        -- A join could be turned round, and read all attempts to find these.
        CROSS JOIN LATERAL (
            SELECT * FROM attempts a WHERE a.shard = $1 AND a.endpoint_id = $2 AND a.event_id = k.event_id AND a.id = k.id
                AND a.tenant_id = $3 LIMIT 1
        ) a
        ORDER BY k.place
        "#,
        endpoint.shard().column(),
        endpoint.uuid(),
        tenant.uuid(),
        &events,
        &ids
    )
    .fetch_all(db)
    .await
}

/// The types of these events, which are all in one shard.
pub async fn event_types(
    db: impl PgExecutor<'_>,
    shard: Shard,
    events: &[EventId],
) -> sqlx::Result<HashMap<EventId, String>> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.uuid()).collect();
    let rows = sqlx::query!(
        r#"
        SELECT e.id AS "id: EventId", e.event_type FROM unnest($2::uuid[]) AS w(id)
        CROSS JOIN LATERAL (SELECT * FROM events e WHERE e.shard = $1 AND e.id = w.id LIMIT 1) e
        "#,
        shard.column(),
        &ids
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.event_type)).collect())
}
