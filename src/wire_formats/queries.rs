//! SQL of tenants' own wire formats.

use sqlx::{PgConnection, PgExecutor};

use crate::{
    formats::{Format, FormatVersion},
    types::{TenantId, Timestamp},
};

/// A tenant's own format: which version it is now.
pub struct Stored {
    pub version: i32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// How many formats a tenant has, and how many versions of formats it ever made.
pub struct Counts {
    pub formats: i64,
    pub versions: i64,
}

pub async fn all(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT version, created_at AS "created_at: Timestamp", updated_at AS "updated_at: Timestamp"
           FROM wire_formats WHERE tenant_id = $1 ORDER BY name"#,
        tenant.uuid()
    )
    .fetch_all(db)
    .await
}

pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, name: &str) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT version, created_at AS "created_at: Timestamp", updated_at AS "updated_at: Timestamp"
           FROM wire_formats WHERE tenant_id = $1 AND name = $2"#,
        tenant.uuid(),
        name
    )
    .fetch_optional(db)
    .await
}

pub async fn counts(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<Counts> {
    sqlx::query_as!(
        Counts,
        r#"SELECT (SELECT count(*) FROM wire_formats WHERE tenant_id = $1) AS "formats!",
               (SELECT count(*) FROM wire_format_versions WHERE tenant_id = $1) AS "versions!""#,
        tenant.uuid()
    )
    .fetch_one(db)
    .await
}

/// A number that nothing has had before.
pub async fn next_version(db: impl PgExecutor<'_>) -> sqlx::Result<FormatVersion> {
    let next = sqlx::query_scalar!(
        r#"SELECT nextval(pg_get_serial_sequence('wire_format_versions', 'version'))::integer AS "next!""#
    );
    next.fetch_one(db).await.map(FormatVersion)
}

/// Stores a version for good, and makes it the one that its name means.
pub async fn store(
    db: &mut PgConnection,
    tenant: TenantId,
    format: &Format,
    definition: &str,
    now: Timestamp,
) -> sqlx::Result<Stored> {
    sqlx::query!(
        "INSERT INTO wire_format_versions (version, tenant_id, name, definition, created_at)
         OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5)",
        format.version.0,
        tenant.uuid(),
        format.name,
        definition,
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    sqlx::query_as!(
        Stored,
        r#"INSERT INTO wire_formats AS f (tenant_id, name, version, created_at, updated_at)
           VALUES ($1, $2, $3, $4, $4)
           ON CONFLICT (tenant_id, name) DO UPDATE SET version = excluded.version, updated_at = excluded.updated_at
           RETURNING f.version, f.created_at AS "created_at: Timestamp", f.updated_at AS "updated_at: Timestamp""#,
        tenant.uuid(),
        format.name,
        format.version.0,
        now.datetime()
    )
    .fetch_one(db)
    .await
}

/// Whether the tenant's endpoints have it if they name none.
pub async fn is_default(db: impl PgExecutor<'_>, tenant: TenantId, name: &str) -> sqlx::Result<bool> {
    let row = sqlx::query!("SELECT 1 AS one FROM tenants WHERE id = $1 AND format = $2", tenant.uuid(), name);
    Ok(row.fetch_optional(db).await?.is_some())
}

/// Frees the name. The versions stay, for the deliveries that were made with them.
pub async fn delete(db: impl PgExecutor<'_>, tenant: TenantId, name: &str) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM wire_formats WHERE tenant_id = $1 AND name = $2", tenant.uuid(), name)
        .execute(db)
        .await?;
    Ok(())
}
