//! Routes of the event types and of the presets that bring most of them.

use axum::{Router, extract::State, http::StatusCode, routing::get};
use serde::Serialize;

use super::{
    catalogue::load,
    model::{CreateBody, EventTypeView, UpdateBody},
    operational, queries,
};
use crate::{
    audit,
    auth::{Caller, Context, Tenant, scope},
    formats::presets::{self, Preset},
    idempotency::{Done, Once},
    types::event_type::EventType,
    web::{Answer, ApiError, Json, Path},
};

#[derive(Serialize)]
struct List<T> {
    data: Vec<T>,
}

/// The tenant's own types, its preset's and Posthaste's, by name. Few enough for one page.
async fn list(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
) -> Result<Json<List<EventTypeView>>, ApiError> {
    let catalogue = load(&mut *context.pool.acquire().await?, tenant.id).await?.ok_or(ApiError::NotFound)?;
    let is_hidden = |name: &str| catalogue.custom.iter().any(|custom| custom.name == name);
    let preset = catalogue.preset.event_types.iter().filter(|known| !is_hidden(known.name.as_str()));
    let mut data: Vec<_> =
        preset.map(|known| EventTypeView::of_preset(&catalogue.preset.name, known)).collect();
    data.extend(catalogue.custom.iter().cloned().map(EventTypeView::from));
    data.extend(operational::all().iter().map(|known| EventTypeView::of_preset(operational::SOURCE, known)));
    data.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(List { data }))
}

async fn read(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(name): Path<String>,
) -> Result<Json<EventTypeView>, ApiError> {
    let catalogue = load(&mut *context.pool.acquire().await?, tenant.id).await?.ok_or(ApiError::NotFound)?;
    if let Some(custom) = catalogue.custom.iter().find(|custom| custom.name == name) {
        return Ok(Json(custom.clone().into()));
    }
    let of_preset = catalogue.preset.event_type(&name).map(|known| (catalogue.preset.name.as_str(), known));
    let of_posthaste = || operational::find(&name).map(|known| (operational::SOURCE, known));
    let (source, known) = of_preset.or_else(of_posthaste).ok_or(ApiError::NotFound)?;
    Ok(Json(EventTypeView::of_preset(source, known)))
}

async fn create(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Once { claim, body: Json(body) }: Once<Json<CreateBody>>,
) -> Result<Done, ApiError> {
    let custom = body.parse()?;
    let mut work = claim.begin(&context, Some(tenant.id)).await?;
    let catalogue = load(&mut work, tenant.id).await?.ok_or(ApiError::NotFound)?;
    let taken = || ApiError::invalid("/name", "is an event type already");
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
    let catalogue = load(&mut *context.pool.acquire().await?, tenant.id).await?.ok_or(ApiError::NotFound)?;
    match catalogue.preset.event_type(name).or_else(|| operational::find(name)) {
        Some(_) => Err(ApiError::Conflict("The event type is built in, and can't be changed.".into())),
        None => Ok(()),
    }
}

async fn update(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(name): Path<String>,
    Json(body): Json<UpdateBody>,
) -> Result<Json<EventTypeView>, ApiError> {
    refuse_built_in(&context, &tenant, &name).await?;
    let mut transaction = context.pool.begin().await?;
    let mut custom = queries::lock(&mut transaction, tenant.id, &name).await?.ok_or(ApiError::NotFound)?;
    let fields = body.apply(&mut custom)?;
    queries::update(&mut transaction, tenant.id, &custom, context.clock.now()).await?;
    let act = audit::Act { action: "event_type.update", resource: &name, fields: &fields };
    audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    transaction.commit().await?;
    Ok(Json(custom.into()))
}

async fn archive(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    refuse_built_in(&context, &tenant, &name).await?;
    let now = context.clock.now();
    let mut transaction = context.pool.begin().await?;
    let mut custom = queries::lock(&mut transaction, tenant.id, &name).await?.ok_or(ApiError::NotFound)?;
    custom.archived_at = custom.archived_at.or(Some(now));
    queries::update(&mut transaction, tenant.id, &custom, now).await?;
    let act = audit::Act { action: "event_type.archive", resource: &name, fields: &[] };
    audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The presets there are, the same for everybody with a key.
async fn presets(_: Caller) -> Json<List<&'static Preset>> {
    Json(List { data: presets::all().iter().collect() })
}

async fn preset(_: Caller, Path(name): Path<String>) -> Result<Json<&'static Preset>, ApiError> {
    presets::preset(&name).map(Json).ok_or(ApiError::NotFound)
}

pub fn router(context: Context) -> Router {
    Router::new()
        .route("/v1/event-types", get(list).post(create))
        .route("/v1/event-types/{name}", get(read).patch(update).delete(archive))
        .route("/v1/presets", get(presets))
        .route("/v1/presets/{preset}", get(preset))
        .with_state(context)
}
