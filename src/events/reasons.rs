//! Why an event did not go to an endpoint.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    queries::EventRow,
    routing::{Routed, Routing, RoutingTable, WhyNot},
};
use crate::{
    filters::{self, Subject},
    locations::LocationRef,
    types::{EndpointId, TenantId, Timestamp, event_type::EventType},
};

/// An endpoint that did not get an event, and why.
#[derive(Serialize, ToSchema)]
pub(super) struct NotMatched {
    endpoint_id: EndpointId,
    reason: Reason,
    /// The same as a sentence.
    #[schema(examples("none of its subscriptions is for message.incoming"))]
    detail: String,
}

/// What kept an event from an endpoint.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = NotMatchedReason)]
enum Reason {
    /// None of its subscriptions is for the event's type.
    EventType,
    /// The filters of those that are say no.
    Filter,
    /// A filter could not be evaluated on the event.
    FilterFailed,
    /// The endpoint was made later.
    CreatedLater,
    /// By its present subscriptions it would get it: they are newer than the event.
    ChangedLater,
}

/// The endpoints of the event's location that did not get it. `data`: JSON text, or `None` where they are gone.
pub(super) async fn not_matched(
    tables: &RoutingTable,
    tenant: TenantId,
    event: &EventRow,
    data: Option<&str>,
) -> sqlx::Result<Vec<NotMatched>> {
    let location = LocationRef::Id(event.location_id);
    // A remembered table may be outdated, and only a publish would find out.
    tables.forget(tenant, &location).await;
    let Some(routing) = tables.of(tenant, &location).await? else { return Ok(Vec::new()) };
    // What is stored is a type's name.
    let Ok(event_type) = EventType::parse(event.event_type.as_str()) else { return Ok(Vec::new()) };
    let subject = subject(event, data.unwrap_or("null"));
    let others = routing.endpoints().iter().filter(|one| !event.endpoint_ids.contains(&one.endpoint_id));
    Ok(others.map(|endpoint| judge(&routing, endpoint, event, &event_type, &subject)).collect())
}

fn judge(
    routing: &Routing,
    endpoint: &Routed,
    event: &EventRow,
    event_type: &EventType,
    subject: &Subject,
) -> NotMatched {
    let endpoint_id = endpoint.endpoint_id;
    let made_later = Timestamp::of_id(endpoint_id.uuid()) > Timestamp::of_id(event.id.uuid());
    let (reason, detail) = match routing.why_not(endpoint, event_type, subject) {
        _ if made_later => (Reason::CreatedLater, "the endpoint was made after the event".to_owned()),
        Some(WhyNot::EventType) => {
            (Reason::EventType, format!("none of its subscriptions is for {event_type}"))
        }
        Some(WhyNot::Filter) => {
            (Reason::Filter, "its subscriptions for this type have filters that say no".to_owned())
        }
        Some(WhyNot::FilterFailed(why)) => (Reason::FilterFailed, format!("a filter failed: {why}")),
        None => (
            Reason::ChangedLater,
            "its subscriptions have changed since: the event would match them now".to_owned(),
        ),
    };
    NotMatched { endpoint_id, reason, detail }
}

/// A stored event, for filters.
pub(super) fn subject(event: &EventRow, data: &str) -> Subject {
    Subject::new(&filters::Event {
        event_type: &event.event_type,
        data,
        channel: event.channel.as_deref(),
        tags: event.tags.as_ref().map(ToString::to_string).as_deref(),
        timestamp: &event.occurred_at.to_string(),
        live_mode: event.live_mode,
        location_id: &event.location_id.to_string(),
        api_version: event.api_version.as_deref(),
    })
}
