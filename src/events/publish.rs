//! Publishing: from a request to an answer that is on disk.

use std::sync::Arc;

use super::{
    admission::Admitted,
    api::EventsState,
    model::{BatchBody, Draft, PublishBody, Published, PublishedDelivery, Refusal, allow, milliseconds},
    queries,
    routing::Routing,
};
use crate::{
    auth::{Publisher, extract::UNKNOWN_KEY},
    filters::{self, Subject},
    idempotency,
    locations::{Channel, LocationRef},
    queue::ingest::{BatchClaim, Claim, Ingested, NewDelivery, NewEvent},
    types::{EventId, LocationId, Shard},
    web::{
        ApiError, FieldError, Path,
        fields::Fields,
        json::{BATCH_BODY_MAX_BYTES, Object, from_bytes},
    },
};
use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// Events of one batch.
const BATCH_EVENTS_MAX: usize = 1_000;
/// What the key of a batch is scoped to.
const BATCH_ROUTE: &str = "events/batch";
/// How often a publish is routed again because an endpoint changed under it.
const ROUTINGS_MAX: usize = 8;

/// Publish an event
///
/// `202` means that it is on disk, with a delivery for every endpoint of the location that subscribes to it. As everywhere, the
/// body may come with `Content-Encoding: gzip`; limits count what it holds.
#[utoipa::path(post, path = "/v1/locations/{location_id}/events", operation_id = "publish_event", tag = "Events",
    security(("key" = ["publish"])), request_body = PublishBody, responses(
        (status = 202, description = "The event is on disk.", body = Published),
        (status = 408, description = "The body took longer than 30 s to come."),
        (status = 409, description = "The event's channel is not connected at this location.")))]
pub async fn publish(
    State(state): State<EventsState>,
    Path(location): Path<LocationRef>,
    headers: HeaderMap,
    admitted: Admitted,
) -> Result<Response, ApiError> {
    let publisher = &admitted.publisher;
    let Object(mut body): Object<PublishBody<'_>> = from_bytes(&admitted.bytes)?;
    let mut fields = Fields::default();
    let in_body = body.idempotency_key.take();
    let key = one_key(&mut fields, &headers, in_body)?;
    let draft = body.parse(&mut fields, "");
    let mut routing = state.routing.of(publisher.id, &location).await?.ok_or(ApiError::NotFound)?;
    let draft = fields.done(|| draft)?;
    let id = state.context.clock.mint_in(routing.location_id.shard());
    let mut looked_again = false;
    for _ in 0..ROUTINGS_MAX {
        let (event, answer) = match ready(&state, publisher, &routing, &draft, id, key.as_deref()).await {
            Ok(ready) => ready,
            // A remembered table may be outdated: only one that was read for this request refuses.
            Err(_) if !looked_again => {
                looked_again = true;
                routing = look_again(&state, publisher, &location).await?.ok_or(ApiError::NotFound)?;
                continue;
            }
            Err(refusal) => {
                let place = (routing.location_id.shard(), route_of(routing.location_id));
                let fingerprint = draft.fingerprint(routing.location_id);
                return refused(&state, publisher, place, key.as_deref(), &fingerprint, refusal).await;
            }
        };
        match state.ingest.submit(event).await? {
            Ingested::Committed => return Ok(accepted(answer, false)),
            Ingested::Replayed { fingerprint, answer } => {
                return replayed(&fingerprint, &draft.fingerprint(routing.location_id), answer);
            }
            Ingested::Stale => {
                routing = look_again(&state, publisher, &location).await?.ok_or(ApiError::NotFound)?;
            }
        }
    }
    Err(ApiError::Unavailable("the location's endpoints change faster than an event can be routed".into()))
}

/// The header and the field are the same thing.
fn one_key(
    fields: &mut Fields,
    headers: &HeaderMap,
    in_body: Option<String>,
) -> Result<Option<String>, ApiError> {
    let in_header = idempotency::key_of(headers)?;
    let in_body = match in_body {
        None => None,
        Some(text) => fields.take("/idempotency_key", idempotency::parse_key(&text)),
    };
    if let (Some(header), Some(body)) = (&in_header, &in_body)
        && header != body
    {
        fields.wrong("/idempotency_key", "must be the same as the header Idempotency-Key");
    }
    Ok(in_header.or(in_body))
}

/// The event with its deliveries, and the answer that it will get.
async fn ready(
    state: &EventsState,
    publisher: &Publisher,
    routing: &Routing,
    draft: &Draft,
    id: EventId,
    key: Option<&str>,
) -> Result<(NewEvent, Bytes), ApiError> {
    let channel = allow(draft, routing).map_err(|refusal| told(refusal, ""))?;
    let broken = routing.broken_rules(draft.event_type.as_str(), &draft.data).await?;
    if !broken.is_empty() {
        return Err(told(Refusal::Rules(broken), ""));
    }
    let occurred_at = draft.timestamp.unwrap_or_else(|| milliseconds(state.context.clock.now()));
    let subject = || {
        Subject::new(&filters::Event {
            event_type: draft.event_type.as_str(),
            data: &draft.data,
            channel: channel.map(Channel::as_str),
            tags: draft.tags.as_deref(),
            timestamp: &occurred_at.to_string(),
            live_mode: draft.live_mode,
            location_id: &routing.location_id.to_string(),
            api_version: draft.api_version.as_deref(),
        })
    };
    let matching = routing.matching(&draft.event_type, subject);
    if !draft.data.starts_with('{') && matching.iter().any(|endpoint| endpoint.requires_object()) {
        let detail = "must be an object, for the wire format of an endpoint that gets it";
        return Err(ApiError::invalid("/data", detail));
    }
    let published = Published {
        id,
        event_type: draft.event_type.as_str().to_owned(),
        timestamp: occurred_at,
        deliveries: matching
            .iter()
            .map(|endpoint| PublishedDelivery {
                endpoint_id: endpoint.endpoint_id,
                status: if endpoint.held { "held" } else { "pending" },
            })
            .collect(),
    };
    let answer = Bytes::from(serde_json::to_vec(&published).map_err(ApiError::internal)?);
    let claim = key.map(|key| Claim {
        route: route_of(routing.location_id),
        key: key.to_owned(),
        fingerprint: draft.fingerprint(routing.location_id),
        answer: answer.clone(),
    });
    let event = NewEvent {
        id,
        tenant_id: publisher.id,
        location_id: routing.location_id,
        routing_version: routing.version,
        key_id: publisher.actor.key_id,
        event_type: published.event_type,
        occurred_at,
        channel: channel.map(|channel| channel.as_str().to_owned()),
        api_version: draft.api_version.clone(),
        live_mode: draft.live_mode,
        tags: draft.tags.clone(),
        data: Bytes::from(draft.data.clone()),
        deliveries: matching
            .iter()
            .map(|endpoint| NewDelivery {
                endpoint_id: endpoint.endpoint_id,
                format_version: endpoint.format_version,
                format: endpoint.format.clone(),
            })
            .collect(),
        claim,
    };
    Ok((event, answer))
}

/// What a key of a publish to this location is scoped to.
fn route_of(location: LocationId) -> String {
    format!("events of {location}")
}

/// A repeat is answered as the first request was, even where a new one would be refused by now.
async fn refused(
    state: &EventsState,
    publisher: &Publisher,
    (shard, route): (Shard, String),
    key: Option<&str>,
    fingerprint: &[u8],
    refusal: ApiError,
) -> Result<Response, ApiError> {
    let Some(key) = key else { return Err(refusal) };
    let mut db = state.context.begin(publisher.id).await?;
    match queries::first_answer(&mut *db, publisher.id, shard, &route, key).await? {
        Some((first, answer)) => replayed(&first, fingerprint, answer),
        None => Err(refusal),
    }
}

fn told(refusal: Refusal, at: &str) -> ApiError {
    match refusal {
        Refusal::Field(field, detail) => {
            ApiError::Invalid(vec![FieldError::new(format!("{at}{field}"), detail)])
        }
        Refusal::Rules(broken) => ApiError::Invalid(
            broken
                .into_iter()
                .map(|(place, detail)| FieldError::new(format!("{at}/data{place}"), detail))
                .collect(),
        ),
        Refusal::ChannelDisconnected(channel) => ApiError::Conflict(
            format!("The location's channel {} is not connected.", channel.as_str()).into(),
        ),
    }
}

/// The table was outdated, or the key is dead: both are read anew.
async fn look_again(
    state: &EventsState,
    publisher: &Publisher,
    location: &LocationRef,
) -> Result<Option<Arc<Routing>>, ApiError> {
    if !publisher.is_live(&state.context).await? {
        return Err(UNKNOWN_KEY);
    }
    state.routing.forget(publisher.id, location).await;
    Ok(state.routing.of(publisher.id, location).await?)
}

fn accepted(answer: Bytes, replayed: bool) -> Response {
    let json = HeaderValue::from_static("application/json");
    let mut response = (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, json)], answer).into_response();
    if replayed {
        response.headers_mut().insert(idempotency::IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn replayed(first: &[u8], now: &[u8], answer: Vec<u8>) -> Result<Response, ApiError> {
    if first == now { Ok(accepted(answer.into(), true)) } else { Err(ApiError::KeyReused) }
}

/// The events of a batch, in its order.
#[derive(Serialize, ToSchema)]
#[schema(as = PublishedBatch)]
struct BatchAnswer {
    /// One for each event, in the order of the request.
    #[schema(value_type = Vec<Published>)]
    data: Vec<Box<serde_json::value::RawValue>>,
}

/// Publish events together
///
/// All of them or none, each to a location of its own. Errors point at the event: `/events/3/type`. The body may have 8 MiB.
#[utoipa::path(post, path = "/v1/events/batch", operation_id = "publish_batch", tag = "Events",
    security(("key" = ["publish"])), request_body = BatchBody, responses(
        (status = 202, description = "The events are on disk.", body = BatchAnswer),
        (status = 408, description = "The body took longer than 30 s to come."),
        (status = 409, description = "An event's channel is not connected at its location.")))]
pub async fn publish_batch(
    State(state): State<EventsState>,
    headers: HeaderMap,
    admitted: Admitted<BATCH_BODY_MAX_BYTES>,
) -> Result<Response, ApiError> {
    let publisher = &admitted.publisher;
    let Object(body): Object<BatchBody<'_>> = from_bytes(&admitted.bytes)?;
    let mut fields = Fields::default();
    let key = one_key(&mut fields, &headers, None)?;
    if body.events.is_empty() || body.events.len() > BATCH_EVENTS_MAX {
        return Err(ApiError::invalid("/events", format!("must have 1 to {BATCH_EVENTS_MAX} events")));
    }
    let mut drafts = Vec::with_capacity(body.events.len());
    for (at, one) in body.events.into_iter().enumerate() {
        let (location, one) = one.0.split();
        let draft = one.parse(&mut fields, &format!("/events/{at}"));
        if state.routing.of(publisher.id, &location).await?.is_none() {
            fields.wrong(format!("/events/{at}/location_id"), "is not a location of this tenant");
        }
        drafts.extend(draft.map(|draft| (location, draft)));
    }
    fields.finish()?;
    let fingerprint: [u8; 32] = {
        let mut hash = Sha256::new();
        for (location, draft) in &drafts {
            let routing = state.routing.of(publisher.id, location).await?.ok_or(ApiError::NotFound)?;
            hash.update(draft.fingerprint(routing.location_id));
        }
        hash.finalize().into()
    };
    let mut looked_again = false;
    for _ in 0..ROUTINGS_MAX {
        let (events, answer) = match ready_batch(&state, publisher, &drafts).await {
            Ok(ready) => ready,
            Err(ApiError::Invalid(_) | ApiError::Conflict(_)) if !looked_again => {
                looked_again = true;
                forget_all(&state, publisher, &drafts).await?;
                continue;
            }
            Err(refusal @ (ApiError::Invalid(_) | ApiError::Conflict(_))) => {
                let place = (publisher.id.shard(), BATCH_ROUTE.to_owned());
                return refused(&state, publisher, place, key.as_deref(), &fingerprint, refusal).await;
            }
            Err(error) => return Err(error),
        };
        let claim = key.as_ref().map(|key| BatchClaim {
            shard: publisher.id.shard(),
            tenant_id: publisher.id,
            id: state.context.clock.mint(),
            claim: Claim {
                route: BATCH_ROUTE.to_owned(),
                key: key.clone(),
                fingerprint,
                answer: answer.clone(),
            },
        });
        match state.ingest.submit_all(events, claim).await? {
            Ingested::Committed => return Ok(accepted(answer, false)),
            Ingested::Replayed { fingerprint: first, answer } => {
                return replayed(&first, &fingerprint, answer);
            }
            Ingested::Stale => forget_all(&state, publisher, &drafts).await?,
        }
    }
    Err(ApiError::Unavailable("the locations' endpoints change faster than events can be routed".into()))
}

/// As [`look_again`], for the locations of a batch.
async fn forget_all(
    state: &EventsState,
    publisher: &Publisher,
    drafts: &[(LocationRef, Draft)],
) -> Result<(), ApiError> {
    for (location, _) in drafts {
        state.routing.forget(publisher.id, location).await;
    }
    if publisher.is_live(&state.context).await? { Ok(()) } else { Err(UNKNOWN_KEY) }
}

async fn ready_batch(
    state: &EventsState,
    publisher: &Publisher,
    drafts: &[(LocationRef, Draft)],
) -> Result<(Vec<NewEvent>, Bytes), ApiError> {
    let (mut events, mut answers) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
    let mut wrong = Vec::new();
    for (at, (location, draft)) in drafts.iter().enumerate() {
        let routing = state.routing.of(publisher.id, location).await?.ok_or_else(|| {
            ApiError::invalid(format!("/events/{at}/location_id"), "is not a location of this tenant")
        })?;
        let id = state.context.clock.mint_in(routing.location_id.shard());
        match ready(state, publisher, &routing, draft, id, None).await {
            Ok((event, answer)) => {
                events.push(event);
                let text = String::from_utf8(answer.into()).map_err(ApiError::internal)?;
                answers.push(serde_json::value::RawValue::from_string(text).map_err(ApiError::internal)?);
            }
            Err(ApiError::Invalid(errors)) => wrong.extend(
                errors
                    .into_iter()
                    .map(|error| FieldError::new(format!("/events/{at}{}", error.pointer), error.detail)),
            ),
            Err(ApiError::Conflict(detail)) => {
                return Err(ApiError::Conflict(format!("Event {at} of the batch: {detail}").into()));
            }
            Err(other) => return Err(other),
        }
    }
    if !wrong.is_empty() {
        return Err(ApiError::Invalid(wrong));
    }
    let answer = serde_json::to_vec(&BatchAnswer { data: answers }).map_err(ApiError::internal)?;
    Ok((events, answer.into()))
}
