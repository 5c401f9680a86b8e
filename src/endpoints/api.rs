//! Routes of the endpoints.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Tester,
    change::Change,
    create,
    draft::{Rules, UpdateBody},
    model::{Endpoint, Status},
    queries::{self, Filter},
    secrets, signing_secret, states, subscriptions,
    view::{found, tagged, view},
};
use crate::{
    auth::{Actor, Context, Tenant, scope},
    idempotency::Work,
    locations::{self, LocationRef},
    types::{EndpointId, LocationId, TenantId, event_type::Pattern},
    web::{
        Answer, ApiError, Json, Path, Query,
        headers::IfMatch,
        page::{Page, PageQuery, Scope},
    },
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Entries of one page.
    #[param(required = false, minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// `next_cursor` or `prev_cursor` of another page of the same list with the same filters. Without it: the first page.
    #[param(required = false)]
    cursor: Option<String>,
    /// Those with this text in their name or URL.
    #[param(required = false, example = "crm")]
    q: Option<String>,
    /// Those in this state.
    #[param(required = false, value_type = Status, inline)]
    status: Option<String>,
    /// Those with exactly this subscription.
    #[param(required = false, value_type = Pattern, inline)]
    event_type: Option<String>,
}

/// One page of endpoints.
#[derive(Serialize, ToSchema)]
struct EndpointList {
    #[serde(flatten)]
    page: Page<Endpoint>,
    /// Active or failing, of the whole tenant, whatever the filter.
    #[schema(minimum = 0, examples(1))]
    active_count: i64,
    /// All of the tenant, whatever the filter.
    #[schema(minimum = 0, examples(1))]
    total_count: i64,
}

async fn list_of(
    context: &Context,
    db: &mut PgConnection,
    tenant: TenantId,
    location: Option<LocationId>,
    query: ListQuery,
) -> Result<Json<EndpointList>, ApiError> {
    let status =
        match &query.status {
            None => None,
            Some(word) => {
                Some(Status::ALL.iter().find(|(known, _)| known == word).map(|(known, _)| *known).ok_or(
                    ApiError::Malformed("status must be active, failing, paused or disabled.".into()),
                )?)
            }
        };
    if query.q.as_ref().is_some_and(|text| text.contains('\0')) {
        return Err(ApiError::Malformed("q contains the character U+0000.".into()));
    }
    let event_type = query.event_type.map(Pattern::parse).transpose().map_err(|_| {
        ApiError::Malformed("event_type must be the name of an event type, prefix.* or *.".into())
    })?;
    let scope = Scope::new(&[
        "endpoints",
        &tenant.to_string(),
        &location.map(|id| id.to_string()).unwrap_or_default(),
        query.q.as_deref().unwrap_or_default(),
        status.unwrap_or_default(),
        event_type.as_ref().map(Pattern::as_str).unwrap_or_default(),
    ]);
    let page_query = PageQuery { limit: query.limit, cursor: query.cursor };
    let keyset = scope.keyset(&page_query)?;
    let filter = Filter { location, text: query.q, status, event_type };
    let rows = queries::page(&mut *db, tenant, &filter, keyset).await?;
    let (active_count, total_count) = queries::counts(db, tenant).await?;
    let views =
        rows.into_iter().map(|stored| view(context, tenant, stored)).collect::<Result<Vec<_>, _>>()?;
    let page = scope.page(&page_query, keyset, views, |endpoint| endpoint.id.uuid());
    Ok(Json(EndpointList { page, active_count, total_count }))
}

/// List endpoints
///
/// Those of all locations.
#[utoipa::path(get, path = "/v1/endpoints", operation_id = "list_endpoints", tag = "Endpoints",
    security(("key" = ["read"])), params(ListQuery), responses(
        (status = 200, description = "One page of endpoints.", body = EndpointList)))]
async fn list(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Query(query): Query<ListQuery>,
) -> Result<Json<EndpointList>, ApiError> {
    let mut db = context.begin(tenant.id).await?;
    list_of(&context, &mut db, tenant.id, None, query).await
}

/// List the endpoints of a location
#[utoipa::path(get, path = "/v1/locations/{location_id}/endpoints", operation_id = "list_endpoints_of_location",
    tag = "Endpoints", security(("key" = ["read"])), params(ListQuery), responses(
        (status = 200, description = "One page of endpoints.", body = EndpointList)))]
async fn list_in(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(location): Path<LocationRef>,
    Query(query): Query<ListQuery>,
) -> Result<Json<EndpointList>, ApiError> {
    let mut db = context.begin(tenant.id).await?;
    let location =
        locations::queries::find(&mut *db, tenant.id, &location).await?.ok_or(ApiError::NotFound)?;
    list_of(&context, &mut db, tenant.id, Some(location.id), query).await
}

/// Read an endpoint
#[utoipa::path(get, path = "/v1/endpoints/{endpoint_id}", operation_id = "read_endpoint", tag = "Endpoints",
    security(("key" = ["read"])), responses(
        (status = 200, description = "The endpoint.", body = Endpoint,
            headers(("ETag" = String, description = "The endpoint's version.")))))]
async fn read(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(id): Path<EndpointId>,
) -> Result<Answer, ApiError> {
    let endpoint = found(&context, &mut *context.begin(tenant.id).await?, tenant.id, id).await?;
    tagged(StatusCode::OK, &endpoint)
}

/// Change an endpoint
///
/// Answers when what is sent is sent by the new settings. A patch that changes nothing leaves the version as it is, and no trace
/// in the audit log.
#[utoipa::path(patch, path = "/v1/endpoints/{endpoint_id}", operation_id = "update_endpoint", tag = "Endpoints",
    security(("key" = ["write"])), params(IfMatch), request_body = UpdateBody, responses(
        (status = 200, description = "The endpoint as it is now.", body = Endpoint,
            headers(("ETag" = String, description = "The endpoint's version."))),
        (status = 202, description = "The endpoint as it is now. A request that began before may still be under way.",
            body = Endpoint, headers(("ETag" = String, description = "The endpoint's version.")))))]
async fn update(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(id): Path<EndpointId>,
    headers: HeaderMap,
    Json(body): Json<UpdateBody>,
) -> Result<Response, ApiError> {
    let settings = queries::tenant_settings(&mut *context.begin(tenant.id).await?, tenant.id)
        .await?
        .ok_or(ApiError::NotFound)?;
    let work = Work::unclaimed(&context, tenant.id).await?;
    let mut change = Change::begin(&context, tenant.id, id, &headers, work).await?;
    let stored = queries::find(change.db(), tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let custom = secrets::open_headers(&context.vault, tenant.id, id, stored.headers_sealed.as_deref())
        .map_err(ApiError::internal)?;
    let secret = secrets::current(&context, change.db(), tenant.id, id).await?;
    let format = context.formats.named(change.db(), tenant.id, body.format(&stored, &settings)).await?;
    let now = context.clock.now();
    let rules = Rules { policy: &context.policy, tenant: &settings, now };
    let (checked, fields) = body.check(format, &stored, custom.clone(), &secret, rules)?;
    if checked.is_stored(&stored, &custom) {
        return Ok(tagged(StatusCode::OK, &view(&context, tenant.id, stored)?)?.into_response());
    }
    let sealed = secrets::seal(&context.vault, tenant.id, id, &checked)?;
    queries::update(change.db(), tenant.id, id, &checked, &sealed, now).await?;
    queries::set_patterns(change.db(), tenant.id, id, &checked.patterns, now).await?;
    if fields.contains(&"url") {
        queries::unthrottle(change.db(), tenant.id, id).await?;
    }
    let endpoint = found(&context, change.db(), tenant.id, id).await?;
    change.commit(&tenant.actor, "endpoint.update", &fields, tagged(StatusCode::OK, &endpoint)?).await
}

/// Leaves a tombstone. `answer` is given when nothing is sent any more; a 202 if that takes long.
pub async fn delete(
    context: &Context,
    tenant: TenantId,
    actor: &Actor,
    id: EndpointId,
    headers: &HeaderMap,
    answer: Answer,
) -> Result<Response, ApiError> {
    let work = Work::unclaimed(context, tenant).await?;
    let mut change = Change::begin(context, tenant, id, headers, work).await?;
    queries::tombstone(change.db(), tenant, id, context.clock.now()).await?;
    change.commit(actor, "endpoint.delete", &[], answer).await
}

/// Delete an endpoint
///
/// Answers when nothing is sent to it any more; its history is purged behind.
#[utoipa::path(delete, path = "/v1/endpoints/{endpoint_id}", operation_id = "delete_endpoint", tag = "Endpoints",
    security(("key" = ["write"])), params(IfMatch), responses(
        (status = 204, description = "The endpoint is gone, and nothing is sent to it from now on."),
        (status = 202, description = "The endpoint is gone; a request that began before may still be under way.")))]
async fn remove(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(id): Path<EndpointId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    delete(&context, tenant.id, &tenant.actor, id, &headers, Answer::empty(StatusCode::NO_CONTENT)).await
}

pub fn router() -> OpenApiRouter<Tester> {
    OpenApiRouter::default()
        .routes(routes!(create::create, list))
        .routes(routes!(create::create_in, list_in))
        .routes(routes!(read, update, remove))
        .routes(routes!(states::pause))
        .routes(routes!(states::resume))
        .routes(routes!(subscriptions::read, subscriptions::replace))
        .routes(routes!(subscriptions::put, subscriptions::remove))
        .routes(routes!(signing_secret::reveal))
        .routes(routes!(signing_secret::rotate))
}
