//! Routes of one delivery.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};

use super::{attempts::Rebuild, model::WholeDelivery, queries};
use crate::{
    audit,
    auth::{Context, Tenant, scope},
    endpoints::{self, target::History},
    queue::{
        bell::{self, Ring},
        control::{self, Canceled, Retried},
    },
    types::{EndpointId, EventId},
    web::{ApiError, Json, Path},
};

async fn whole(
    context: &Context,
    tenant: &Tenant<impl Sized>,
    event: EventId,
    endpoint: EndpointId,
) -> Result<WholeDelivery, ApiError> {
    let mut found = queries::describe(&context.pool, tenant.id, &[(endpoint, event)]).await?;
    let delivery = found.pop().ok_or(ApiError::NotFound)?;
    let format_version = queries::format_version(&context.pool, tenant.id, endpoint, event)
        .await?
        .ok_or(ApiError::NotFound)?;
    let rows = queries::attempts(&context.pool, tenant.id, endpoint, event).await?;
    let history =
        History::load(&context.pool, &context.vault, tenant.id, endpoint).await?.ok_or(ApiError::NotFound)?;
    let versions = rows.iter().map(|row| row.format_version).chain([format_version]);
    let formats = context.formats.of(&context.pool, versions).await?;
    let event_body = Rebuild::event(context, event).await?;
    let rebuild = Rebuild { history: &history, formats, event_id: event, event: event_body };
    let request = rebuild.request(rows.last(), format_version, context.clock.now());
    let attempts = rows.into_iter().map(|row| rebuild.attempt(row)).collect();
    Ok(WholeDelivery { delivery, request, attempts })
}

async fn read(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path((event, endpoint)): Path<(EventId, EndpointId)>,
) -> Result<Json<WholeDelivery>, ApiError> {
    whole(&context, &tenant, event, endpoint).await.map(Json)
}

/// A pending one is sent now, one that has ended starts its ladder again.
async fn retry(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path((event, endpoint)): Path<(EventId, EndpointId)>,
) -> Result<(StatusCode, Json<WholeDelivery>), ApiError> {
    let mut transaction = context.pool.begin().await?;
    let (_, _) =
        endpoints::queries::lock(&mut *transaction, tenant.id, endpoint).await?.ok_or(ApiError::NotFound)?;
    let format_version = queries::format_version(&mut *transaction, tenant.id, endpoint, event)
        .await?
        .ok_or(ApiError::NotFound)?;
    if control::retry(&mut transaction, tenant.id, event, endpoint, format_version).await? == Retried::Unknown
    {
        return Err(ApiError::NotFound);
    }
    let resource = format!("{event}/{endpoint}");
    let act = audit::Act { action: "delivery.retry", resource: &resource, fields: &[] };
    audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    transaction.commit().await?;
    bell::ring(&context.pool, &[Ring::of_timed(endpoint)]).await?;
    Ok((StatusCode::ACCEPTED, Json(whole(&context, &tenant, event, endpoint).await?)))
}

async fn cancel(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path((event, endpoint)): Path<(EventId, EndpointId)>,
) -> Result<(StatusCode, Json<WholeDelivery>), ApiError> {
    let mut transaction = context.pool.begin().await?;
    let (_, _) =
        endpoints::queries::lock(&mut *transaction, tenant.id, endpoint).await?.ok_or(ApiError::NotFound)?;
    if queries::describe(&mut *transaction, tenant.id, &[(endpoint, event)]).await?.is_empty() {
        return Err(ApiError::NotFound);
    }
    if control::cancel(&mut transaction, tenant.id, event, endpoint).await? == Canceled::NotPending {
        return Err(ApiError::Conflict("The delivery has ended already.".into()));
    }
    let command = control::command(&mut transaction, endpoint.shard()).await?;
    let resource = format!("{event}/{endpoint}");
    let act = audit::Act { action: "delivery.cancel", resource: &resource, fields: &[] };
    audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    transaction.commit().await?;
    let obeyed = control::obeyed(&context.pool, command).await?;
    let status = if obeyed { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(whole(&context, &tenant, event, endpoint).await?)))
}

pub fn router(context: Context) -> Router {
    Router::new()
        .route("/v1/events/{event_id}/deliveries/{endpoint_id}", get(read))
        .route("/v1/events/{event_id}/deliveries/{endpoint_id}/retry", post(retry))
        .route("/v1/events/{event_id}/deliveries/{endpoint_id}/cancel", post(cancel))
        .with_state(context)
}
