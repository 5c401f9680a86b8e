//! SQL of the locations.

use sqlx::{PgConnection, PgExecutor};

use super::model::{Location, LocationRef, NewLocation};
use crate::{
    types::{LocationId, TenantId, Timestamp},
    web::page::Keyset,
};

pub async fn insert(
    db: &mut PgConnection,
    tenant: TenantId,
    id: LocationId,
    location: &NewLocation,
    now: Timestamp,
) -> sqlx::Result<Location> {
    sqlx::query_as!(
        Location,
        r#"
        INSERT INTO locations (shard, id, tenant_id, external_id, name, channels, metadata, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
        RETURNING id AS "id: LocationId", name, external_id, channels, metadata, created_at AS "created_at: Timestamp",
            updated_at AS "updated_at: Timestamp"
        "#,
        id.shard().column(),
        id.uuid(),
        tenant.uuid(),
        location.external_id,
        location.name,
        location.channels,
        location.metadata,
        now.datetime()
    )
    .fetch_one(db)
    .await
}

pub async fn find(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    location: &LocationRef,
) -> sqlx::Result<Option<Location>> {
    let (id, external_id) = location.columns();
    sqlx::query_as!(
        Location,
        r#"
        SELECT id AS "id: LocationId", name, external_id, channels, metadata, created_at AS "created_at: Timestamp",
            updated_at AS "updated_at: Timestamp"
        FROM locations
        WHERE tenant_id = $1 AND deleted_at IS NULL AND (($2::uuid IS NOT NULL AND id = $2) OR ($3::text IS NOT NULL AND external_id = $3))
        "#,
        tenant.uuid(),
        id,
        external_id
    )
    .fetch_optional(db)
    .await
}

/// The same, locked against changes until the transaction ends. Before any of its endpoints: that is the order of locks.
pub async fn lock(
    db: &mut PgConnection,
    tenant: TenantId,
    location: &LocationRef,
) -> sqlx::Result<Option<Location>> {
    let (id, external_id) = location.columns();
    sqlx::query!(
        "SELECT id FROM locations
         WHERE tenant_id = $1 AND deleted_at IS NULL AND (($2::uuid IS NOT NULL AND id = $2) OR ($3::text IS NOT NULL AND external_id = $3))
         FOR NO KEY UPDATE",
        tenant.uuid(),
        id,
        external_id
    )
    .fetch_optional(&mut *db)
    .await?;
    find(db, tenant, location).await
}

pub async fn page(db: impl PgExecutor<'_>, tenant: TenantId, page: Keyset) -> sqlx::Result<Vec<Location>> {
    sqlx::query_as!(
        Location,
        r#"
        SELECT id AS "id!: LocationId", name AS "name!", external_id, channels AS "channels!", metadata AS "metadata!",
            created_at AS "created_at!: Timestamp", updated_at AS "updated_at!: Timestamp"
        FROM (
            (SELECT * FROM locations WHERE NOT $2 AND tenant_id = $1 AND deleted_at IS NULL AND id < $3 ORDER BY id DESC LIMIT $4)
            UNION ALL
            (SELECT * FROM locations WHERE $2 AND tenant_id = $1 AND deleted_at IS NULL AND id > $3 ORDER BY id LIMIT $4)
        ) p ORDER BY id DESC
        "#,
        tenant.uuid(),
        page.backwards,
        page.edge,
        page.fetch()
    )
    .fetch_all(db)
    .await
}

/// Stores what may change. The channels decide who may publish, so publishes are routed anew.
pub async fn update(db: impl PgExecutor<'_>, tenant: TenantId, location: &Location) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE locations SET name = $4, external_id = $5, channels = $6, metadata = $7, updated_at = $8,
             routing_version = routing_version + 1
         WHERE shard = $2 AND id = $3 AND tenant_id = $1",
        tenant.uuid(),
        location.id.shard().column(),
        location.id.uuid(),
        location.name,
        location.external_id,
        location.channels,
        location.metadata,
        location.updated_at.datetime()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Leaves a tombstone; its external id is free again. False where there is no such location.
pub async fn tombstone(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: LocationId,
    now: Timestamp,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE locations SET deleted_at = $4, external_id = NULL, routing_version = routing_version + 1
         WHERE shard = $2 AND id = $3 AND tenant_id = $1 AND deleted_at IS NULL",
        tenant.uuid(),
        id.shard().column(),
        id.uuid(),
        now.datetime()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Tombstones of all its endpoints.
pub async fn tombstone_endpoints(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: LocationId,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET deleted_at = $3, deleted_xid = x.id, version = version + 1
         FROM (SELECT pg_current_xact_id()::text::bigint AS id) x
         WHERE tenant_id = $1 AND location_id = $2 AND deleted_at IS NULL",
        tenant.uuid(),
        id.uuid(),
        now.datetime()
    )
    .execute(db)
    .await?;
    Ok(())
}
