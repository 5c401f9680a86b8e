//! Test events: an event that nobody published and its one attempt, kept so that history can show them.

use sqlx::PgConnection;

use super::{finish::Attempt, refill::EventBody};
use crate::types::{EndpointId, EventId, LocationId, TenantId};

/// Whose test it was.
#[derive(Clone, Copy, Debug)]
pub struct TestEvent {
    pub id: EventId,
    pub tenant_id: TenantId,
    pub location_id: LocationId,
    pub endpoint_id: EndpointId,
}

/// Stores both. The event names no endpoint: a test is no delivery. The caller holds a lock on the endpoint, so that nothing
/// is left behind where it is deleted.
pub async fn store(
    db: &mut PgConnection,
    test: TestEvent,
    event: &EventBody,
    attempt: &Attempt,
) -> sqlx::Result<()> {
    let shard = test.id.shard().column();
    sqlx::query!(
        "INSERT INTO events (shard, id, tenant_id, location_id, event_type, occurred_at, channel, api_version, live_mode, endpoint_ids,
             data)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '{}', $10)",
        shard,
        test.id.uuid(),
        test.tenant_id.uuid(),
        test.location_id.uuid(),
        event.event_type,
        event.occurred_at.datetime(),
        event.channel,
        event.api_version,
        event.live_mode,
        &event.data[..]
    )
    .execute(&mut *db)
    .await?;
    let response = attempt.response.as_ref();
    let (error, detail) = attempt.error.as_ref().map(|(class, detail)| (*class, detail.as_str())).unzip();
    sqlx::query!(
        "INSERT INTO attempts (shard, endpoint_id, event_id, id, tenant_id, at, number, endpoint_version, format_version, cause,
             duration_ms, dns_ms, connect_ms, tls_ms, first_byte_ms, remote_addr, succeeded, error, error_detail,
             response_status, response_headers, response_body, truncated)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)",
        shard,
        test.endpoint_id.uuid(),
        test.id.uuid(),
        attempt.id.uuid(),
        test.tenant_id.uuid(),
        attempt.at.datetime(),
        attempt.number,
        attempt.endpoint_version,
        attempt.format_version,
        attempt.cause.column(),
        attempt.duration_ms,
        attempt.dns_ms,
        attempt.connect_ms,
        attempt.tls_ms,
        attempt.first_byte_ms,
        attempt.remote_addr,
        attempt.error.is_none(),
        error,
        detail,
        response.map(|response| response.status),
        response.map(|response| &response.headers[..]),
        response.map(|response| &response.body[..]).filter(|body| !body.is_empty()),
        response.is_some_and(|response| response.truncated)
    )
    .execute(db)
    .await?;
    Ok(())
}
