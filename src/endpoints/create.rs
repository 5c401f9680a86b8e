//! Making endpoints.

use std::time::Duration;

use axum::{extract::State, http::StatusCode};

use super::{
    Tester,
    draft::{CreateBody, Rules},
    model::Endpoint,
    queries::{self, ENDPOINTS_MAX},
    secrets,
    view::{found, tagged},
};
use crate::{
    audit,
    auth::{Actor, Context, Tenant, scope},
    idempotency::{Claim, Done, Once, Work},
    locations::{self, LocationRef},
    queue::control,
    types::{EndpointId, TenantId},
    web::{ApiError, Json, Path},
};

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
    let now = context.clock.now();
    let rules = Rules { policy: &context.policy, tenant: &settings, now };
    let (checked, secret) = body.check(format, rules)?;
    let id: EndpointId = context.clock.mint_in(location.shard());
    let sealed = secrets::seal(&context.vault, tenant, id, &checked)?;
    let (_, total) = queries::counts(&mut **work, tenant).await?;
    if total >= ENDPOINTS_MAX {
        return Err(ApiError::Conflict(format!("A tenant has at most {ENDPOINTS_MAX} endpoints.").into()));
    }
    queries::insert(work, tenant, location, id, &checked, &sealed, now).await?;
    queries::set_patterns(work, tenant, id, &checked.patterns, now).await?;
    secrets::make_current(work, context, tenant, id, &secret, now, Duration::ZERO).await?;
    control::reroute(&mut **work, location).await?;
    let act = audit::Act { action: "endpoint.create", resource: &id.to_string(), fields: &[] };
    audit::record(&mut **work, tenant, &context.clock, actor, act).await?;
    let mut endpoint = found(context, work, tenant, id).await?;
    endpoint.public_key = checked.format.public_key(&secret);
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
    let mut work = claim.begin(context, tenant.id).await?;
    let pings = body.send_test_ping;
    let endpoint = add(context, &mut work, tenant.id, &tenant.actor, wanted, body, no_location).await?;
    let done = work.commit(context, tagged(StatusCode::CREATED, &endpoint)?).await?;
    if pings {
        tester.ping(tenant.id, endpoint.id, tenant.actor.clone());
    }
    Ok(done)
}

/// Make an endpoint
///
/// In the tenant's default location, unless the body names another.
#[utoipa::path(post, path = "/v1/endpoints", operation_id = "create_endpoint", tag = "Endpoints",
    security(("key" = ["write"])), request_body = CreateBody, responses(
        (status = 201, description = "The endpoint as it was made, with its secret, shown this once.", body = Endpoint,
            headers(("ETag" = String, description = "The endpoint's version."))),
        (status = 409, description = "The tenant has as many endpoints as it may have.")))]
pub async fn create(
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
pub async fn create_in(
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
