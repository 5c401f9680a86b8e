//! Signing secrets, custom headers and keys of client certificates: sealed before they are stored, opened where they are used.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{client_certificate::SealedClientCertificate, draft::Checked};
use crate::{
    auth::Context,
    seal::{Purpose, SealError, Vault},
    types::{EndpointId, TenantId, Timestamp, secret::SigningSecret},
    web::{ApiError, Patch},
};

/// Longest grace period of a rotated secret.
pub const GRACE_PERIOD_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub fn secret_purpose(tenant: TenantId, endpoint: EndpointId, secret: Uuid) -> Purpose {
    Purpose { what: "signing secret", tenant: tenant.uuid(), owner: endpoint.uuid(), item: secret }
}

pub fn headers_purpose(tenant: TenantId, endpoint: EndpointId) -> Purpose {
    Purpose { what: "custom headers", tenant: tenant.uuid(), owner: endpoint.uuid(), item: Uuid::nil() }
}

/// What is sealed of an endpoint, as it is stored.
pub struct Sealed {
    pub headers: Option<Vec<u8>>,
    /// `Absent`: it stays as it is.
    pub client_certificate: Patch<SealedClientCertificate>,
}

pub fn seal(
    vault: &Vault,
    tenant: TenantId,
    endpoint: EndpointId,
    checked: &Checked,
) -> Result<Sealed, ApiError> {
    let client_certificate = match &checked.client_certificate {
        Patch::Absent => Patch::Absent,
        Patch::Null => Patch::Null,
        Patch::Value(new) => Patch::Value(new.seal(vault, tenant, endpoint).map_err(ApiError::internal)?),
    };
    Ok(Sealed { headers: seal_headers(vault, tenant, endpoint, &checked.headers)?, client_certificate })
}

/// `None` where there is nothing to seal.
fn seal_headers(
    vault: &Vault,
    tenant: TenantId,
    endpoint: EndpointId,
    headers: &BTreeMap<String, String>,
) -> Result<Option<Vec<u8>>, ApiError> {
    if headers.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_vec(headers).map_err(ApiError::internal)?;
    vault.seal(&text, headers_purpose(tenant, endpoint)).map(Some).map_err(ApiError::internal)
}

pub fn open_headers(
    vault: &Vault,
    tenant: TenantId,
    endpoint: EndpointId,
    sealed: Option<&[u8]>,
) -> Result<BTreeMap<String, String>, SealError> {
    let Some(sealed) = sealed else { return Ok(BTreeMap::new()) };
    let text = vault.open(sealed, headers_purpose(tenant, endpoint))?;
    serde_json::from_slice(&text).map_err(|_| SealError::Broken)
}

/// Opens one stored secret.
pub fn open(
    vault: &Vault,
    tenant: TenantId,
    endpoint: EndpointId,
    id: Uuid,
    sealed: &[u8],
) -> Result<SigningSecret, SealError> {
    let text = vault.open_text(sealed, secret_purpose(tenant, endpoint, id))?;
    SigningSecret::parse(&text).map_err(|_| SealError::Broken)
}

/// Makes `secret` the current one. The one before goes on signing for `grace`; without any, whatever signs ends now: the
/// caller may have lost them all.
pub async fn make_current(
    db: &mut PgConnection,
    context: &Context,
    tenant: TenantId,
    endpoint: EndpointId,
    secret: &SigningSecret,
    now: Timestamp,
    grace: Duration,
) -> Result<(), ApiError> {
    sqlx::query!(
        "UPDATE endpoint_secrets SET expires_at = $3
         WHERE tenant_id = $1 AND endpoint_id = $2 AND (expires_at IS NULL OR ($4 AND expires_at > $3))",
        tenant.uuid(),
        endpoint.uuid(),
        now.plus(grace).datetime(),
        grace.is_zero()
    )
    .execute(&mut *db)
    .await?;
    let id: Uuid = context.clock.mint_in(endpoint.shard());
    let sealed = context
        .vault
        .seal(secret.reveal().as_bytes(), secret_purpose(tenant, endpoint, id))
        .map_err(ApiError::internal)?;
    sqlx::query!(
        "INSERT INTO endpoint_secrets (tenant_id, endpoint_id, id, sealed, created_at) VALUES ($1, $2, $3, $4, $5)",
        tenant.uuid(),
        endpoint.uuid(),
        id,
        sealed,
        now.datetime()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A stored secret, still sealed.
#[derive(Debug)]
pub struct SealedSecret {
    pub id: Uuid,
    pub sealed: Vec<u8>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// All secrets of an endpoint, newest first, those that signed once included.
pub async fn all(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
) -> sqlx::Result<Vec<SealedSecret>> {
    sqlx::query_as!(
        SealedSecret,
        r#"SELECT id, sealed, created_at AS "created_at: Timestamp", expires_at AS "expires_at: Timestamp"
           FROM endpoint_secrets WHERE tenant_id = $1 AND endpoint_id = $2 ORDER BY id DESC"#,
        tenant.uuid(),
        endpoint.uuid()
    )
    .fetch_all(db)
    .await
}

/// The one that signs first.
pub async fn current(
    context: &Context,
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
) -> Result<SigningSecret, ApiError> {
    let all = all(db, tenant, id).await?;
    let current = all.into_iter().find(|secret| secret.expires_at.is_none()).ok_or(ApiError::NotFound)?;
    open(&context.vault, tenant, id, current.id, &current.sealed).map_err(ApiError::internal)
}
