//! Expunging an event: its data are forgotten, what waits of it is canceled.

use axum::{extract::State, http::StatusCode};

use crate::{
    audit,
    auth::{Context, Tenant, scope},
    idempotency,
    queue::{control, expunge},
    types::EventId,
    web::{ApiError, Path},
};

/// Expunge an event's data
///
/// Its data, its tags and the responses to its deliveries are forgotten, what is pending is canceled. Answers when nothing more of it is sent. Once
/// more changes nothing.
#[utoipa::path(delete, path = "/v1/events/{event_id}/data", operation_id = "expunge_event", tag = "Events",
    security(("key" = ["write"])), responses(
        (status = 204, description = "The data are gone, and nothing more of the event is sent."),
        (status = 202, description = "The data are gone; an attempt that began before may still be under way.")))]
pub async fn expunge(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(id): Path<EventId>,
) -> Result<StatusCode, ApiError> {
    let mut transaction = context.begin(tenant.id).await?;
    let already = expunge::is_expunged(&mut *transaction, tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    expunge::expunge(&mut transaction, tenant.id, id).await?;
    idempotency::forget(&mut *transaction, tenant.id, id).await?;
    let command = control::command(&mut transaction, id.shard()).await?;
    if !already {
        let act = audit::Act { action: "event.expunge", resource: &id.to_string(), fields: &[] };
        audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    }
    transaction.commit().await?;
    if !context.owners.obeyed(command).await? {
        return Ok(StatusCode::ACCEPTED);
    }
    // Of attempts that were in flight: their results are on disk by now.
    let mut transaction = context.begin(tenant.id).await?;
    expunge::responses(&mut transaction, tenant.id, id).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
