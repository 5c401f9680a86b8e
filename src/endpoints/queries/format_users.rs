//! Which endpoints use a wire format.

use sqlx::PgExecutor;

use crate::{
    formats::Format,
    types::{EndpointId, TenantId},
};

/// What of an endpoint a wire format must fit.
pub struct FormatUser {
    pub id: EndpointId,
    pub url: String,
    pub headers_sealed: Option<Vec<u8>>,
}

/// The endpoints with a wire format of this name.
pub async fn users_of_format(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    name: &str,
) -> sqlx::Result<Vec<FormatUser>> {
    sqlx::query_as!(
        FormatUser,
        r#"SELECT id AS "id: EndpointId", url, headers_sealed FROM endpoints
           WHERE tenant_id = $1 AND format = $2 AND deleted_at IS NULL ORDER BY id"#,
        tenant.uuid(),
        name
    )
    .fetch_all(db)
    .await
}

/// One of them.
pub async fn user_of_format(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    name: &str,
) -> sqlx::Result<Option<EndpointId>> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: EndpointId" FROM endpoints
           WHERE tenant_id = $1 AND format = $2 AND deleted_at IS NULL ORDER BY id LIMIT 1"#,
        tenant.uuid(),
        name
    )
    .fetch_optional(db)
    .await
}

/// Has the endpoints with this format use its new version from the next publish on. Nothing that an endpoint shows of
/// itself changes, so its version stays.
pub async fn adopt_format(db: impl PgExecutor<'_>, tenant: TenantId, format: &Format) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET format_version = $3 WHERE tenant_id = $1 AND format = $2 AND deleted_at IS NULL",
        tenant.uuid(),
        format.name,
        format.version.0
    )
    .execute(db)
    .await?;
    Ok(())
}
