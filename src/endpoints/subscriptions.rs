//! Which events an endpoint gets: its set of patterns.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{change::Change, draft::check_patterns, queries};
use crate::{
    auth::{Context, Tenant, scope},
    idempotency::Work,
    types::{EndpointId, event_type::Pattern},
    web::{Answer, ApiError, Json, Path, fields::Fields, headers::IfMatch, json::JsonList},
};

/// A subscription to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateSubscription)]
pub struct Subscription {
    #[schema(value_type = Pattern)]
    event_type: String,
}

/// Which events an endpoint gets.
#[derive(Serialize, ToSchema)]
#[schema(as = Subscription)]
pub struct SubscriptionView {
    #[schema(value_type = Pattern)]
    event_type: String,
}

/// All subscriptions of an endpoint.
#[derive(Serialize, ToSchema)]
pub struct SubscriptionList {
    /// All of them.
    data: Vec<SubscriptionView>,
}

fn view(event_types: impl IntoIterator<Item = String>) -> SubscriptionList {
    SubscriptionList {
        data: event_types.into_iter().map(|event_type| SubscriptionView { event_type }).collect(),
    }
}

/// List the subscriptions of an endpoint
#[utoipa::path(get, path = "/v1/endpoints/{endpoint_id}/subscriptions", operation_id = "list_subscriptions", tag = "Endpoints",
    security(("key" = ["read"])), responses(
        (status = 200, description = "All of them.", body = SubscriptionList)))]
pub async fn read(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(id): Path<EndpointId>,
) -> Result<Json<SubscriptionList>, ApiError> {
    let stored = queries::find(&context.pool, tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    Ok(Json(view(stored.event_types)))
}

/// Replace the subscriptions of an endpoint
///
/// The whole set, at most 100, none twice: what is not in it is gone.
#[utoipa::path(put, path = "/v1/endpoints/{endpoint_id}/subscriptions", operation_id = "replace_subscriptions", tag = "Endpoints",
    security(("key" = ["write"])), params(IfMatch), request_body = Vec<Subscription>, responses(
        (status = 200, description = "All of them as they are now.", body = SubscriptionList),
        (status = 202, description = "All of them as they are now. A request that began before may still be under way.",
            body = SubscriptionList)))]
pub async fn replace(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(id): Path<EndpointId>,
    headers: HeaderMap,
    JsonList(body): JsonList<Subscription>,
) -> Result<Response, ApiError> {
    let texts: Vec<String> = body.into_iter().map(|subscription| subscription.event_type).collect();
    let settings = queries::tenant_settings(&mut *context.pool.acquire().await?, tenant.id)
        .await?
        .ok_or(ApiError::NotFound)?;
    let work = Work::unclaimed(&context).await?;
    let mut change = Change::begin(&context, tenant.id, id, &headers, work).await?;
    let stored = queries::find(change.db(), tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let mut fields = Fields::default();
    let patterns = check_patterns(&mut fields, ("", "/event_type"), &texts, &stored.event_types, &settings);
    let patterns = fields.done(|| patterns)?;
    queries::set_patterns(change.db(), tenant.id, id, &patterns, context.clock.now()).await?;
    queries::touch(change.db(), tenant.id, id, context.clock.now()).await?;
    let list = view(patterns.iter().map(|pattern| pattern.as_str().to_owned()));
    let answer = Answer::json(StatusCode::OK, &list)?;
    change.commit(&tenant.actor, "endpoint.subscribe", &["event_types"], answer).await
}
