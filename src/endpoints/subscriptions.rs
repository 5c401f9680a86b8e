//! Which events an endpoint gets: its set of patterns.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};

use super::{change::Change, draft::check_patterns, queries};
use crate::{
    auth::{Context, Tenant, scope},
    idempotency::Work,
    types::EndpointId,
    web::{Answer, ApiError, Json, Path, fields::Fields, json::JsonList},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    event_type: String,
}

#[derive(Serialize)]
pub struct SubscriptionView {
    event_type: String,
}

#[derive(Serialize)]
pub struct SubscriptionList {
    data: Vec<SubscriptionView>,
}

fn view(event_types: impl IntoIterator<Item = String>) -> SubscriptionList {
    SubscriptionList {
        data: event_types.into_iter().map(|event_type| SubscriptionView { event_type }).collect(),
    }
}

pub async fn read(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(id): Path<EndpointId>,
) -> Result<Json<SubscriptionList>, ApiError> {
    let stored = queries::find(&context.pool, tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    Ok(Json(view(stored.event_types)))
}

/// The whole set: what is not in it is gone.
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
