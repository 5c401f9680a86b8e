//! Routes of the events.

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRef, State},
    routing::{delete, get, post},
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use sqlx::PgPool;

use super::{
    expunge::expunge,
    ingest::Ingest,
    publish,
    queries::{self, EventRow},
    routing::RoutingTable,
};
use crate::{
    auth::{Context, Tenant, scope},
    deliveries::{self, Delivery},
    locations::{self, LocationRef},
    types::{EventId, LocationId, Timestamp},
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

#[derive(Serialize)]
struct EventView {
    id: EventId,
    location_id: LocationId,
    #[serde(rename = "type")]
    event_type: String,
    timestamp: Timestamp,
    channel: Option<String>,
    api_version: Option<String>,
    live_mode: bool,
    tags: Value,
    /// When Posthaste received it.
    created_at: Timestamp,
    /// When its data were removed by hand.
    expunged_at: Option<Timestamp>,
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
            expunged_at: row.expunged_at,
        }
    }
}

#[derive(Serialize)]
struct WholeEvent {
    #[serde(flatten)]
    event: EventView,
    /// `null` where they were expunged.
    data: Option<Box<RawValue>>,
    deliveries: Vec<Delivery>,
}

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

async fn read(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(id): Path<EventId>,
) -> Result<Json<WholeEvent>, ApiError> {
    let (event, data) = queries::find(&context.pool, tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let data = match data {
        None => None,
        Some(bytes) => {
            let text = String::from_utf8(bytes).map_err(ApiError::internal)?;
            Some(RawValue::from_string(text).map_err(ApiError::internal)?)
        }
    };
    let pairs: Vec<_> = event.endpoint_ids.iter().map(|endpoint| (*endpoint, id)).collect();
    let deliveries = deliveries::describe(&context.pool, tenant.id, &pairs).await?;
    Ok(Json(WholeEvent { event: event.into(), data, deliveries }))
}

pub fn router(state: EventsState) -> Router {
    let batch = post(publish::publish_batch).layer(DefaultBodyLimit::max(BATCH_BODY_MAX_BYTES));
    Router::new()
        .route("/v1/locations/{location_id}/events", post(publish::publish).get(list))
        .route("/v1/events/batch", batch)
        .route("/v1/events/{event_id}", get(read))
        .route("/v1/events/{event_id}/data", delete(expunge))
        .with_state(state)
}
