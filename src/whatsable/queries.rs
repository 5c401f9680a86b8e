//! SQL of the webhooks as WhatsAble's API sees them: endpoints by number.

use sqlx::PgExecutor;
use uuid::Uuid;

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

pub struct Owned {
    pub tenant_id: Uuid,
    pub endpoint_id: EndpointId,
}

/// Whose webhook has this number: of any tenant, since its page tells another account's from one that does not exist.
pub async fn owner(db: impl PgExecutor<'_>, number: i64) -> sqlx::Result<Option<Owned>> {
    sqlx::query_as!(
        Owned,
        r#"SELECT tenant_id, id AS "endpoint_id: EndpointId" FROM endpoints WHERE webhook_id = $1 AND deleted_at IS NULL"#,
        number
    )
    .fetch_optional(db)
    .await
}
