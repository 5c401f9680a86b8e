//! Routes of one delivery.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use sqlx::PgConnection;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{attempts::Rebuild, model::WholeDelivery, queries};
use crate::{
    audit,
    auth::{Context, Tenant, scope},
    endpoints::{self, target::History},
    idempotency::Once,
    queue::{
        bell::Ring,
        control::{self, Canceled, Retried},
    },
    types::{EndpointId, EventId},
    web::{Answer, ApiError, Json, Path, json::NoBody},
};

async fn whole(
    context: &Context,
    db: &mut PgConnection,
    tenant: &Tenant<impl Sized>,
    event: EventId,
    endpoint: EndpointId,
) -> Result<WholeDelivery, ApiError> {
    let mut found = queries::describe(&mut *db, tenant.id, &[(endpoint, event)]).await?;
    let delivery = found.pop().ok_or(ApiError::NotFound)?;
    let format_version =
        queries::format_version(&mut *db, tenant.id, endpoint, event).await?.ok_or(ApiError::NotFound)?;
    let rows = queries::attempts(&mut *db, tenant.id, endpoint, event).await?;
    let history =
        History::load(&mut *db, &context.vault, tenant.id, endpoint).await?.ok_or(ApiError::NotFound)?;
    let versions = rows.iter().map(|row| row.format_version).chain([format_version]);
    let formats = context.formats.of(&mut *db, versions).await?;
    let event_body = Rebuild::event(db, event).await?;
    let rebuild = Rebuild { history: &history, formats, event_id: event, event: event_body };
    let request = rebuild.request(rows.last(), format_version, context.clock.now());
    let attempts = rows.into_iter().map(|row| rebuild.attempt(row)).collect();
    Ok(WholeDelivery { delivery, request, attempts })
}

/// Read a delivery
///
/// With its request and all its attempts.
#[utoipa::path(get, path = "/v1/events/{event_id}/deliveries/{endpoint_id}", operation_id = "read_delivery", tag = "Deliveries",
    security(("key" = ["read"])), responses(
        (status = 200, description = "The delivery.", body = WholeDelivery)))]
async fn read(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path((event, endpoint)): Path<(EventId, EndpointId)>,
) -> Result<Json<WholeDelivery>, ApiError> {
    whole(&context, &mut *context.begin(tenant.id).await?, &tenant, event, endpoint).await.map(Json)
}

/// Retry a delivery
///
/// A pending one is sent now, one that has ended begins again with all its retries; a held one stays held.
#[utoipa::path(post, path = "/v1/events/{event_id}/deliveries/{endpoint_id}/retry", operation_id = "retry_delivery", tag = "Deliveries",
    security(("key" = ["write"])), responses(
        (status = 202, description = "The delivery, which will be sent.", body = WholeDelivery),
        (status = 409, description = "The event's data were expunged.")))]
async fn retry(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path((event, endpoint)): Path<(EventId, EndpointId)>,
    Once { claim, .. }: Once<NoBody>,
) -> Result<Response, ApiError> {
    let mut work = claim.begin(&context, tenant.id).await?;
    let (_, _) =
        endpoints::queries::lock(&mut *work, tenant.id, endpoint).await?.ok_or(ApiError::NotFound)?;
    let format_version =
        queries::format_version(&mut *work, tenant.id, endpoint, event).await?.ok_or(ApiError::NotFound)?;
    match control::retry(&mut work, tenant.id, event, endpoint, format_version).await? {
        Retried::Hastened | Retried::Requeued => {}
        Retried::Unknown => return Err(ApiError::NotFound),
        Retried::Expunged => return Err(ApiError::Conflict("The event's data were expunged.".into())),
    }
    let resource = format!("{event}/{endpoint}");
    let act = audit::Act { action: "delivery.retry", resource: &resource, fields: &[] };
    audit::record(&mut *work, tenant.id, &context.clock, &tenant.actor, act).await?;
    let delivery = whole(&context, &mut work, &tenant, event, endpoint).await?;
    let done = work.commit(&context, Answer::json(StatusCode::ACCEPTED, &delivery)?).await?;
    context.owners.ring(Ring::of_timed(endpoint)).await?;
    Ok(done.into_response())
}

/// Cancel a delivery
///
/// One that is pending or held. Answers when it is sent no more.
#[utoipa::path(post, path = "/v1/events/{event_id}/deliveries/{endpoint_id}/cancel", operation_id = "cancel_delivery", tag = "Deliveries",
    security(("key" = ["write"])), responses(
        (status = 200, description = "The delivery, canceled.", body = WholeDelivery),
        (status = 202, description = "The delivery, canceled. An attempt that began before may still be under way.",
            body = WholeDelivery),
        (status = 409, description = "The delivery has ended already.")))]
async fn cancel(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path((event, endpoint)): Path<(EventId, EndpointId)>,
    Once { claim, .. }: Once<NoBody>,
) -> Result<Response, ApiError> {
    let mut work = claim.begin(&context, tenant.id).await?;
    let (_, _) =
        endpoints::queries::lock(&mut *work, tenant.id, endpoint).await?.ok_or(ApiError::NotFound)?;
    if queries::describe(&mut *work, tenant.id, &[(endpoint, event)]).await?.is_empty() {
        return Err(ApiError::NotFound);
    }
    if control::cancel(&mut work, tenant.id, event, endpoint).await? == Canceled::NotPending {
        return Err(ApiError::Conflict("The delivery has ended already.".into()));
    }
    let command = control::command_endpoint(&mut work, endpoint).await?;
    let resource = format!("{event}/{endpoint}");
    let act = audit::Act { action: "delivery.cancel", resource: &resource, fields: &[] };
    audit::record(&mut *work, tenant.id, &context.clock, &tenant.actor, act).await?;
    let delivery = whole(&context, &mut work, &tenant, event, endpoint).await?;
    let done = work.commit(&context, Answer::json(StatusCode::OK, &delivery)?).await?;
    if context.owners.obeyed(command).await? {
        Ok(done.into_response())
    } else {
        done.accepted(&context).await
    }
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default().routes(routes!(read)).routes(routes!(retry)).routes(routes!(cancel))
}
