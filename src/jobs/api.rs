//! Routes of the jobs, and of what makes them.

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};

use super::{model::Job, queries, recover::recover, replay::replay};
use crate::{
    audit,
    auth::{Context, PastTenant, Tenant, scope},
    types::JobId,
    web::{
        ApiError, Json, Path, Query,
        page::{Page, PageQuery, Scope},
    },
};

async fn list(
    State(context): State<Context>,
    tenant: PastTenant<scope::Read>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Job>>, ApiError> {
    let scope = Scope::new(&["jobs", &tenant.id.to_string()]);
    let keyset = scope.keyset(&query)?;
    let rows = queries::page(&context.pool, tenant.id, keyset).await?;
    Ok(Json(scope.page(&query, keyset, rows, |job| job.id.uuid())))
}

async fn read(
    State(context): State<Context>,
    tenant: PastTenant<scope::Read>,
    Path(id): Path<JobId>,
) -> Result<Json<Job>, ApiError> {
    queries::find(&context.pool, tenant.id, id).await?.map(Json).ok_or(ApiError::NotFound)
}

/// What the job has queued stays queued; nothing more follows.
async fn cancel(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(id): Path<JobId>,
) -> Result<Json<Job>, ApiError> {
    let mut transaction = context.pool.begin().await?;
    let canceled = queries::cancel(&mut *transaction, tenant.id, id).await?;
    let job = queries::find(&mut *transaction, tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    if !canceled {
        return Err(ApiError::Conflict("The job has ended already.".into()));
    }
    let act = audit::Act { action: "job.cancel", resource: &id.to_string(), fields: &[] };
    audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    transaction.commit().await?;
    Ok(Json(job))
}

pub fn router(context: Context) -> Router {
    Router::new()
        .route("/v1/jobs", get(list))
        .route("/v1/jobs/{job_id}", get(read).delete(cancel))
        .route("/v1/endpoints/{endpoint_id}/recover", post(recover))
        .route("/v1/events/{event_id}/replay", post(replay))
        .with_state(context)
}
