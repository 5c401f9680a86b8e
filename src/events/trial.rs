//! Trying a filter: what it says of the events that were there lately.

use std::collections::HashMap;

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    api::{Events, SCAN_MAX},
    reasons::subject,
};
use crate::{
    auth::{Context, Tenant, scope},
    endpoints,
    filters::Filter,
    idempotency::{Done, Once},
    queue::refill,
    types::{
        EndpointId, EventId, Timestamp,
        event_type::{EventType, Pattern},
    },
    web::{
        Answer, ApiError, Json, Path,
        fields::Fields,
        filter::Period,
        page::{PageQuery, Scope},
    },
};

/// Events that a filter is tried on.
const TRIED: u16 = 20;

/// A filter to be tried.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TryFilter)]
pub(super) struct TrialBody {
    #[schema(value_type = Pattern)]
    event_type: String,
    /// A condition on the event, in CEL.
    #[schema(min_length = 1, max_length = 1024, examples("'support' in data.labels"))]
    filter: String,
}

/// What a filter says of the latest events.
#[derive(Serialize, ToSchema)]
struct FilterTrial {
    /// Newest first.
    data: Vec<TriedEvent>,
}

/// What a filter says of one event.
#[derive(Serialize, ToSchema)]
struct TriedEvent {
    event_id: EventId,
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    event_type: String,
    /// When it happened.
    timestamp: Timestamp,
    /// Whether the endpoint would get it.
    matches: bool,
    /// Why the filter could not be evaluated, which counts as no match; `null`: it could.
    #[schema(examples("No such key: labels"))]
    error: Option<String>,
}

/// Try a filter
///
/// On the last 20 events of these types at the endpoint's location, among the latest 2,000 events there. Nothing is changed.
#[utoipa::path(post, path = "/v1/endpoints/{endpoint_id}/subscriptions/preview", operation_id = "preview_subscription",
    tag = "Endpoints", security(("key" = ["read"])), request_body = TrialBody, responses(
        (status = 200, description = "What the filter says of each.", body = FilterTrial)))]
pub(super) async fn preview(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(endpoint): Path<EndpointId>,
    Once { claim, body: Json(body) }: Once<Json<TrialBody>>,
) -> Result<Done, ApiError> {
    let mut fields = Fields::default();
    let pattern =
        fields.take("/event_type", Pattern::parse(body.event_type).map_err(|error| error.to_string()));
    let filter = fields.take("/filter", Filter::compile(&body.filter).map_err(|error| error.detail));
    let (pattern, filter) = fields.done(|| Some((pattern?, filter?)))?;
    let mut work = claim.begin(&context, tenant.id).await?;
    let stored =
        endpoints::queries::find(&mut *work, tenant.id, endpoint).await?.ok_or(ApiError::NotFound)?;
    let scope = Scope::new(&["filter trial"]);
    let latest = PageQuery { limit: Some(TRIED), cursor: None };
    let keyset = scope.keyset(&latest)?;
    let mut events = Events {
        db: &mut work,
        tenant: tenant.id,
        location: stored.location_id,
        range: Period::default().ids(),
        event_type: Some(pattern),
    };
    let rows = scope.page_of(&latest, keyset, keyset.scan(&mut events, SCAN_MAX).await?).data;
    let ids: Vec<_> = rows.iter().map(|event| (event.id.shard(), event.id)).collect();
    let mut bodies: HashMap<_, _> = refill::bodies(&mut *work, &ids).await?.into_iter().collect();
    let tried = rows.into_iter().map(|event| {
        let data = bodies.remove(&event.id).map(|body| body.data);
        let outcome = match &data {
            Some(data) => filter.matches(&subject(&event, std::str::from_utf8(data).unwrap_or("null"))),
            None => Err("the event's data are gone".to_owned()),
        };
        TriedEvent {
            event_id: event.id,
            event_type: event.event_type,
            timestamp: event.occurred_at,
            matches: outcome == Ok(true),
            error: outcome.err(),
        }
    });
    let trial = FilterTrial { data: tried.collect() };
    work.commit(&context, Answer::json(StatusCode::OK, &trial)?).await
}
