//! SQL of the purge, but for what is in the queue's tables.

use sqlx::{PgConnection, PgExecutor};

use crate::types::{EndpointId, JobId, LocationId, TenantId};

/// What there is to do: endpoints, locations, and the tenant itself.
pub async fn count(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT 1 + (SELECT count(*) FROM endpoints WHERE tenant_id = $1)
               + (SELECT count(*) FROM locations WHERE tenant_id = $1) AS "count!""#,
        tenant.uuid()
    )
    .fetch_one(db)
    .await
}

pub async fn cancel_all(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE jobs SET status = 'canceled', finished_at = now() WHERE tenant_id = $1 AND status = 'running'",
        tenant.uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn an_endpoint(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<Option<EndpointId>> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: EndpointId" FROM endpoints WHERE tenant_id = $1 LIMIT 1"#,
        tenant.uuid()
    )
    .fetch_optional(db)
    .await
}

/// With its versions, secrets and subscriptions.
pub async fn remove_endpoint(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM endpoints WHERE tenant_id = $1 AND id = $2", tenant.uuid(), endpoint.uuid())
        .execute(db)
        .await?;
    Ok(())
}

pub async fn a_location(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<Option<LocationId>> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: LocationId" FROM locations WHERE tenant_id = $1 LIMIT 1"#,
        tenant.uuid()
    )
    .fetch_optional(db)
    .await
}

pub async fn remove_location(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    location: LocationId,
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM locations WHERE shard = $1 AND id = $2 AND tenant_id = $3",
        location.shard().column(),
        location.uuid(),
        tenant.uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes some rows of what grows with time. False once nothing is left.
pub async fn some_of_the_rest(
    db: &mut PgConnection,
    tenant: TenantId,
    job: JobId,
    some: i64,
) -> sqlx::Result<bool> {
    let told = sqlx::query!(
        // That it was deleted, and by whose request, is all that is remembered of a tenant.
        "DELETE FROM audit_log WHERE tenant_id = $1 AND id IN (
             SELECT id FROM audit_log WHERE tenant_id = $1 AND action <> 'tenant.delete' LIMIT $2)",
        tenant.uuid(),
        some
    )
    .execute(&mut *db)
    .await?;
    // By shard: the key begins with it, and locations that had some are gone.
    let keys = sqlx::query!(
        "DELETE FROM idempotency t USING (
             SELECT i.shard, i.route, i.key FROM shards s JOIN idempotency i ON i.shard = s.shard AND i.tenant_id = $1 LIMIT $2
         ) i
         WHERE t.shard = i.shard AND t.tenant_id = $1 AND t.route = i.route AND t.key = i.key",
        tenant.uuid(),
        some
    )
    .execute(&mut *db)
    .await?;
    let jobs = sqlx::query!(
        "DELETE FROM jobs WHERE tenant_id = $1 AND id IN (SELECT id FROM jobs WHERE tenant_id = $1 AND id <> $2 LIMIT $3)",
        tenant.uuid(),
        job.uuid(),
        some
    )
    .execute(db)
    .await?;
    Ok(told.rows_affected() + keys.rows_affected() + jobs.rows_affected() > 0)
}

/// The tenant, its keys, event types and formats. False where somebody has added to it after all.
pub async fn remove_tenant(db: &mut PgConnection, tenant: TenantId) -> sqlx::Result<bool> {
    // Whoever adds something that belongs to the tenant has done so by then, or can't any more.
    sqlx::query!("SELECT id FROM tenants WHERE id = $1 FOR UPDATE", tenant.uuid())
        .fetch_optional(&mut *db)
        .await?;
    if an_endpoint(&mut *db, tenant).await?.is_some() || a_location(&mut *db, tenant).await?.is_some() {
        return Ok(false);
    }
    // Before the versions that they name; all else goes with the tenant.
    sqlx::query!("DELETE FROM wire_formats WHERE tenant_id = $1", tenant.uuid()).execute(&mut *db).await?;
    sqlx::query!("DELETE FROM tenants WHERE id = $1", tenant.uuid()).execute(db).await?;
    Ok(true)
}
