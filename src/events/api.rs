//! Routes of the events.

use std::{ops::Deref, sync::Arc};

use axum::extract::{DefaultBodyLimit, FromRef, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};
use uuid::Uuid;

use super::{
    admission::Admission,
    expunge,
    ingest::Ingest,
    publish,
    queries::{self, EventRow},
    reasons::{self, NotMatched},
    routing::RoutingTable,
    trial,
};
use crate::{
    auth::{Context, Tenant, scope},
    db::TenantPool,
    deliveries::{self, Delivery},
    locations::{self, Channel, LocationRef},
    types::{
        EventId, LocationId, TenantId, Timestamp,
        event_type::{EventType, Pattern},
        schema::GivenTime,
    },
    web::{
        ApiError, Json, Path, Query,
        filter::{self, IdRange, Period},
        json::BATCH_BODY_MAX_BYTES,
        page::{Chunk, Keyset, Page, PageQuery, Scope, Source},
    },
};

/// Events that are looked at for one page of a list.
pub(super) const SCAN_MAX: u16 = 2_000;

/// What publishing needs besides the context. Cheap to clone: a router does so several times a request.
#[derive(Clone)]
pub struct EventsState(Arc<Parts>);

pub struct Parts {
    pub(super) context: Context,
    pub(super) ingest: Ingest,
    pub(super) routing: RoutingTable,
    pub(super) admission: Admission,
}

impl EventsState {
    pub fn new(context: Context, ingest: Ingest, tenants: TenantPool) -> Self {
        let routing = RoutingTable::new(tenants, context.formats.clone());
        Self(Arc::new(Parts { context, ingest, routing, admission: Admission::default() }))
    }
}

impl Deref for EventsState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
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

/// An event with its data and its deliveries.
#[derive(Serialize, ToSchema)]
struct WholeEvent {
    #[serde(flatten)]
    event: EventView,
    /// As it is sent: as ECMAScript's `JSON.stringify` would write it; `null` also where it was expunged.
    #[schema(value_type = Value, examples(json!({"text": "hello"})))]
    data: Option<Box<RawValue>>,
    /// One for each endpoint that it was sent to.
    deliveries: Vec<Delivery>,
    /// The other endpoints of its location, and what keeps it from them: as their subscriptions are now, not as they were when
    /// it was published.
    not_matched: Vec<NotMatched>,
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
    /// Those of this type, or of the types that the pattern matches.
    #[param(required = false, value_type = Pattern, inline)]
    event_type: Option<String>,
    /// Those that Posthaste received from then on.
    #[param(required = false, value_type = GivenTime, inline)]
    since: Option<String>,
    /// Those that Posthaste received before.
    #[param(required = false, value_type = GivenTime, inline)]
    until: Option<String>,
}

pub(super) struct Events<'a> {
    pub db: &'a mut PgConnection,
    pub tenant: TenantId,
    pub location: LocationId,
    pub range: IdRange,
    pub event_type: Option<Pattern>,
}

impl Source for Events<'_> {
    type Row = EventRow;
    type Edge = Uuid;

    async fn read(&mut self, keyset: Keyset) -> sqlx::Result<Chunk<EventRow, Uuid>> {
        let rows = queries::page(&mut *self.db, self.tenant, self.location, self.range, keyset).await?;
        let fits = |event: &EventRow| {
            self.event_type.as_ref().is_none_or(|pattern| pattern.matches_name(&event.event_type))
        };
        Ok(Chunk::of(keyset, rows, |event| event.id.uuid(), fits))
    }
}

/// List the events of a location
///
/// Newest first. A page looks at 2,000 events at most: where few of them match, it is shorter than its limit, and the list goes on as long
/// as there is a `next_cursor`.
#[utoipa::path(get, path = "/v1/locations/{location_id}/events", operation_id = "list_events", tag = "Events",
    security(("key" = ["read"])), params(ListQuery), responses(
        (status = 200, description = "One page of events.", body = Page<EventView>)))]
async fn list(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(location): Path<LocationRef>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<EventView>>, ApiError> {
    let event_type = filter::event_type(query.event_type)?;
    let period = Period::parse(query.since.as_deref(), query.until.as_deref())?;
    let mut db = context.begin(tenant.id).await?;
    let location =
        locations::queries::find(&mut *db, tenant.id, &location).await?.ok_or(ApiError::NotFound)?.id;
    let [since, until] = period.told();
    let pattern = event_type.as_ref().map(Pattern::as_str).unwrap_or_default();
    let scope =
        Scope::new(&["events", &tenant.id.to_string(), &location.to_string(), pattern, &since, &until]);
    let page_query = PageQuery { limit: query.limit, cursor: query.cursor };
    let keyset = scope.keyset(&page_query)?;
    let mut events = Events { db: &mut db, tenant: tenant.id, location, range: period.ids(), event_type };
    let scanned = keyset.scan(&mut events, SCAN_MAX).await?;
    Ok(Json(scope.page_of(&page_query, keyset, scanned).map(EventView::from)))
}

/// Read an event
///
/// With its data, its deliveries, and why other endpoints of its location did not get it.
#[utoipa::path(get, path = "/v1/events/{event_id}", operation_id = "read_event", tag = "Events",
    security(("key" = ["read"])), responses((status = 200, description = "The event.", body = WholeEvent)))]
async fn read(
    State(state): State<EventsState>,
    tenant: Tenant<scope::Read>,
    Path(id): Path<EventId>,
) -> Result<Json<WholeEvent>, ApiError> {
    let context = &state.context;
    let mut db = context.begin(tenant.id).await?;
    let (event, data) = queries::find(&mut *db, tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let data = match data {
        None => None,
        Some(bytes) => {
            let text = String::from_utf8(bytes).map_err(ApiError::internal)?;
            Some(RawValue::from_string(text).map_err(ApiError::internal)?)
        }
    };
    let pairs: Vec<_> = event.endpoint_ids.iter().map(|endpoint| (*endpoint, id)).collect();
    let deliveries = deliveries::describe(&mut *db, tenant.id, &pairs).await?;
    let text = data.as_deref().map(RawValue::get);
    // A test was sent to one endpoint, whatever the others subscribe to.
    let is_test = queries::is_test(&mut *db, tenant.id, &event).await?;
    drop(db);
    let not_matched = if is_test {
        Vec::new()
    } else {
        reasons::not_matched(&state.routing, tenant.id, &event, text).await?
    };
    Ok(Json(WholeEvent { event: event.into(), data, deliveries, not_matched }))
}

pub fn router() -> OpenApiRouter<EventsState> {
    let batch = routes!(publish::publish_batch).layer(DefaultBodyLimit::max(BATCH_BODY_MAX_BYTES));
    OpenApiRouter::default()
        .routes(routes!(publish::publish, list))
        .routes(batch)
        .routes(routes!(read))
        .routes(routes!(trial::preview))
        .routes(routes!(expunge::expunge))
}
