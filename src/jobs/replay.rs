//! Replay: one event is sent again, to the endpoints that it was sent to or to others of its location.

use std::collections::HashSet;

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{
    model::{Job, Next, Progress, Running, Task},
    queries,
};
use crate::{
    audit,
    auth::{Context, Tenant, scope},
    events,
    idempotency::{Done, Once},
    queue::{expunge, requeue},
    types::{EndpointId, EventId},
    web::{Answer, ApiError, Path, fields::Fields, json::OptionalJson},
};

/// Endpoints of one request: as many as a tenant can have.
const ENDPOINTS_MAX: usize = 1_000;
/// Deliveries that one step releases.
const STEP_MAX: usize = 200;

/// Where to send an event again.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReplayEvent)]
pub struct ReplayBody {
    /// Endpoints of the event's location, none twice. Without it: those that it was sent to.
    #[schema(value_type = Option<Vec<EndpointId>>, min_items = 1, max_items = 1000)]
    endpoint_ids: Option<Vec<String>>,
}

impl ReplayBody {
    fn parse(self, fields: &mut Fields) -> Option<Vec<EndpointId>> {
        let texts = self.endpoint_ids?;
        if !(1..=ENDPOINTS_MAX).contains(&texts.len()) {
            fields.wrong("/endpoint_ids", format!("must name 1 to {ENDPOINTS_MAX} endpoints"));
        }
        let mut known = HashSet::new();
        let mut ids = Vec::with_capacity(texts.len());
        for (at, text) in texts.iter().enumerate() {
            match text.parse::<EndpointId>() {
                Ok(id) if known.insert(id) => ids.push(id),
                Ok(_) => fields.wrong(format!("/endpoint_ids/{at}"), "is given twice"),
                // The same words as for one that is not there.
                Err(_) => fields.wrong(format!("/endpoint_ids/{at}"), NOT_THERE),
            }
        }
        Some(ids)
    }
}

const NOT_THERE: &str = "is not an endpoint of the event's location";

/// Replay an event
///
/// Sends it again. Where it is pending it is left alone.
#[utoipa::path(post, path = "/v1/events/{event_id}/replay", operation_id = "replay_event", tag = "Events",
    security(("key" = ["write"])), request_body = Option<ReplayBody>, responses(
        (status = 202, description = "The job that does it.", body = Job),
        (status = 409, description = "The event's data were expunged, or too many jobs are running already.")))]
pub async fn replay(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(event): Path<EventId>,
    Once { claim, body: OptionalJson(body) }: Once<OptionalJson<ReplayBody>>,
) -> Result<Done, ApiError> {
    let mut fields = Fields::default();
    let named = body.parse(&mut fields);
    let named = fields.done(|| Some(named))?;
    let mut work = claim.begin(&context, tenant.id).await?;
    let (found, data) =
        events::queries::find(&mut *work, tenant.id, event).await?.ok_or(ApiError::NotFound)?;
    let Some(data) = data else {
        return Err(ApiError::Conflict("The event's data were expunged.".into()));
    };
    let candidates = named.as_deref().unwrap_or(&found.endpoint_ids);
    let there = requeue::replayable(&mut work, tenant.id, event, candidates).await?;
    let formats = context.formats.of(&mut *work, there.iter().map(|one| one.format_version)).await?;
    let needs_object =
        |version: i32| formats.get(&version).is_some_and(|format| format.requires_data_object());
    if let Some(named) = &named {
        let mut fields = Fields::default();
        for (at, id) in named.iter().enumerate() {
            let pointer = format!("/endpoint_ids/{at}");
            match there.iter().find(|one| one.id == *id) {
                None => fields.wrong(pointer, NOT_THERE),
                Some(one) if needs_object(one.format_version) && !data.starts_with(b"{") => {
                    fields.wrong(pointer, "has a wire format that needs data that is an object");
                }
                Some(_) => {}
            }
        }
        fields.finish()?;
    }
    let mut endpoint_ids: Vec<EndpointId> =
        there.iter().filter(|one| !one.pending).map(|one| one.id).collect();
    endpoint_ids.sort_unstable();
    let total = i64::try_from(endpoint_ids.len()).unwrap_or(i64::MAX);
    queries::make_room(&mut *work, tenant.id).await?;
    let task = Task::Replay { event_id: event, endpoint_ids };
    let job = queries::insert(&mut work, tenant.id, context.clock.mint(), &task, total).await?;
    let act = audit::Act { action: "event.replay", resource: &event.to_string(), fields: &[] };
    audit::record(&mut *work, tenant.id, &context.clock, &tenant.actor, act).await?;
    work.commit(&context, Answer::json(StatusCode::ACCEPTED, &job)?).await
}

/// An endpoint that was deleted meanwhile is left out.
pub async fn step(
    db: &mut PgConnection,
    job: &Running,
    event: EventId,
    endpoints: &[EndpointId],
) -> sqlx::Result<Progress> {
    if expunge::is_expunged(&mut *db, job.tenant_id, event).await? != Some(false) {
        return Ok(Progress { next: Next::Failed("the event's data are gone"), ..Progress::default() });
    }
    let after = |endpoint: &&EndpointId| job.cursor.is_none_or(|cursor| endpoint.uuid() > cursor);
    let some: Vec<EndpointId> = endpoints.iter().filter(after).take(STEP_MAX).copied().collect();
    let queued = requeue::event(db, job.tenant_id, event, &some).await?;
    Ok(Progress {
        cursor: some.last().map(|endpoint| endpoint.uuid()),
        done: i64::try_from(queued.len()).unwrap_or(i64::MAX),
        rung: queued,
        task: None,
        next: if some.len() < STEP_MAX { Next::Succeeded } else { Next::Step },
    })
}
