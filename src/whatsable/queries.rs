//! SQL of the webhooks as WhatsAble's API sees them: endpoints by number.

use sqlx::PgExecutor;

use crate::types::{EndpointId, TenantId, Timestamp};

pub struct Account {
    pub preset: String,
    pub external_id: Option<String>,
}

pub async fn account(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<Option<Account>> {
    sqlx::query_as!(Account, "SELECT preset, external_id FROM tenants WHERE id = $1", tenant.uuid())
        .fetch_optional(db)
        .await
}

pub struct Row {
    pub id: i64,
    pub created_at: Timestamp,
    pub url: String,
}

/// All of the tenant's, newest first: at most as many as a tenant may have endpoints.
pub async fn all(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"SELECT webhook_id AS "id!", created_at AS "created_at: Timestamp", url FROM endpoints
           WHERE tenant_id = $1 AND webhook_id IS NOT NULL AND deleted_at IS NULL ORDER BY webhook_id DESC"#,
        tenant.uuid()
    )
    .fetch_all(db)
    .await
}

pub async fn number(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
) -> sqlx::Result<Option<i64>> {
    let number = sqlx::query_scalar!(
        "SELECT webhook_id FROM endpoints WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        endpoint.uuid()
    )
    .fetch_optional(db)
    .await?;
    Ok(number.flatten())
}

pub async fn named(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    number: i64,
) -> sqlx::Result<Option<EndpointId>> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: EndpointId" FROM endpoints WHERE tenant_id = $1 AND webhook_id = $2 AND deleted_at IS NULL"#,
        tenant.uuid(),
        number
    )
    .fetch_optional(db)
    .await
}

/// Whether there is a webhook of this number, whosever it is: its page tells another account's from one that does not exist.
/// A door in the wall, as wide as that.
pub async fn is_taken(db: impl PgExecutor<'_>, number: i64) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT webhook_is_taken($1) AS "taken!""#, number).fetch_one(db).await
}
