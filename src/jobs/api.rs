//! Routes of the jobs, and of what makes them.

use axum::extract::State;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{model::Job, queries, recover, replay};
use crate::{
    audit,
    auth::{Context, PastTenant, Tenant, scope},
    types::JobId,
    web::{
        ApiError, Json, Path, Query,
        page::{Page, PageQuery, Scope},
    },
};

/// List jobs
#[utoipa::path(get, path = "/v1/jobs", operation_id = "list_jobs", tag = "Jobs", security(("key" = ["read"])),
    params(PageQuery), responses((status = 200, description = "One page of jobs.", body = Page<Job>)))]
async fn list(
    State(context): State<Context>,
    tenant: PastTenant<scope::Read>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Job>>, ApiError> {
    let scope = Scope::new(&["jobs", &tenant.id.to_string()]);
    let keyset = scope.keyset(&query)?;
    let rows = queries::page(&mut *context.begin(tenant.id).await?, tenant.id, keyset).await?;
    Ok(Json(scope.page(&query, keyset, rows, |job| job.id.uuid())))
}

/// Read a job
///
/// How far it is.
#[utoipa::path(get, path = "/v1/jobs/{job_id}", operation_id = "read_job", tag = "Jobs",
    security(("key" = ["read"])), responses((status = 200, description = "The job.", body = Job)))]
async fn read(
    State(context): State<Context>,
    tenant: PastTenant<scope::Read>,
    Path(id): Path<JobId>,
) -> Result<Json<Job>, ApiError> {
    queries::find(&mut *context.begin(tenant.id).await?, tenant.id, id)
        .await?
        .map(Json)
        .ok_or(ApiError::NotFound)
}

/// Cancel a job
///
/// What it has done stays done; nothing more follows.
#[utoipa::path(delete, path = "/v1/jobs/{job_id}", operation_id = "cancel_job", tag = "Jobs",
    security(("key" = ["write"])), responses(
        (status = 200, description = "The job, canceled.", body = Job),
        (status = 409, description = "The job has ended already.")))]
async fn cancel(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(id): Path<JobId>,
) -> Result<Json<Job>, ApiError> {
    let mut transaction = context.begin(tenant.id).await?;
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

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(read, cancel))
        .routes(routes!(recover::recover))
        .routes(routes!(replay::replay))
}
