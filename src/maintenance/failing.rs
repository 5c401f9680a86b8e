//! Endpoints that have failed for too long are disabled: their deliveries are held, nothing is dropped.

use sqlx::PgPool;

use super::{Duty, is_ours};
use crate::{
    queue::{control, notices},
    types::{EndpointId, LocationId},
};

/// Endpoints disabled in one go.
const SOME: i64 = 500;

pub async fn disable(pool: &PgPool) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    if !is_ours(&mut transaction, Duty::Failing).await? {
        return Ok(());
    }
    let disabled = sqlx::query!(
        r#"
        UPDATE endpoint_health h
        SET disabled_at = d.now, disabled_reason = 'no delivery has succeeded for ' || d.failing_days || CASE d.failing_days WHEN 1 THEN ' day' ELSE ' days' END
        FROM (
            SELECT h.shard, h.endpoint_id, e.location_id, t.failing_days, now() AS now
            FROM endpoint_health h
            JOIN tenants t ON t.id = h.tenant_id
            JOIN endpoints e ON e.tenant_id = h.tenant_id AND e.id = h.endpoint_id AND e.deleted_at IS NULL
            WHERE h.disabled_at IS NULL AND h.failing_since < now() - t.failing_days * interval '1 day'
            LIMIT $1
        ) d
        WHERE h.shard = d.shard AND h.endpoint_id = d.endpoint_id
        RETURNING h.endpoint_id AS "endpoint_id: EndpointId", d.location_id AS "location_id: LocationId"
        "#,
        SOME
    )
    .fetch_all(&mut *transaction)
    .await?;
    let ids: Vec<EndpointId> = disabled.iter().map(|one| one.endpoint_id).collect();
    notices::disabled(&mut *transaction, &ids).await?;
    for one in &disabled {
        tracing::info!(endpoint = %one.endpoint_id, "disabled an endpoint that has failed for too long");
        control::reroute(&mut *transaction, one.location_id).await?;
    }
    // Shards in order, as everybody locks them.
    let mut ids = ids;
    ids.sort_unstable_by_key(|id| id.shard());
    for id in ids {
        control::command_endpoint(&mut transaction, id).await?;
    }
    transaction.commit().await
}
