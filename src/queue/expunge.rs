//! Forgetting an event: its data, what waits of it, and what receivers answered.
//!
//! The event's row is locked first; whoever queues a delivery of it again asks [`is_expunged`], which waits for that lock. An
//! attempt in flight ends by itself. Its result is on disk when the owner has obeyed, and what it holds is removed then
//! ([`responses`]); where that takes too long, the maintenance removes it ([`late_responses`]).

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::stats::{self, Change, End};
use crate::types::{EndpointId, EventId, TenantId};

/// How long after an event was expunged results of attempts in flight are looked for.
const LATE_FOR_S: f64 = 3_600.0;

/// Whether the event is expunged; it stays as it is until the transaction ends. `None`: there is no such event.
pub async fn is_expunged(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    event: EventId,
) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar!(
        r#"SELECT expunged_at IS NOT NULL AS "expunged!" FROM events WHERE shard = $1 AND id = $2 AND tenant_id = $3
           FOR NO KEY UPDATE"#,
        event.shard().column(),
        event.uuid(),
        tenant.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Removes the event's data and cancels what is pending.
pub async fn expunge(db: &mut PgConnection, tenant: TenantId, event: EventId) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE events SET data = NULL, tags = NULL, expunged_at = coalesce(expunged_at, now()) WHERE shard = $1 AND id = $2 AND tenant_id = $3",
        event.shard().column(),
        event.uuid(),
        tenant.uuid()
    )
    .execute(&mut *db)
    .await?;
    let endpoints = endpoints(&mut *db, tenant, event).await?;
    let canceled = sqlx::query_scalar!(
        r#"
        WITH gone AS (
            DELETE FROM queue q WHERE q.shard = $1 AND q.endpoint_id = ANY($4) AND q.event_id = $2
            RETURNING q.shard, q.endpoint_id, q.event_id
        )
        INSERT INTO settled AS t (shard, endpoint_id, event_id, tenant_id, status, reason, at)
        SELECT g.shard, g.endpoint_id, g.event_id, $3, 'canceled', 'the event''s data were expunged', clock_timestamp() FROM gone g
        ON CONFLICT (shard, endpoint_id, event_id)
        DO UPDATE SET status = excluded.status, reason = excluded.reason, at = excluded.at
        RETURNING t.endpoint_id AS "endpoint_id: EndpointId"
        "#,
        event.shard().column(),
        event.uuid(),
        tenant.uuid(),
        &endpoints
    )
    .fetch_all(&mut *db)
    .await?;
    let changes: Vec<Change> = canceled
        .into_iter()
        .map(|endpoint_id| Change { endpoint_id, event_id: event, from: None, to: Some(End::Canceled) })
        .collect();
    stats::count(&mut *db, &changes).await?;
    responses(db, tenant, event).await
}

/// The endpoints of the event's location: all its attempts are to them, tests too.
async fn endpoints(db: &mut PgConnection, tenant: TenantId, event: EventId) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "SELECT n.id FROM events e JOIN endpoints n ON n.tenant_id = e.tenant_id AND n.location_id = e.location_id
         WHERE e.shard = $1 AND e.id = $2 AND e.tenant_id = $3",
        event.shard().column(),
        event.uuid(),
        tenant.uuid()
    )
    .fetch_all(db)
    .await
}

/// Removes what receivers answered.
pub async fn responses(db: &mut PgConnection, tenant: TenantId, event: EventId) -> sqlx::Result<()> {
    let endpoints = endpoints(&mut *db, tenant, event).await?;
    sqlx::query!(
        "UPDATE attempts a SET response_headers = NULL, response_body = NULL
         WHERE a.shard = $1 AND a.endpoint_id = ANY($2) AND a.event_id = $3
             AND (a.response_headers IS NOT NULL OR a.response_body IS NOT NULL)",
        event.shard().column(),
        &endpoints,
        event.uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The same for attempts that were in flight for longer than anybody waited.
pub async fn late_responses(db: &mut PgConnection) -> sqlx::Result<()> {
    let late = sqlx::query!(
        r#"
        SELECT e.tenant_id AS "tenant_id: TenantId", e.id AS "id: EventId" FROM events e
        WHERE e.expunged_at > now() - $1 * interval '1 second' AND (
            SELECT true FROM endpoints n
            CROSS JOIN LATERAL (
                SELECT 1 FROM attempts a WHERE a.shard = e.shard AND a.endpoint_id = n.id AND a.event_id = e.id
                    AND (a.response_headers IS NOT NULL OR a.response_body IS NOT NULL) LIMIT 1
            ) a
            WHERE n.tenant_id = e.tenant_id AND n.location_id = e.location_id LIMIT 1)
        "#,
        LATE_FOR_S
    )
    .fetch_all(&mut *db)
    .await?;
    for event in late {
        responses(&mut *db, event.tenant_id, event.id).await?;
    }
    Ok(())
}
