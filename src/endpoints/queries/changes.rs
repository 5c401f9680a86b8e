//! Changes to endpoints.

use sqlx::{PgConnection, PgExecutor};

use crate::{
    endpoints::{draft::Checked, secrets::Sealed},
    types::{EndpointId, LocationId, TenantId, Timestamp},
    web::Patch,
};

fn columns(values: Option<&Vec<u32>>) -> Option<Vec<i32>> {
    values.map(|values| values.iter().map(|value| signed(*value)).collect())
}

fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn set<T>(patch: &Patch<T>) -> Option<&T> {
    match patch {
        Patch::Value(value) => Some(value),
        Patch::Absent | Patch::Null => None,
    }
}

pub async fn insert(
    db: &mut PgConnection,
    tenant: TenantId,
    location: LocationId,
    id: EndpointId,
    endpoint: &Checked,
    sealed: &Sealed,
    now: Timestamp,
) -> sqlx::Result<()> {
    let certificate = set(&sealed.client_certificate);
    sqlx::query!(
        "INSERT INTO endpoints (tenant_id, id, shard, location_id, name, url, format, format_version, rate_limit_per_s,
             max_in_flight, timeout_ms, retry_schedule_s, headers_sealed, metadata, created_at, updated_at, webhook_id,
             client_certificate, client_certificate_sha256, client_key_sealed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15,
             (SELECT nextval('webhook_ids') FROM tenants t WHERE t.id = $1 AND t.preset = 'whatsable'), $16, $17, $18)",
        tenant.uuid(),
        id.uuid(),
        id.shard().column(),
        location.uuid(),
        endpoint.name.as_str(),
        endpoint.url.as_str(),
        endpoint.format.name,
        endpoint.format.version.0,
        endpoint.rate_limit_per_s.map(signed),
        signed(endpoint.max_in_flight),
        endpoint.timeout_ms.map(signed),
        columns(endpoint.retry_schedule_s.as_ref()) as _,
        sealed.headers.as_deref(),
        endpoint.metadata,
        now.datetime(),
        certificate.map(|new| new.chain_pem.as_str()),
        certificate.map(|new| &new.sha256[..]),
        certificate.map(|new| &new.key_sealed[..])
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "INSERT INTO endpoint_health (shard, endpoint_id, tenant_id) VALUES ($1, $2, $3)",
        id.shard().column(),
        id.uuid(),
        tenant.uuid()
    )
    .execute(&mut *db)
    .await?;
    insert_version(db, tenant, id, now).await
}

/// Keeps what attempts of the current version are sent with.
async fn insert_version(
    db: &mut PgConnection,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO endpoint_versions AS t (tenant_id, endpoint_id, version, url, headers_sealed, client_certificate_sha256, created_at)
         SELECT e.tenant_id, e.id, e.version, e.url, e.headers_sealed, e.client_certificate_sha256, $3 FROM endpoints e WHERE e.tenant_id = $1 AND e.id = $2",
        tenant.uuid(),
        id.uuid(),
        now.datetime()
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn update(
    db: &mut PgConnection,
    tenant: TenantId,
    id: EndpointId,
    endpoint: &Checked,
    sealed: &Sealed,
    now: Timestamp,
) -> sqlx::Result<()> {
    let certificate = set(&sealed.client_certificate);
    sqlx::query!(
        "UPDATE endpoints SET name = $3, url = $4, format = $5, format_version = $6, rate_limit_per_s = $7, max_in_flight = $8,
             timeout_ms = $9, retry_schedule_s = $10, headers_sealed = $11, metadata = $12, updated_at = $13,
             client_certificate = CASE WHEN $14 THEN client_certificate ELSE $15 END,
             client_certificate_sha256 = CASE WHEN $14 THEN client_certificate_sha256 ELSE $16 END,
             client_key_sealed = CASE WHEN $14 THEN client_key_sealed ELSE $17 END,
             version = version + 1
         WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
        endpoint.name.as_str(),
        endpoint.url.as_str(),
        endpoint.format.name,
        endpoint.format.version.0,
        endpoint.rate_limit_per_s.map(signed),
        signed(endpoint.max_in_flight),
        endpoint.timeout_ms.map(signed),
        columns(endpoint.retry_schedule_s.as_ref()) as _,
        sealed.headers.as_deref(),
        endpoint.metadata,
        now.datetime(),
        matches!(sealed.client_certificate, Patch::Absent),
        certificate.map(|new| new.chain_pem.as_str()),
        certificate.map(|new| &new.sha256[..]),
        certificate.map(|new| &new.key_sealed[..])
    )
    .execute(&mut *db)
    .await?;
    insert_version(db, tenant, id, now).await
}

/// Counts the version up for a change that is not in the endpoint's own row.
pub async fn touch(
    db: &mut PgConnection,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET version = version + 1, updated_at = $3 WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    insert_version(db, tenant, id, now).await
}

pub async fn pause(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET paused_at = coalesce(paused_at, $3), updated_at = $3, version = version + 1
         WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
        now.datetime()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends a pause, and enables what was disabled.
pub async fn resume(
    db: &mut PgConnection,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET paused_at = NULL, updated_at = $3, version = version + 1 WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "UPDATE endpoint_health SET failing_since = CASE WHEN disabled_at IS NULL THEN failing_since END,
             disabled_at = NULL, disabled_reason = NULL
         WHERE shard = $1 AND endpoint_id = $2 AND tenant_id = $3",
        id.shard().column(),
        id.uuid(),
        tenant.uuid()
    )
    .execute(&mut *db)
    .await?;
    unthrottle(db, tenant, id).await
}

/// Closes the circuit breaker.
pub async fn unthrottle(db: &mut PgConnection, tenant: TenantId, id: EndpointId) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoint_health SET throttled_until = NULL, throttle_resets = throttle_resets + 1
         WHERE shard = $1 AND endpoint_id = $2 AND tenant_id = $3",
        id.shard().column(),
        id.uuid(),
        tenant.uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Leaves a tombstone; see `endpoints.deleted_xid`.
pub async fn tombstone(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET deleted_at = $3, deleted_xid = x.id, version = version + 1
         FROM (SELECT pg_current_xact_id()::text::bigint AS id) x
         WHERE tenant_id = $1 AND endpoints.id = $2",
        tenant.uuid(),
        id.uuid(),
        now.datetime()
    )
    .execute(db)
    .await?;
    Ok(())
}
