//! Routes of the locations.

use axum::{extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    mint,
    model::{CreateBody, Location, LocationRef, UpdateBody},
    queries,
};
use crate::{
    audit,
    auth::{Context, Tenant, scope},
    idempotency::{Done, Once},
    queue::control,
    web::{
        Answer, ApiError, Json, OnConstraint, Path, Query,
        page::{Page, PageQuery, Scope},
    },
};

const EXTERNAL_ID_KEY: &str = "locations_tenant_id_external_id_key";

fn external_id_taken() -> ApiError {
    ApiError::Conflict("The external_id is another location's.".into())
}

/// Make a location
#[utoipa::path(post, path = "/v1/locations", operation_id = "create_location", tag = "Locations",
    security(("key" = ["write"])), request_body = CreateBody, responses(
        (status = 201, description = "The location as it was made.", body = Location),
        (status = 409, description = "The `external_id` is another location's.")))]
async fn create(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Once { claim, body: Json(body) }: Once<Json<CreateBody>>,
) -> Result<Done, ApiError> {
    let new = body.parse()?;
    let mut work = claim.begin(&context, tenant.id).await?;
    let id = mint(&context.clock);
    let location = queries::insert(&mut work, tenant.id, id, &new, context.clock.now())
        .await
        .on_constraint(EXTERNAL_ID_KEY, external_id_taken)?;
    let act = audit::Act { action: "location.create", resource: &id.to_string(), fields: &[] };
    audit::record(&mut *work, tenant.id, &context.clock, &tenant.actor, act).await?;
    work.commit(&context, Answer::json(StatusCode::CREATED, &location)?).await
}

/// List locations
#[utoipa::path(get, path = "/v1/locations", operation_id = "list_locations", tag = "Locations",
    security(("key" = ["read"])), params(PageQuery), responses(
        (status = 200, description = "One page of locations.", body = Page<Location>)))]
async fn list(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Location>>, ApiError> {
    let scope = Scope::new(&["locations", &tenant.id.to_string()]);
    let keyset = scope.keyset(&query)?;
    let rows = queries::page(&mut *context.begin(tenant.id).await?, tenant.id, keyset).await?;
    Ok(Json(scope.page(&query, keyset, rows, |location| location.id.uuid())))
}

/// Read a location
#[utoipa::path(get, path = "/v1/locations/{location_id}", operation_id = "read_location", tag = "Locations",
    security(("key" = ["read"])), responses((status = 200, description = "The location.", body = Location)))]
async fn read(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(location): Path<LocationRef>,
) -> Result<Json<Location>, ApiError> {
    queries::find(&mut *context.begin(tenant.id).await?, tenant.id, &location)
        .await?
        .map(Json)
        .ok_or(ApiError::NotFound)
}

/// Change a location
///
/// A patch that changes nothing leaves no trace.
#[utoipa::path(patch, path = "/v1/locations/{location_id}", operation_id = "update_location", tag = "Locations",
    security(("key" = ["write"])), request_body = UpdateBody, responses(
        (status = 200, description = "The location as it is now.", body = Location),
        (status = 409, description = "The `external_id` is another location's.")))]
async fn update(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(location): Path<LocationRef>,
    Json(body): Json<UpdateBody>,
) -> Result<Json<Location>, ApiError> {
    let mut transaction = context.begin(tenant.id).await?;
    let mut location =
        queries::lock(&mut transaction, tenant.id, &location).await?.ok_or(ApiError::NotFound)?;
    let before = location.clone();
    let fields = body.apply(&mut location)?;
    if location == before {
        return Ok(Json(location));
    }
    location.updated_at = context.clock.now();
    queries::update(&mut *transaction, tenant.id, &location)
        .await
        .on_constraint(EXTERNAL_ID_KEY, external_id_taken)?;
    let act = audit::Act { action: "location.update", resource: &location.id.to_string(), fields: &fields };
    audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    transaction.commit().await?;
    Ok(Json(location))
}

/// Delete a location
///
/// Takes its endpoints along. Answers when nothing is sent to them any more.
#[utoipa::path(delete, path = "/v1/locations/{location_id}", operation_id = "delete_location", tag = "Locations",
    security(("key" = ["write"])), responses(
        (status = 204, description = "The location is gone, and nothing is sent for it from now on."),
        (status = 202, description = "The location is gone; a request that began before may still be under way.")))]
async fn remove(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(location): Path<LocationRef>,
) -> Result<StatusCode, ApiError> {
    let now = context.clock.now();
    let mut transaction = context.begin(tenant.id).await?;
    let location = queries::lock(&mut transaction, tenant.id, &location).await?.ok_or(ApiError::NotFound)?;
    if !queries::tombstone(&mut *transaction, tenant.id, location.id, now).await? {
        return Err(ApiError::NotFound);
    }
    queries::tombstone_endpoints(&mut *transaction, tenant.id, location.id, now).await?;
    let command = control::command(&mut transaction, location.id.shard()).await?;
    let act = audit::Act { action: "location.delete", resource: &location.id.to_string(), fields: &[] };
    audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    transaction.commit().await?;
    let obeyed = context.owners.obeyed(command).await?;
    Ok(if obeyed { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED })
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default().routes(routes!(create, list)).routes(routes!(read, update, remove))
}
