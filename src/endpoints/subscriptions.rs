//! Which events an endpoint gets: its set of patterns, each with a condition if it has one.

use std::collections::HashMap;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    change::Change,
    draft::{EVENT_TYPES_MAX, check_new_pattern, check_patterns},
    queries::{self, SubscriptionRow},
};
use crate::{
    auth::{Context, Tenant, scope},
    filters::Filter,
    idempotency::Work,
    types::{EndpointId, TenantId, event_type::Pattern},
    web::{
        Answer, ApiError, Json, Path,
        fields::Fields,
        headers::IfMatch,
        json::{JsonList, OptionalJson},
    },
};

/// Filters of all endpoints of one location: each event is held against those that are for its type.
const LOCATION_FILTERS_MAX: i64 = 200;

/// A subscription to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateSubscription)]
pub struct Subscription {
    #[schema(value_type = Pattern)]
    event_type: String,
    /// A condition on the event, in CEL. Without it: every event of these types.
    #[schema(min_length = 1, max_length = 1024, examples("'support' in data.labels"))]
    filter: Option<String>,
}

/// What may be said of one subscription.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PutSubscription)]
pub struct PutBody {
    /// A condition on the event, in CEL. Without it: every event of these types.
    #[schema(min_length = 1, max_length = 1024, examples("channel == 'whatsapp'"))]
    filter: Option<String>,
}

/// Which events an endpoint gets.
#[derive(Serialize, ToSchema)]
#[schema(as = Subscription)]
pub struct SubscriptionView {
    #[schema(value_type = Pattern)]
    event_type: String,
    /// The condition on the event, in CEL; `null`: none.
    #[schema(examples("'support' in data.labels"))]
    filter: Option<String>,
}

impl From<SubscriptionRow> for SubscriptionView {
    fn from(row: SubscriptionRow) -> Self {
        Self { event_type: row.event_type, filter: row.filter }
    }
}

/// All subscriptions of an endpoint.
#[derive(Serialize, ToSchema)]
pub struct SubscriptionList {
    /// All of them.
    data: Vec<SubscriptionView>,
}

async fn list(
    db: impl sqlx::PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
) -> sqlx::Result<SubscriptionList> {
    let rows = queries::subscriptions(db, tenant, id).await?;
    Ok(SubscriptionList { data: rows.into_iter().map(SubscriptionView::from).collect() })
}

/// A filter that is one, or a note of what is wrong with it.
fn check_filter(fields: &mut Fields, pointer: String, text: Option<String>) -> Option<Option<String>> {
    let checked = text.map(|text| Filter::compile(&text).map(|_| text)).transpose();
    fields.take(pointer, checked.map_err(|error| error.detail))
}

/// A bound on what an event costs. The location must be locked.
async fn check_count(db: &mut sqlx::PgConnection, tenant: TenantId, id: EndpointId) -> Result<(), ApiError> {
    if queries::filters_beside(db, tenant, id).await? <= LOCATION_FILTERS_MAX {
        return Ok(());
    }
    let told = format!("The endpoints of a location have at most {LOCATION_FILTERS_MAX} filters together.");
    Err(ApiError::Conflict(told.into()))
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
    let mut db = context.begin(tenant.id).await?;
    queries::find(&mut *db, tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    Ok(Json(list(&mut *db, tenant.id, id).await?))
}

/// Replace the subscriptions of an endpoint
///
/// The whole set, at most 100, none twice: what is not in it is gone, and so is a filter that is not.
#[utoipa::path(put, path = "/v1/endpoints/{endpoint_id}/subscriptions", operation_id = "replace_subscriptions", tag = "Endpoints",
    security(("key" = ["write"])), params(IfMatch), request_body = Vec<Subscription>, responses(
        (status = 200, description = "All of them as they are now.", body = SubscriptionList),
        (status = 202, description = "All of them as they are now. A request that began before may still be under way.",
            body = SubscriptionList),
        (status = 409, description = "The endpoints of the location have too many filters.")))]
pub async fn replace(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(id): Path<EndpointId>,
    headers: HeaderMap,
    JsonList(body): JsonList<Subscription>,
) -> Result<Response, ApiError> {
    let settings = queries::tenant_settings(&mut *context.begin(tenant.id).await?, tenant.id)
        .await?
        .ok_or(ApiError::NotFound)?;
    let mut fields = Fields::default();
    let (mut texts, mut filters) = (Vec::with_capacity(body.len()), HashMap::new());
    // As many as there can be: compiling more would be work for nothing.
    for (at, Subscription { event_type, filter }) in body.into_iter().enumerate() {
        if at < EVENT_TYPES_MAX {
            let filter = check_filter(&mut fields, format!("/{at}/filter"), filter).flatten();
            filters.insert(event_type.clone(), filter);
        }
        texts.push(event_type);
    }
    let work = Work::unclaimed(&context, tenant.id).await?;
    let mut change = Change::begin(&context, tenant.id, id, &headers, work).await?;
    let stored = queries::find(change.db(), tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let patterns = check_patterns(&mut fields, ("", "/event_type"), &texts, &stored.event_types, &settings);
    let patterns = fields.done(|| patterns)?;
    let now = context.clock.now();
    queries::set_patterns(change.db(), tenant.id, id, &patterns, now).await?;
    for pattern in &patterns {
        let filter = filters.remove(pattern.as_str()).flatten();
        queries::put_subscription(change.db(), tenant.id, id, pattern, filter.as_deref(), now).await?;
    }
    check_count(change.db(), tenant.id, id).await?;
    queries::touch(change.db(), tenant.id, id, now).await?;
    let answer = Answer::json(StatusCode::OK, &list(change.db(), tenant.id, id).await?)?;
    change.commit(&tenant.actor, "endpoint.subscribe", &["event_types"], answer).await
}

/// Subscribe an endpoint
///
/// Adds a subscription beside the others, or replaces the filter of the one to the same pattern.
#[utoipa::path(put, path = "/v1/endpoints/{endpoint_id}/subscriptions/{pattern}", operation_id = "put_subscription", tag = "Endpoints",
    security(("key" = ["write"])), params(IfMatch), request_body = Option<PutBody>, responses(
        (status = 200, description = "The subscription as it is now.", body = SubscriptionView),
        (status = 201, description = "The subscription as it was made.", body = SubscriptionView),
        (status = 202, description = "The subscription as it is now. A request that began before may still be under way.",
            body = SubscriptionView),
        (status = 409, description = "The endpoint has too many subscriptions, or those of the location too many filters.")))]
pub async fn put(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path((id, pattern)): Path<(EndpointId, String)>,
    headers: HeaderMap,
    OptionalJson(body): OptionalJson<PutBody>,
) -> Result<Response, ApiError> {
    let pattern = Pattern::parse(pattern).map_err(|_| ApiError::NotFound)?;
    let settings = queries::tenant_settings(&mut *context.begin(tenant.id).await?, tenant.id)
        .await?
        .ok_or(ApiError::NotFound)?;
    let mut fields = Fields::default();
    let filter = check_filter(&mut fields, "/filter".to_owned(), body.filter);
    let work = Work::unclaimed(&context, tenant.id).await?;
    let mut change = Change::begin(&context, tenant.id, id, &headers, work).await?;
    let stored = queries::find(change.db(), tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let is_new = !stored.event_types.iter().any(|known| known == pattern.as_str());
    if is_new {
        fields.take("/event_type", check_new_pattern(&pattern, &settings));
    }
    let filter = fields.done(|| filter)?;
    if is_new && stored.event_types.len() >= EVENT_TYPES_MAX {
        let told = format!("An endpoint has at most {EVENT_TYPES_MAX} subscriptions.");
        return Err(ApiError::Conflict(told.into()));
    }
    let now = context.clock.now();
    queries::put_subscription(change.db(), tenant.id, id, &pattern, filter.as_deref(), now).await?;
    check_count(change.db(), tenant.id, id).await?;
    queries::touch(change.db(), tenant.id, id, now).await?;
    let view = SubscriptionView { event_type: pattern.as_str().to_owned(), filter };
    let answer = Answer::json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &view)?;
    change.commit(&tenant.actor, "endpoint.subscribe", &["event_types"], answer).await
}

/// Unsubscribe an endpoint
///
/// Takes one subscription away. The last one stays: an endpoint that wants nothing can be paused or deleted.
#[utoipa::path(delete, path = "/v1/endpoints/{endpoint_id}/subscriptions/{pattern}", operation_id = "delete_subscription", tag = "Endpoints",
    security(("key" = ["write"])), params(IfMatch), responses(
        (status = 204, description = "The subscription is gone."),
        (status = 202, description = "The subscription is gone. A request that began before may still be under way."),
        (status = 422, description = "It is the last one.")))]
pub async fn remove(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path((id, pattern)): Path<(EndpointId, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let pattern = Pattern::parse(pattern).map_err(|_| ApiError::NotFound)?;
    let work = Work::unclaimed(&context, tenant.id).await?;
    let mut change = Change::begin(&context, tenant.id, id, &headers, work).await?;
    let stored = queries::find(change.db(), tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    if !stored.event_types.iter().any(|known| known == pattern.as_str()) {
        return Err(ApiError::NotFound);
    }
    if stored.event_types.len() == 1 {
        return Err(ApiError::invalid("/event_type", "is the only subscription of the endpoint"));
    }
    queries::delete_subscription(change.db(), tenant.id, id, pattern.as_str()).await?;
    queries::touch(change.db(), tenant.id, id, context.clock.now()).await?;
    let answer = Answer::empty(StatusCode::NO_CONTENT);
    change.commit(&tenant.actor, "endpoint.subscribe", &["event_types"], answer).await
}
