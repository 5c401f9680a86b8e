//! SQL of the tenants.

use sqlx::{PgConnection, PgExecutor};

use super::model::{NewTenant, Tenant};
use crate::{
    queue::control,
    types::{Shard, TenantId, Timestamp},
    web::page::Keyset,
};

pub async fn insert(
    db: impl PgExecutor<'_>,
    id: TenantId,
    tenant: &NewTenant,
    now: Timestamp,
) -> sqlx::Result<Tenant> {
    sqlx::query_as!(
        Tenant,
        r#"
        INSERT INTO tenants (id, name, preset, external_id, allow_unknown_event_types, validate_payloads, retention_days,
            failing_days, metadata, created_at, updated_at, format)
        VALUES ($1, $2, $3, $4, $5, $10, $6, $7, $8, $9, $9, $11)
        RETURNING id AS "id: TenantId", name, preset, format, external_id, allow_unknown_event_types, validate_payloads,
            retention_days, failing_days, metadata, created_at AS "created_at: Timestamp", updated_at AS "updated_at: Timestamp"
        "#,
        id.uuid(),
        tenant.name.as_str(),
        tenant.preset,
        tenant.external_id.as_ref().map(|id| id.as_str()),
        tenant.allow_unknown_event_types,
        tenant.retention_days.map(i32::from),
        i32::from(tenant.failing_days),
        tenant.metadata,
        now.datetime(),
        tenant.validate_payloads,
        tenant.format
    )
    .fetch_one(db)
    .await
}

pub async fn find(db: impl PgExecutor<'_>, id: TenantId) -> sqlx::Result<Option<Tenant>> {
    sqlx::query_as!(
        Tenant,
        r#"
        SELECT id AS "id: TenantId", name, preset, format, external_id, allow_unknown_event_types, validate_payloads,
            retention_days, failing_days, metadata, created_at AS "created_at: Timestamp", updated_at AS "updated_at: Timestamp"
        FROM tenants WHERE id = $1 AND deleted_at IS NULL
        "#,
        id.uuid()
    )
    .fetch_optional(db)
    .await
}

/// The same, locked against changes until the transaction ends.
pub async fn lock(db: &mut PgConnection, id: TenantId) -> sqlx::Result<Option<Tenant>> {
    sqlx::query!("SELECT id FROM tenants WHERE id = $1 FOR NO KEY UPDATE", id.uuid())
        .fetch_optional(&mut *db)
        .await?;
    find(db, id).await
}

/// `external_id`: the one tenant that has it.
pub async fn page(
    db: impl PgExecutor<'_>,
    external_id: Option<&str>,
    page: Keyset,
) -> sqlx::Result<Vec<Tenant>> {
    sqlx::query_as!(
        Tenant,
        r#"
        SELECT id AS "id!: TenantId", name AS "name!", preset AS "preset!", format, external_id,
            allow_unknown_event_types AS "allow_unknown_event_types!", validate_payloads AS "validate_payloads!",
            retention_days, failing_days AS "failing_days!", metadata AS "metadata!",
            created_at AS "created_at!: Timestamp", updated_at AS "updated_at!: Timestamp"
        FROM (
            (SELECT * FROM tenants WHERE NOT $1 AND deleted_at IS NULL AND id < $2
                 AND ($4::text IS NULL OR external_id = $4) ORDER BY id DESC LIMIT $3)
            UNION ALL
            (SELECT * FROM tenants WHERE $1 AND deleted_at IS NULL AND id > $2
                 AND ($4::text IS NULL OR external_id = $4) ORDER BY id LIMIT $3)
        ) p ORDER BY id DESC
        "#,
        page.backwards,
        page.edge,
        page.fetch(),
        external_id
    )
    .fetch_all(db)
    .await
}

/// Stores what may change, and has every publish of the tenant routed anew: the settings decide on that.
pub async fn update(db: &mut PgConnection, tenant: &Tenant) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE tenants SET name = $2, external_id = $3, allow_unknown_event_types = $4, retention_days = $5,
             failing_days = $6, metadata = $7, updated_at = $8, validate_payloads = $9, format = $10
         WHERE id = $1",
        tenant.id.uuid(),
        tenant.name,
        tenant.external_id,
        tenant.allow_unknown_event_types,
        tenant.retention_days,
        tenant.failing_days,
        tenant.metadata,
        tenant.updated_at.datetime(),
        tenant.validate_payloads,
        tenant.format
    )
    .execute(&mut *db)
    .await?;
    control::reroute_all(db, tenant.id).await
}

/// Leaves tombstones of the tenant and of all that can be reached; its keys are dead. The shards whose owners must know;
/// `None` where there is no such tenant.
pub async fn tombstone(
    db: &mut PgConnection,
    id: TenantId,
    now: Timestamp,
) -> sqlx::Result<Option<Vec<Shard>>> {
    let found = sqlx::query!(
        "UPDATE tenants SET deleted_at = $2, external_id = NULL WHERE id = $1 AND deleted_at IS NULL",
        id.uuid(),
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    if found.rows_affected() == 0 {
        return Ok(None);
    }
    sqlx::query!(
        "UPDATE api_keys SET revoked_at = $2 WHERE tenant_id = $1 AND revoked_at IS NULL",
        id.uuid(),
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "UPDATE locations SET deleted_at = coalesce(deleted_at, $2), external_id = NULL, routing_version = routing_version + 1
         WHERE tenant_id = $1",
        id.uuid(),
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    let shards = sqlx::query_scalar!(
        "UPDATE endpoints SET deleted_at = $2, deleted_xid = x.id, version = version + 1
         FROM (SELECT pg_current_xact_id()::text::bigint AS id) x
         WHERE tenant_id = $1 AND deleted_at IS NULL
         RETURNING shard",
        id.uuid(),
        now.datetime()
    )
    .fetch_all(db)
    .await?;
    Ok(Some(shards.into_iter().map(Shard::from_column).collect()))
}

/// Waits for whoever is adding something that belongs to the tenant, and keeps others from it until the transaction ends.
pub async fn close(db: impl PgExecutor<'_>, id: TenantId) -> sqlx::Result<()> {
    sqlx::query!("SELECT id FROM tenants WHERE id = $1 FOR UPDATE", id.uuid()).fetch_optional(db).await?;
    Ok(())
}
