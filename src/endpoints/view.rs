//! What a stored endpoint looks like from outside.

use axum::http::{StatusCode, header};
use sqlx::PgConnection;

use super::{
    change::etag,
    client_certificate::ClientCertificate,
    model::{Endpoint, FAILING_REASON, Status},
    queries::{self, Stored},
    secrets,
};
use crate::{
    auth::Context,
    types::{EndpointId, TenantId},
    web::{Answer, ApiError},
};

pub fn view(context: &Context, tenant: TenantId, stored: Stored) -> Result<Endpoint, ApiError> {
    let headers = secrets::open_headers(&context.vault, tenant, stored.id, stored.headers_sealed.as_deref())
        .map_err(ApiError::internal)?;
    let (status, status_reason) = match (stored.paused_at, stored.disabled_at, stored.failing_since) {
        (Some(_), _, _) => (Status::Paused, Some("paused by hand".to_owned())),
        (None, Some(_), _) => (Status::Disabled, stored.disabled_reason),
        (None, None, Some(_)) => (Status::Failing, Some(FAILING_REASON.to_owned())),
        (None, None, None) => (Status::Active, None),
    };
    Ok(Endpoint {
        id: stored.id,
        location_id: stored.location_id,
        name: stored.name,
        url: stored.url,
        event_types: stored.event_types,
        rate_limit_per_s: stored.rate_limit_per_s,
        max_in_flight: stored.max_in_flight,
        format: stored.format,
        headers,
        timeout_ms: stored.timeout_ms,
        retry_schedule_s: stored.retry_schedule_s,
        metadata: stored.metadata,
        client_certificate: stored.client_certificate.map(ClientCertificate::of_chain).transpose()?,
        status,
        status_reason,
        failing_since: stored.failing_since,
        disabled_at: stored.disabled_at,
        last_success_at: stored.last_success_at,
        last_failure_at: stored.last_failure_at,
        last_error: stored.last_error,
        pending_count: stored.pending_count,
        throttled_until: stored.throttled_until,
        created_at: stored.created_at,
        updated_at: stored.updated_at,
        secret: None,
        public_key: None,
        version: stored.version,
    })
}

pub fn tagged(status: StatusCode, endpoint: &Endpoint) -> Result<Answer, ApiError> {
    Ok(Answer::json(status, endpoint)?.with(&header::ETAG, etag(endpoint.version)))
}

pub async fn found(
    context: &Context,
    db: &mut PgConnection,
    tenant: TenantId,
    id: EndpointId,
) -> Result<Endpoint, ApiError> {
    let stored = queries::find(db, tenant, id).await?.ok_or(ApiError::NotFound)?;
    view(context, tenant, stored)
}
