//! Locks on endpoints and on what they belong to.

use sqlx::PgExecutor;

use crate::types::{EndpointId, LocationId, TenantId};

/// Keeps the tenant from getting more endpoints until the transaction ends. False where there is no such tenant.
pub async fn lock_tenant(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<bool> {
    let row = sqlx::query!("SELECT 1 AS one FROM tenants WHERE id = $1 FOR NO KEY UPDATE", tenant.uuid());
    Ok(row.fetch_optional(db).await?.is_some())
}

/// Locks every location of the tenant, and so its endpoints, against changes. The tenant must be locked: that keeps it from
/// getting more of either.
pub async fn lock_locations(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT 1 AS one FROM locations WHERE tenant_id = $1 ORDER BY id FOR NO KEY UPDATE",
        tenant.uuid()
    )
    .fetch_all(db)
    .await?;
    Ok(())
}

/// Locks the endpoint's location against changes. An endpoint stays in the location that it was made in.
pub async fn lock_location(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
) -> sqlx::Result<Option<LocationId>> {
    sqlx::query_scalar!(
        r#"SELECT l.id AS "id: LocationId" FROM locations l
           WHERE l.shard = $3 AND l.tenant_id = $1
               AND l.id = (SELECT e.location_id FROM endpoints e WHERE e.tenant_id = $1 AND e.id = $2)
           FOR NO KEY UPDATE OF l"#,
        tenant.uuid(),
        id.uuid(),
        id.shard().column()
    )
    .fetch_optional(db)
    .await
}

/// Whether the endpoint is there; locks it against changes until the transaction ends.
pub async fn lock(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
) -> sqlx::Result<Option<(LocationId, i32)>> {
    let row = sqlx::query!(
        r#"SELECT location_id AS "location_id: LocationId", version FROM endpoints
           WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE"#,
        tenant.uuid(),
        id.uuid()
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.location_id, row.version)))
}
