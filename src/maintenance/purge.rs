//! What is deleted goes in small pieces, after nobody can add to it any more.

use sqlx::PgPool;

use super::{Duty, is_ours};

/// Rows of one statement.
const SOME: i64 = 5_000;
/// Endpoints of one round.
const ENDPOINTS: i64 = 20;

/// Endpoints with a tombstone that no running transaction is older than: a publish under way when it was set has ended.
pub async fn deleted_endpoints(pool: &PgPool) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    if !is_ours(&mut transaction, Duty::Purge).await? {
        return Ok(());
    }
    let gone = sqlx::query!(
        "SELECT tenant_id, id, shard FROM endpoints
         WHERE deleted_xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint AND deleted_at < now() - interval '1 minute'
         ORDER BY deleted_xid LIMIT $1",
        ENDPOINTS
    )
    .fetch_all(&mut *transaction)
    .await?;
    // Each piece is a transaction of its own; the lock is held by the first one.
    for endpoint in gone {
        loop {
            let rows = sqlx::query_scalar!(
                r#"
                WITH q AS (DELETE FROM queue t WHERE t.shard = $1 AND t.endpoint_id = $2 AND t.event_id IN (
                        SELECT event_id FROM queue WHERE shard = $1 AND endpoint_id = $2 LIMIT $3) RETURNING 1),
                s AS (DELETE FROM settled t WHERE t.shard = $1 AND t.endpoint_id = $2 AND t.event_id IN (
                        SELECT event_id FROM settled WHERE shard = $1 AND endpoint_id = $2 LIMIT $3) RETURNING 1),
                a AS (DELETE FROM attempts t WHERE t.shard = $1 AND t.endpoint_id = $2 AND t.event_id IN (
                        SELECT event_id FROM attempts WHERE shard = $1 AND endpoint_id = $2 LIMIT $3) RETURNING 1)
                SELECT (SELECT count(*) FROM q) + (SELECT count(*) FROM s) + (SELECT count(*) FROM a) AS "rows!"
                "#,
                endpoint.shard,
                endpoint.id,
                SOME
            )
            .fetch_one(pool)
            .await?;
            if rows == 0 {
                break;
            }
        }
        sqlx::query!(
            "DELETE FROM endpoint_stats WHERE shard = $1 AND endpoint_id = $2",
            endpoint.shard,
            endpoint.id
        )
        .execute(pool)
        .await?;
        sqlx::query!(
            "DELETE FROM endpoint_health WHERE shard = $1 AND endpoint_id = $2",
            endpoint.shard,
            endpoint.id
        )
        .execute(pool)
        .await?;
        sqlx::query!(
            "DELETE FROM endpoints WHERE tenant_id = $1 AND id = $2",
            endpoint.tenant_id,
            endpoint.id
        )
        .execute(pool)
        .await?;
    }
    sqlx::query!(
        "DELETE FROM locations l WHERE l.deleted_at < now() - interval '1 minute'
         AND NOT EXISTS (SELECT 1 FROM endpoints e WHERE e.tenant_id = l.tenant_id AND e.location_id = l.id)"
    )
    .execute(&mut *transaction)
    .await?;
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
