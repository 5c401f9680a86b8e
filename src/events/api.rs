//! Routes of the events.

use axum::extract::{DefaultBodyLimit, FromRef, State};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use sqlx::PgPool;
use utoipa::ToSchema;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use super::{
    ingest::Ingest,
    publish,
    queries::{self, EventRow},
    routing::RoutingTable,
};
use crate::{
    auth::{Context, Tenant, scope},
    deliveries::{self, Delivery},
    locations::{self, Channel, LocationRef},
    types::{EventId, LocationId, Timestamp, event_type::EventType},
    web::{
        ApiError, Json, Path, Query,
        json::BATCH_BODY_MAX_BYTES,
        page::{Page, PageQuery, Scope},
    },
};

/// What publishing needs besides the context.
#[derive(Clone)]
pub struct EventsState {
    pub(super) context: Context,
    pub(super) ingest: Ingest,
    pub(super) routing: RoutingTable,
}

impl EventsState {
    pub fn new(context: Context, ingest: Ingest, pool: PgPool) -> Self {
        let routing = RoutingTable::new(pool, context.formats.clone());
        Self { context, ingest, routing }
    }
}

impl FromRef<EventsState> for Context {
    fn from_ref(state: &EventsState) -> Self {
        state.context.clone()
    }
}

/// Something that happened, but for its data.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
struct EventView {
    id: EventId,
    location_id: LocationId,
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    event_type: String,
    /// When it happened.
    timestamp: Timestamp,
    #[schema(value_type = Option<Channel>)]
    channel: Option<String>,
    /// The version of the publisher's API that the data follows.
    api_version: Option<String>,
    /// `false`: a trial.
    #[schema(examples(true))]
    live_mode: bool,
    /// Short texts to find it by.
    #[schema(value_type = std::collections::BTreeMap<String, String>, examples(json!({"campaign": "spring"})))]
    tags: Value,
    /// When Posthaste received it.
    created_at: Timestamp,
}

impl From<EventRow> for EventView {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id,
            location_id: row.location_id,
            event_type: row.event_type,
            timestamp: row.occurred_at,
            channel: row.channel,
            api_version: row.api_version,
            live_mode: row.live_mode,
            tags: row.tags.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
            created_at: Timestamp::of_id(row.id.uuid()),
        }
    }
}

/// An event with its data and its deliveries.
#[derive(Serialize, ToSchema)]
struct WholeEvent {
    #[serde(flatten)]
    event: EventView,
    /// As it is sent: as ECMAScript's `JSON.stringify` would write it.
    #[schema(value_type = Value, examples(json!({"text": "hello"})))]
    data: Box<RawValue>,
    /// One for each endpoint that it was sent to.
    deliveries: Vec<Delivery>,
}

/// List the events of a location
#[utoipa::path(get, path = "/v1/locations/{location_id}/events", operation_id = "list_events", tag = "Events",
    security(("key" = ["read"])), params(PageQuery), responses(
        (status = 200, description = "One page of events.", body = Page<EventView>)))]
async fn list(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(location): Path<LocationRef>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<EventView>>, ApiError> {
    let location =
        locations::queries::find(&context.pool, tenant.id, &location).await?.ok_or(ApiError::NotFound)?;
    let scope = Scope::new(&["events", &tenant.id.to_string(), &location.id.to_string()]);
    let keyset = scope.keyset(&query)?;
    let rows = queries::page(&context.pool, tenant.id, location.id, keyset).await?;
    let views = rows.into_iter().map(EventView::from).collect();
    Ok(Json(scope.page(&query, keyset, views, |event: &EventView| event.id.uuid())))
}

/// Read an event
///
/// With its data and its deliveries.
#[utoipa::path(get, path = "/v1/events/{event_id}", operation_id = "read_event", tag = "Events",
    security(("key" = ["read"])), responses((status = 200, description = "The event.", body = WholeEvent)))]
async fn read(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(id): Path<EventId>,
) -> Result<Json<WholeEvent>, ApiError> {
    let (event, data) = queries::find(&context.pool, tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let text = String::from_utf8(data).map_err(ApiError::internal)?;
    let data = RawValue::from_string(text).map_err(ApiError::internal)?;
    let pairs: Vec<_> = event.endpoint_ids.iter().map(|endpoint| (*endpoint, id)).collect();
    let deliveries = deliveries::describe(&context.pool, tenant.id, &pairs).await?;
    Ok(Json(WholeEvent { event: event.into(), data, deliveries }))
}

pub fn router() -> OpenApiRouter<EventsState> {
    let batch = routes!(publish::publish_batch).layer(DefaultBodyLimit::max(BATCH_BODY_MAX_BYTES));
    OpenApiRouter::default().routes(routes!(publish::publish, list)).routes(batch).routes(routes!(read))
}
