//! Routes of the endpoints.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Tester,
    change::{Change, etag},
    draft::{CreateBody, UpdateBody, secret_fits},
    model::{Endpoint, FAILING_REASON, Status},
    queries::{self, ENDPOINTS_MAX, Filter, Stored},
    secrets::{self, GRACE_PERIOD_MAX},
    subscriptions,
};
use crate::{
    audit,
    auth::{Actor, Context, Tenant, scope},
    idempotency::{Claim, Done, Once, Work},
    locations::{self, LocationRef},
    queue::control,
    signing::MAX_LIVE_SECRETS,
    types::{Clock, EndpointId, LocationId, Shard, TenantId, event_type::Pattern, secret::SigningSecret},
    web::{
        Answer, ApiError, Json, Path, Query,
        fields::Fields,
        headers::IfMatch,
        json::{NoBody, OptionalJson},
        page::{Page, PageQuery, Scope},
    },
};

/// What a stored endpoint looks like from outside.
fn view(context: &Context, tenant: TenantId, stored: Stored) -> Result<Endpoint, ApiError> {
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
        status,
        status_reason,
        failing_since: stored.failing_since,
        last_success_at: stored.last_success_at,
        last_failure_at: stored.last_failure_at,
        last_error: stored.last_error,
        pending_count: stored.pending_count,
        throttled_until: None,
        created_at: stored.created_at,
        updated_at: stored.updated_at,
        secret: None,
        version: stored.version,
    })
}

fn tagged(status: StatusCode, endpoint: &Endpoint) -> Result<Answer, ApiError> {
    Ok(Answer::json(status, endpoint)?.with(&header::ETAG, etag(endpoint.version)))
}

async fn found(
    context: &Context,
    db: &mut PgConnection,
    tenant: TenantId,
    id: EndpointId,
) -> Result<Endpoint, ApiError> {
    let stored = queries::find(db, tenant, id).await?.ok_or(ApiError::NotFound)?;
    view(context, tenant, stored)
}

/// Makes an endpoint, in the transaction of `work`; its secret is in the answer.
pub async fn add(
    context: &Context,
    work: &mut Work,
    tenant: TenantId,
    actor: &Actor,
    wanted: &LocationRef,
    body: CreateBody,
    no_location: impl FnOnce() -> ApiError,
) -> Result<Endpoint, ApiError> {
    if !queries::lock_tenant(&mut **work, tenant).await? {
        return Err(ApiError::NotFound);
    }
    let location = locations::queries::lock(work, tenant, wanted).await?.ok_or_else(no_location)?.id;
    let settings = queries::tenant_settings(work, tenant).await?.ok_or(ApiError::NotFound)?;
    let format = context.formats.named(work, tenant, body.format(&settings)).await?;
    let (checked, secret) = body.check(format, &context.policy, &settings)?;
    let now = context.clock.now();
    let id: EndpointId = mint(&context.clock, location.shard());
    let sealed = secrets::seal_headers(&context.vault, tenant, id, &checked.headers)?;
    let (_, total) = queries::counts(&mut **work, tenant).await?;
    if total >= ENDPOINTS_MAX {
        return Err(ApiError::Conflict(format!("A tenant has at most {ENDPOINTS_MAX} endpoints.").into()));
    }
    queries::insert(work, tenant, location, id, &checked, sealed.as_deref(), now).await?;
    queries::set_patterns(work, tenant, id, &checked.patterns, now).await?;
    secrets::make_current(work, context, tenant, id, &secret, now, Duration::ZERO).await?;
    control::reroute(&mut **work, location).await?;
    let act = audit::Act { action: "endpoint.create", resource: &id.to_string(), fields: &[] };
    audit::record(&mut **work, tenant, &context.clock, actor, act).await?;
    let mut endpoint = found(context, work, tenant, id).await?;
    endpoint.secret = Some(secret.reveal().to_owned());
    Ok(endpoint)
}

async fn make(
    context: &Context,
    tester: &Tester,
    tenant: &Tenant<scope::Write>,
    wanted: &LocationRef,
    claim: Claim,
    body: CreateBody,
    no_location: impl FnOnce() -> ApiError,
) -> Result<Done, ApiError> {
    let mut work = claim.begin(context, Some(tenant.id)).await?;
    let pings = body.send_test_ping;
    let endpoint = add(context, &mut work, tenant.id, &tenant.actor, wanted, body, no_location).await?;
    let done = work.commit(context, tagged(StatusCode::CREATED, &endpoint)?).await?;
    if pings {
        tester.ping(tenant.id, endpoint.id, tenant.actor.clone());
    }
    Ok(done)
}

fn mint(clock: &Clock, shard: Shard) -> EndpointId {
    clock.mint_in(shard)
}

/// Make an endpoint
///
/// In the tenant's default location, unless the body names another.
#[utoipa::path(post, path = "/v1/endpoints", operation_id = "create_endpoint", tag = "Endpoints",
    security(("key" = ["write"])), request_body = CreateBody, responses(
        (status = 201, description = "The endpoint as it was made, with its secret, shown this once.", body = Endpoint,
            headers(("ETag" = String, description = "The endpoint's version."))),
        (status = 409, description = "The tenant has as many endpoints as it may have.")))]
async fn create(
    State(context): State<Context>,
    State(tester): State<Tester>,
    tenant: Tenant<scope::Write>,
    Once { claim, body: Json(mut body) }: Once<Json<CreateBody>>,
) -> Result<Done, ApiError> {
    let wanted = body.location_id.take().unwrap_or_else(LocationRef::default_location);
    make(&context, &tester, &tenant, &wanted, claim, body, || {
        ApiError::invalid("/location_id", "is not a location of this tenant")
    })
    .await
}

/// Make an endpoint in a location
#[utoipa::path(post, path = "/v1/locations/{location_id}/endpoints", operation_id = "create_endpoint_in_location",
    tag = "Endpoints", security(("key" = ["write"])), request_body = CreateBody, responses(
        (status = 201, description = "The endpoint as it was made, with its secret, shown this once.", body = Endpoint,
            headers(("ETag" = String, description = "The endpoint's version."))),
        (status = 409, description = "The tenant has as many endpoints as it may have.")))]
async fn create_in(
    State(context): State<Context>,
    State(tester): State<Tester>,
    tenant: Tenant<scope::Write>,
    Path(location): Path<LocationRef>,
    Once { claim, body: Json(body) }: Once<Json<CreateBody>>,
) -> Result<Done, ApiError> {
    if body.location_id.is_some() {
        return Err(ApiError::invalid("/location_id", "is in the path already"));
    }
    make(&context, &tester, &tenant, &location, claim, body, || ApiError::NotFound).await
}

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
    let rows = queries::page(&context.pool, tenant, &filter, keyset).await?;
    let (active_count, total_count) = queries::counts(&context.pool, tenant).await?;
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
    list_of(&context, tenant.id, None, query).await
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
    let location =
        locations::queries::find(&context.pool, tenant.id, &location).await?.ok_or(ApiError::NotFound)?;
    list_of(&context, tenant.id, Some(location.id), query).await
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
    let endpoint = found(&context, &mut *context.pool.acquire().await?, tenant.id, id).await?;
    tagged(StatusCode::OK, &endpoint)
}

/// Change an endpoint
///
/// Answers when what is sent is sent by the new settings.
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
    let settings = queries::tenant_settings(&mut *context.pool.acquire().await?, tenant.id)
        .await?
        .ok_or(ApiError::NotFound)?;
    let work = Work::unclaimed(&context).await?;
    let mut change = Change::begin(&context, tenant.id, id, &headers, work).await?;
    let stored = queries::find(change.db(), tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let custom = secrets::open_headers(&context.vault, tenant.id, id, stored.headers_sealed.as_deref())
        .map_err(ApiError::internal)?;
    let secret = secrets::current(&context, change.db(), tenant.id, id).await?;
    let format = context.formats.named(change.db(), tenant.id, body.format(&stored, &settings)).await?;
    let (checked, fields) = body.check(format, &stored, custom, &secret, &context.policy, &settings)?;
    let sealed = secrets::seal_headers(&context.vault, tenant.id, id, &checked.headers)?;
    let now = context.clock.now();
    queries::update(change.db(), tenant.id, id, &checked, sealed.as_deref(), now).await?;
    queries::set_patterns(change.db(), tenant.id, id, &checked.patterns, now).await?;
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
    let work = Work::unclaimed(context).await?;
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

/// Pause an endpoint
///
/// Its deliveries are held, retries too, until it is resumed. Answers when nothing is sent to it any more.
#[utoipa::path(post, path = "/v1/endpoints/{endpoint_id}/pause", operation_id = "pause_endpoint", tag = "Endpoints",
    security(("key" = ["write"])), params(IfMatch), responses(
        (status = 200, description = "The endpoint, paused.", body = Endpoint,
            headers(("ETag" = String, description = "The endpoint's version."))),
        (status = 202, description = "The endpoint, paused. A request that began before may still be under way.",
            body = Endpoint, headers(("ETag" = String, description = "The endpoint's version.")))))]
async fn pause(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(id): Path<EndpointId>,
    headers: HeaderMap,
    Once { claim, .. }: Once<NoBody>,
) -> Result<Response, ApiError> {
    let work = claim.begin(&context, Some(tenant.id)).await?;
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
async fn resume(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(id): Path<EndpointId>,
    headers: HeaderMap,
    Once { claim, .. }: Once<NoBody>,
) -> Result<Response, ApiError> {
    let work = claim.begin(&context, Some(tenant.id)).await?;
    let mut change = Change::begin(&context, tenant.id, id, &headers, work).await?;
    queries::resume(change.db(), tenant.id, id, context.clock.now()).await?;
    let endpoint = found(&context, change.db(), tenant.id, id).await?;
    change.commit(&tenant.actor, "endpoint.resume", &[], tagged(StatusCode::OK, &endpoint)?).await
}

/// An endpoint's signing secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Secret)]
struct SecretView {
    #[schema(value_type = SigningSecret)]
    secret: String,
}

/// Show the signing secret
///
/// The current one. The audit log says who saw it.
#[utoipa::path(get, path = "/v1/endpoints/{endpoint_id}/secret", operation_id = "read_secret", tag = "Endpoints",
    security(("key" = ["secrets"])), responses(
        (status = 200, description = "The secret.", body = SecretView)))]
async fn reveal(
    State(context): State<Context>,
    tenant: Tenant<scope::Secrets>,
    Path(id): Path<EndpointId>,
) -> Result<Json<SecretView>, ApiError> {
    queries::find(&context.pool, tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let secret = secrets::current(&context, &context.pool, tenant.id, id).await?;
    let act = audit::Act { action: "endpoint.secret.reveal", resource: &id.to_string(), fields: &[] };
    audit::record(&context.pool, tenant.id, &context.clock, &tenant.actor, act).await?;
    Ok(Json(SecretView { secret: secret.reveal().to_owned() }))
}

/// How to rotate a signing secret.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RotateSecret)]
struct RotateBody {
    /// For how many seconds requests are signed with the old secret as well; 0: it ends at once. Without it: a day, or 0 where
    /// the format's headers hold one signature only.
    #[schema(minimum = 0, maximum = 604800, examples(86400))]
    grace_period_s: Option<u64>,
    /// The new secret. Without it: one is made.
    #[schema(value_type = Option<SigningSecret>)]
    secret: Option<String>,
}

/// Rotate the signing secret
#[utoipa::path(post, path = "/v1/endpoints/{endpoint_id}/secret/rotate", operation_id = "rotate_secret", tag = "Endpoints",
    security(("key" = ["secrets"])), params(IfMatch), request_body = Option<RotateBody>, responses(
        (status = 200, description = "The new secret.", body = SecretView),
        (status = 202, description = "The new secret. A request that began before may still be under way.", body = SecretView),
        (status = 409, description = "As many secrets as may live at a time do.")))]
async fn rotate(
    State(context): State<Context>,
    tenant: Tenant<scope::Secrets>,
    Path(id): Path<EndpointId>,
    headers: HeaderMap,
    Once { claim, body: OptionalJson(body) }: Once<OptionalJson<RotateBody>>,
) -> Result<Response, ApiError> {
    let work = claim.begin(&context, Some(tenant.id)).await?;
    let mut change = Change::begin(&context, tenant.id, id, &headers, work).await?;
    let stored = queries::find(change.db(), tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let format = context.formats.one(change.db(), stored.format_version).await?;
    let format = format.ok_or_else(|| ApiError::internal("an endpoint without format"))?;
    let mut fields = Fields::default();
    let most_s = GRACE_PERIOD_MAX.as_secs();
    let grace_s = body.grace_period_s.unwrap_or(u64::from(format.default_rotation_grace_s()));
    if grace_s > most_s {
        fields.wrong("/grace_period_s", format!("must be 0 to {most_s}"));
    }
    let secret = match body.secret {
        None => Some(SigningSecret::generate()),
        Some(text) => {
            let parsed = SigningSecret::parse(&text).map_err(|error| error.to_string());
            fields.take("/secret", parsed.and_then(|secret| secret_fits(&format, &secret).map(|()| secret)))
        }
    };
    let secret = fields.done(|| secret)?;
    let now = context.clock.now();
    let live = secrets::all(change.db(), tenant.id, id).await?;
    if live.iter().filter(|one| one.expires_at.is_none_or(|at| at > now)).count() >= MAX_LIVE_SECRETS
        && grace_s > 0
    {
        return Err(ApiError::Conflict(
            format!("{MAX_LIVE_SECRETS} secrets are live already: rotate with grace_period_s 0, or wait for one to end.").into(),
        ));
    }
    let grace = Duration::from_secs(grace_s);
    secrets::make_current(change.db(), &context, tenant.id, id, &secret, now, grace).await?;
    queries::touch(change.db(), tenant.id, id, now).await?;
    let answer = Answer::json(StatusCode::OK, &SecretView { secret: secret.reveal().to_owned() })?;
    change.commit(&tenant.actor, "endpoint.secret.rotate", &[], answer).await
}

pub fn router() -> OpenApiRouter<Tester> {
    OpenApiRouter::default()
        .routes(routes!(create, list))
        .routes(routes!(create_in, list_in))
        .routes(routes!(read, update, remove))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(subscriptions::read, subscriptions::replace))
        .routes(routes!(subscriptions::put, subscriptions::remove))
        .routes(routes!(reveal))
        .routes(routes!(rotate))
}
