//! What is deleted goes in small pieces, after nobody can add to it any more.

use sqlx::PgPool;

use super::{Duty, is_ours};
use crate::{
    queue::purge,
    types::{EndpointId, LocationId},
};

/// Endpoints and locations of one round.
const ENDPOINTS: i64 = 20;
const LOCATIONS: i64 = 20;

/// Endpoints, and locations without any, with a tombstone that no running transaction is older than: a publish under way when it was set has ended.
pub async fn deleted_endpoints(pool: &PgPool) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    if !is_ours(&mut transaction, Duty::Purge).await? {
        return Ok(());
    }
    let gone = sqlx::query!(
        r#"SELECT tenant_id, id AS "id: EndpointId" FROM endpoints
         WHERE deleted_xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint AND deleted_at < now() - interval '1 minute'
         ORDER BY deleted_xid LIMIT $1"#,
        ENDPOINTS
    )
    .fetch_all(&mut *transaction)
    .await?;
    // Each piece is a transaction of its own; the lock is held by the first one.
    for endpoint in gone {
        while purge::history(&mut *pool.acquire().await?, endpoint.id).await? {}
        sqlx::query!(
            "DELETE FROM endpoints WHERE tenant_id = $1 AND id = $2",
            endpoint.tenant_id,
            endpoint.id.uuid()
        )
        .execute(pool)
        .await?;
    }
    let empty = sqlx::query_scalar!(
        r#"SELECT l.id AS "id: LocationId" FROM locations l WHERE l.deleted_at < now() - interval '1 minute'
           AND NOT EXISTS (SELECT 1 FROM endpoints e WHERE e.tenant_id = l.tenant_id AND e.location_id = l.id) LIMIT $1"#,
        LOCATIONS
    )
    .fetch_all(&mut *transaction)
    .await?;
    for location in empty {
        while purge::events(&mut *pool.acquire().await?, location).await? {}
        sqlx::query!(
            "DELETE FROM locations WHERE shard = $1 AND id = $2",
            location.shard().column(),
            location.uuid()
        )
        .execute(pool)
        .await?;
    }
    transaction.commit().await
}

/// Idempotency keys are kept for at least a day; nodes that are dead own nothing.
pub async fn old_keys_and_nodes(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM idempotency WHERE created_at < now() - interval '25 hours'")
        .execute(pool)
        .await?;
    sqlx::query!(
        "DELETE FROM nodes n WHERE n.dead AND n.started_at < now() - interval '1 day'
         AND NOT EXISTS (SELECT 1 FROM shards s WHERE s.node = n.id)"
    )
    .execute(pool)
    .await?;
    Ok(())
}
