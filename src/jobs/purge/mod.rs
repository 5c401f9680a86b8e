//! Purge: everything of a tenant that was deleted.
//!
//! The tombstones are set in the transaction that makes the job. Nothing goes before the owners obey them (what was in flight
//! is on disk by then) and everybody has ended who began before: so nothing comes back behind the job. Only the result that
//! a node wrote after it was taken for dead can; it goes with its day's partition. What is left to do is what is left in the
//! tables: endpoints with their history, locations with their events, the rest.

mod queries;

use sqlx::PgConnection;
use uuid::Uuid;

use super::model::{Job, Next, Progress, Running, Task};
use crate::{
    db::horizon,
    queue::{control::Command, purge},
    types::{JobId, TenantId},
    web::ApiError,
};

/// Rows of one statement.
const SOME: i64 = 5_000;

/// Ends the tenant's other jobs and enters this one, in the transaction that sets the tombstones.
pub async fn enter(
    db: &mut PgConnection,
    tenant: TenantId,
    id: JobId,
    commands: Vec<Command>,
) -> Result<Job, ApiError> {
    let total = queries::count(&mut *db, tenant).await?;
    super::queries::insert(db, tenant, id, &Task::Purge { commands, mark: None }, total).await
}

/// Ends the tenant's jobs. Before its endpoints are touched: a step locks its job and then its endpoint.
pub async fn end_others(db: &mut PgConnection, tenant: TenantId) -> sqlx::Result<()> {
    queries::cancel_all(db, tenant).await
}

pub async fn step(
    db: &mut PgConnection,
    job: &Running,
    commands: Vec<Command>,
    mark: Option<i64>,
) -> sqlx::Result<Progress> {
    const QUIET: Option<Uuid> = Some(Uuid::nil());
    if job.cursor != QUIET {
        let Some(mark) = mark else {
            if !crate::queue::control::are_obeyed(&mut *db, &commands).await? {
                return Ok(Progress { next: Next::Wait, ..Progress::default() });
            }
            let task = Task::Purge { commands: Vec::new(), mark: Some(horizon::mark(db).await?) };
            return Ok(Progress { next: Next::Wait, task: Some(task), ..Progress::default() });
        };
        if !horizon::passed(&mut *db, mark).await? {
            return Ok(Progress { next: Next::Wait, ..Progress::default() });
        }
    }
    let (done, next) = some(db, job.tenant_id, job.id).await?;
    Ok(Progress { cursor: QUIET, done, next, ..Progress::default() })
}

/// Deletes some of what is left; how many endpoints, locations and tenants are gone by it.
async fn some(db: &mut PgConnection, tenant: TenantId, job: JobId) -> sqlx::Result<(i64, Next)> {
    if let Some(endpoint) = queries::an_endpoint(&mut *db, tenant).await? {
        if purge::history(&mut *db, endpoint).await? {
            return Ok((0, Next::Step));
        }
        queries::remove_endpoint(db, tenant, endpoint).await?;
        return Ok((1, Next::Step));
    }
    if let Some(location) = queries::a_location(&mut *db, tenant).await? {
        if purge::events(&mut *db, location).await? {
            return Ok((0, Next::Step));
        }
        queries::remove_location(db, tenant, location).await?;
        return Ok((1, Next::Step));
    }
    if queries::some_of_the_rest(&mut *db, tenant, job, SOME).await? {
        return Ok((0, Next::Step));
    }
    Ok(if queries::remove_tenant(db, tenant).await? { (1, Next::Succeeded) } else { (0, Next::Step) })
}
