//! Routes of the event types and of the presets that bring most of them.

use axum::{extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    catalogue::load,
    model::{CreateBody, EventTypeView, UpdateBody},
    operational,
    payload_schema::aside,
    queries,
};
use crate::{
    audit,
    auth::{Caller, Context, Tenant, scope},
    formats::presets::{self, Preset},
    idempotency::{Done, Once},
    types::event_type::EventType,
    web::{
        Answer, ApiError, Json, Path, Query,
        page::{Page, PageQuery, Scope},
    },
};

/// List event types
///
/// The tenant's own, those of its preset and Posthaste's own, by name.
#[utoipa::path(get, path = "/v1/event-types", operation_id = "list_event_types", tag = "Event types",
    security(("key" = ["read"])), params(PageQuery), responses(
        (status = 200, description = "One page of event types, by name.", body = Page<EventTypeView>)))]
async fn list(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<EventTypeView>>, ApiError> {
    let catalogue =
        load(&mut *context.begin(tenant.id).await?, tenant.id).await?.ok_or(ApiError::NotFound)?;
    let is_hidden = |name: &str| catalogue.custom.iter().any(|custom| custom.name == name);
    let preset = catalogue.preset.event_types.iter().filter(|known| !is_hidden(known.name.as_str()));
    let mut data: Vec<_> =
        preset.map(|known| EventTypeView::of_preset(&catalogue.preset.name, known)).collect();
    data.extend(catalogue.custom.iter().cloned().map(EventTypeView::from));
    data.extend(operational::all().iter().map(|known| EventTypeView::of_preset(operational::SOURCE, known)));
    let named = data.into_iter().map(|view| (view.name.clone(), view)).collect();
    Scope::new(&["event_types", &tenant.id.to_string()]).page_of_all(&query, named).map(Json)
}

/// Read an event type
#[utoipa::path(get, path = "/v1/event-types/{name}", operation_id = "read_event_type", tag = "Event types",
    security(("key" = ["read"])), responses(
        (status = 200, description = "The event type.", body = EventTypeView)))]
async fn read(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(name): Path<String>,
) -> Result<Json<EventTypeView>, ApiError> {
    let catalogue =
        load(&mut *context.begin(tenant.id).await?, tenant.id).await?.ok_or(ApiError::NotFound)?;
    if let Some(custom) = catalogue.custom.iter().find(|custom| custom.name == name) {
        return Ok(Json(custom.clone().into()));
    }
    let of_preset = catalogue.preset.event_type(&name).map(|known| (catalogue.preset.name.as_str(), known));
    let of_posthaste = || operational::find(&name).map(|known| (operational::SOURCE, known));
    let (source, known) = of_preset.or_else(of_posthaste).ok_or(ApiError::NotFound)?;
    Ok(Json(EventTypeView::of_preset(source, known)))
}

/// Make an event type
///
/// One of the tenant's own, beside those of its preset.
#[utoipa::path(post, path = "/v1/event-types", operation_id = "create_event_type", tag = "Event types",
    security(("key" = ["write"])), request_body = CreateBody, responses(
        (status = 201, description = "The event type as it was made.", body = EventTypeView),
        (status = 409, description = "The name is taken.")))]
async fn create(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Once { claim, body: Json(body) }: Once<Json<CreateBody>>,
) -> Result<Done, ApiError> {
    let custom = aside(move || body.parse()).await.map_err(ApiError::internal)??;
    let mut work = claim.begin(&context, tenant.id).await?;
    let catalogue = load(&mut work, tenant.id).await?.ok_or(ApiError::NotFound)?;
    let taken = || ApiError::Conflict("An event type of this name exists.".into());
    if catalogue.preset.event_type(&custom.name).is_some() {
        return Err(taken());
    }
    if !queries::insert(&mut work, tenant.id, &custom, context.clock.now()).await? {
        return Err(taken());
    }
    let act = audit::Act { action: "event_type.create", resource: &custom.name, fields: &[] };
    audit::record(&mut *work, tenant.id, &context.clock, &tenant.actor, act).await?;
    let view = EventTypeView::from(custom);
    work.commit(&context, Answer::json(StatusCode::CREATED, &view)?).await
}

async fn refuse_built_in(
    context: &Context,
    tenant: &Tenant<scope::Write>,
    name: &str,
) -> Result<(), ApiError> {
    EventType::parse(name).map_err(|_| ApiError::NotFound)?;
    let catalogue =
        load(&mut *context.begin(tenant.id).await?, tenant.id).await?.ok_or(ApiError::NotFound)?;
    match catalogue.preset.event_type(name).or_else(|| operational::find(name)) {
        Some(_) => Err(ApiError::Conflict("The event type is built in, and can't be changed.".into())),
        None => Ok(()),
    }
}

/// Change an event type
///
/// One of the tenant's own: those of a preset can't be changed.
#[utoipa::path(patch, path = "/v1/event-types/{name}", operation_id = "update_event_type", tag = "Event types",
    security(("key" = ["write"])), request_body = UpdateBody, responses(
        (status = 200, description = "The event type as it is now.", body = EventTypeView),
        (status = 409, description = "The event type is part of the preset.")))]
async fn update(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(name): Path<String>,
    Json(body): Json<UpdateBody>,
) -> Result<Json<EventTypeView>, ApiError> {
    refuse_built_in(&context, &tenant, &name).await?;
    let mut transaction = context.begin(tenant.id).await?;
    let mut custom = queries::lock(&mut transaction, tenant.id, &name).await?.ok_or(ApiError::NotFound)?;
    let now = context.clock.now();
    let applied = aside(move || body.apply(&mut custom, now).map(|fields| (custom, fields))).await;
    let (custom, fields) = applied.map_err(ApiError::internal)??;
    queries::update(&mut transaction, tenant.id, &custom, now).await?;
    let act = audit::Act { action: "event_type.update", resource: &name, fields: &fields };
    audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    transaction.commit().await?;
    Ok(Json(custom.into()))
}

/// Archive an event type
///
/// It takes no new subscriptions; those that it has go on. A `PATCH` with `archived: false` brings it back. One of the tenant's own: those of a preset can't be archived.
#[utoipa::path(delete, path = "/v1/event-types/{name}", operation_id = "archive_event_type", tag = "Event types",
    security(("key" = ["write"])), responses(
        (status = 204, description = "The event type is archived."),
        (status = 409, description = "The event type is part of the preset.")))]
async fn archive(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    refuse_built_in(&context, &tenant, &name).await?;
    let now = context.clock.now();
    let mut transaction = context.begin(tenant.id).await?;
    let mut custom = queries::lock(&mut transaction, tenant.id, &name).await?.ok_or(ApiError::NotFound)?;
    custom.archived_at = custom.archived_at.or(Some(now));
    queries::update(&mut transaction, tenant.id, &custom, now).await?;
    let act = audit::Act { action: "event_type.archive", resource: &name, fields: &[] };
    audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List presets
///
/// Catalogues of event types with samples, each with a wire format; the same for everybody with a key.
#[utoipa::path(get, path = "/v1/presets", operation_id = "list_presets", tag = "Event types",
    security(("key" = [])), params(PageQuery), responses(
        (status = 200, description = "One page of presets, in an order of their own.", body = Page<Preset>)))]
async fn presets(
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<&'static Preset>>, ApiError> {
    let tenant = caller.tenant.map(|id| id.to_string()).unwrap_or_default();
    let in_order =
        presets::all().iter().enumerate().map(|(at, preset)| (format!("{at:03}"), preset)).collect();
    Scope::new(&["presets", &tenant]).page_of_all(&query, in_order).map(Json)
}

/// Read a preset
#[utoipa::path(get, path = "/v1/presets/{preset}", operation_id = "read_preset", tag = "Event types",
    security(("key" = [])), responses((status = 200, description = "The preset.", body = Preset)))]
async fn preset(_: Caller, Path(name): Path<String>) -> Result<Json<&'static Preset>, ApiError> {
    presets::preset(&name).map(Json).ok_or(ApiError::NotFound)
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(read, update, archive))
        .routes(routes!(presets))
        .routes(routes!(preset))
}
