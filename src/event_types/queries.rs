//! SQL of the tenants' own event types.

use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};

use crate::{
    queue::control,
    types::{TenantId, Timestamp},
};

/// A tenant's own type.
#[derive(Clone, Debug)]
pub struct Custom {
    pub name: String,
    pub description: String,
    pub group: String,
    pub channel: Option<String>,
    pub schema: Option<Value>,
    pub example: Option<Value>,
    pub archived_at: Option<Timestamp>,
}

pub async fn preset_of(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("SELECT preset FROM tenants WHERE id = $1", tenant.uuid()).fetch_optional(db).await
}

pub async fn all(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<Vec<Custom>> {
    sqlx::query_as!(
        Custom,
        r#"SELECT name, description, group_name AS "group", channel, schema, example, archived_at AS "archived_at: Timestamp"
           FROM event_types WHERE tenant_id = $1 ORDER BY name"#,
        tenant.uuid()
    )
    .fetch_all(db)
    .await
}

/// False where the tenant has a type of this name.
pub async fn insert(
    db: &mut PgConnection,
    tenant: TenantId,
    custom: &Custom,
    now: Timestamp,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO event_types (tenant_id, name, description, group_name, channel, schema, example, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT DO NOTHING",
        tenant.uuid(),
        custom.name,
        custom.description,
        custom.group,
        custom.channel,
        custom.schema,
        custom.example,
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    control::reroute_all(db, tenant).await?;
    Ok(done.rows_affected() == 1)
}

pub async fn lock(db: &mut PgConnection, tenant: TenantId, name: &str) -> sqlx::Result<Option<Custom>> {
    sqlx::query_as!(
        Custom,
        r#"SELECT name, description, group_name AS "group", channel, schema, example, archived_at AS "archived_at: Timestamp"
           FROM event_types WHERE tenant_id = $1 AND name = $2 FOR NO KEY UPDATE"#,
        tenant.uuid(),
        name
    )
    .fetch_optional(db)
    .await
}

pub async fn update(
    db: &mut PgConnection,
    tenant: TenantId,
    custom: &Custom,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE event_types SET description = $3, group_name = $4, channel = $5, schema = $6, example = $7, archived_at = $8,
             updated_at = $9
         WHERE tenant_id = $1 AND name = $2",
        tenant.uuid(),
        custom.name,
        custom.description,
        custom.group,
        custom.channel,
        custom.schema,
        custom.example,
        custom.archived_at.map(Timestamp::datetime),
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    control::reroute_all(db, tenant).await
}
