//! Pause and resume.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};

use super::{
    change::Change,
    model::Endpoint,
    queries,
    view::{found, tagged},
};
use crate::{
    auth::{Context, Tenant, scope},
    idempotency::Once,
    types::EndpointId,
    web::{ApiError, Path, headers::IfMatch, json::NoBody},
};

/// Pause an endpoint
///
/// Its deliveries are held, retries too, until it is resumed. Answers when nothing is sent to it any more.
#[utoipa::path(post, path = "/v1/endpoints/{endpoint_id}/pause", operation_id = "pause_endpoint", tag = "Endpoints",
    security(("key" = ["write"])), params(IfMatch), responses(
        (status = 200, description = "The endpoint, paused.", body = Endpoint,
            headers(("ETag" = String, description = "The endpoint's version."))),
        (status = 202, description = "The endpoint, paused. A request that began before may still be under way.",
            body = Endpoint, headers(("ETag" = String, description = "The endpoint's version.")))))]
pub async fn pause(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(id): Path<EndpointId>,
    headers: HeaderMap,
    Once { claim, .. }: Once<NoBody>,
) -> Result<Response, ApiError> {
    let work = claim.begin(&context, tenant.id).await?;
    let mut change = Change::begin(&context, tenant.id, id, &headers, work).await?;
    queries::pause(change.db(), tenant.id, id, context.clock.now()).await?;
    let endpoint = found(&context, change.db(), tenant.id, id).await?;
    change.commit(&tenant.actor, "endpoint.pause", &[], tagged(StatusCode::OK, &endpoint)?).await
}

/// Resume an endpoint
///
/// One that is paused or disabled. What was held is sent, no faster than its rate limit.
#[utoipa::path(post, path = "/v1/endpoints/{endpoint_id}/resume", operation_id = "resume_endpoint", tag = "Endpoints",
    security(("key" = ["write"])), params(IfMatch), responses(
        (status = 200, description = "The endpoint, active again.", body = Endpoint,
            headers(("ETag" = String, description = "The endpoint's version."))),
        (status = 202, description = "The endpoint, active again. A request that began before may still be under way.",
            body = Endpoint, headers(("ETag" = String, description = "The endpoint's version.")))))]
pub async fn resume(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(id): Path<EndpointId>,
    headers: HeaderMap,
    Once { claim, .. }: Once<NoBody>,
) -> Result<Response, ApiError> {
    let work = claim.begin(&context, tenant.id).await?;
    let mut change = Change::begin(&context, tenant.id, id, &headers, work).await?;
    queries::resume(change.db(), tenant.id, id, context.clock.now()).await?;
    let endpoint = found(&context, change.db(), tenant.id, id).await?;
    change.commit(&tenant.actor, "endpoint.resume", &[], tagged(StatusCode::OK, &endpoint)?).await
}
