//! Routes of the jobs, and of what makes them.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::{Job, KINDS, STATUSES, kind_schema, status_schema},
    queries, recover, replay,
};
use crate::{
    audit,
    auth::{Context, PastTenant, Tenant, scope},
    types::JobId,
    web::{
        ApiError, Json, Path, Query,
        page::{Page, PageQuery, Scope},
    },
};

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
    /// Those that do this.
    #[param(required = false, schema_with = kind_schema)]
    kind: Option<String>,
    /// Those in this state.
    #[param(required = false, schema_with = status_schema)]
    status: Option<String>,
}

/// The word, if it is one of these.
fn one_of<'a>(name: &str, word: Option<&'a str>, words: &[&str]) -> Result<Option<&'a str>, ApiError> {
    match word {
        Some(word) if !words.contains(&word) => {
            Err(ApiError::Malformed(format!("{name} must be one of {}.", words.join(", ")).into()))
        }
        word => Ok(word),
    }
}

/// List jobs
#[utoipa::path(get, path = "/v1/jobs", operation_id = "list_jobs", tag = "Jobs", security(("key" = ["read"])),
    params(ListQuery), responses((status = 200, description = "One page of jobs.", body = Page<Job>)))]
async fn list(
    State(context): State<Context>,
    tenant: PastTenant<scope::Read>,
    Query(ListQuery { limit, cursor, kind, status }): Query<ListQuery>,
) -> Result<Json<Page<Job>>, ApiError> {
    let kind = one_of("kind", kind.as_deref(), &KINDS)?;
    let status = one_of("status", status.as_deref(), &STATUSES)?;
    let query = PageQuery { limit, cursor };
    let parts = ["jobs", &tenant.id.to_string(), kind.unwrap_or_default(), status.unwrap_or_default()];
    let scope = Scope::new(&parts);
    let keyset = scope.keyset(&query)?;
    let mut db = context.begin(tenant.id).await?;
    let rows = queries::page(&mut *db, tenant.id, (kind, status), keyset).await?;
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
