//! Running jobs: one step at a time, each in a transaction of its own.

use sqlx::PgPool;

use super::{
    model::{Next, Progress, Running, Task},
    purge, queries, recover, replay,
};
use crate::{
    queue::bell::{self, Ring},
    types::{EndpointId, JobId, TenantId},
    web::error::is_away,
};

/// How long a job waits before it looks again whether others are ready.
const WAIT_S: f64 = 0.1;
/// The same after a step that could not be done.
const TRY_AGAIN_S: f64 = 5.0;

/// What the runner does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// There may be more to do.
    Worked,
    /// No job's turn has come.
    Idle,
}

/// Does one step of the job whose turn it is.
pub async fn step(pool: &PgPool) -> sqlx::Result<Stepped> {
    let mut transaction = pool.begin().await?;
    let Some(job) = queries::take_turn(&mut *transaction).await? else { return Ok(Stepped::Idle) };
    let progress = match advance(&mut transaction, &job).await {
        Ok(progress) => progress,
        Err(error) if is_away(&error) => {
            transaction.rollback().await?;
            // Perhaps it was this one alone: the others come first.
            queries::advance(pool, &job, None, 0, Some(TRY_AGAIN_S)).await?;
            return Err(error);
        }
        Err(error) => {
            transaction.rollback().await?;
            return give_up(pool, job.tenant_id, job.id, &error).await;
        }
    };
    let Progress { cursor, done, rung, task, next } = progress;
    if let Some(task) = task {
        queries::set_task(&mut *transaction, &job, &task).await?;
    }
    match next {
        Next::Step => queries::advance(&mut *transaction, &job, cursor, done, None).await?,
        Next::Wait => queries::advance(&mut *transaction, &job, cursor, done, Some(WAIT_S)).await?,
        Next::Paced { per_s } => {
            #[expect(clippy::cast_precision_loss, reason = "a step moves some hundred")]
            let pause_s = done as f64 / f64::from(per_s);
            queries::advance(&mut *transaction, &job, cursor, done, Some(pause_s)).await?;
        }
        Next::Succeeded => queries::finish(&mut *transaction, job.tenant_id, job.id, done, None).await?,
        Next::Failed(why) => {
            queries::finish(&mut *transaction, job.tenant_id, job.id, done, Some(why)).await?;
        }
    }
    transaction.commit().await?;
    ring(pool, &rung).await;
    Ok(Stepped::Worked)
}

async fn advance(db: &mut sqlx::PgConnection, job: &Running) -> sqlx::Result<Progress> {
    let task = serde_json::from_value(job.task.clone()).map_err(|error| sqlx::Error::Decode(error.into()))?;
    match task {
        Task::Recover { endpoint_id, wanted, rate_per_s } => {
            recover::step(db, job, endpoint_id, &wanted, rate_per_s).await
        }
        Task::Replay { event_id, endpoint_ids } => replay::step(db, job, event_id, &endpoint_ids).await,
        Task::Purge { commands, mark } => purge::step(db, job, commands, mark).await,
    }
}

/// A fault of ours must not keep the others waiting for ever.
async fn give_up(pool: &PgPool, tenant: TenantId, id: JobId, error: &sqlx::Error) -> sqlx::Result<Stepped> {
    tracing::error!(%tenant, job = %id, %error, "a job failed");
    queries::finish(pool, tenant, id, 0, Some("a fault of Posthaste's own; its log says more")).await?;
    Ok(Stepped::Worked)
}

/// Tells the owners; their next sweep finds what they are not told of.
async fn ring(pool: &PgPool, endpoints: &[EndpointId]) {
    let rings: Vec<Ring> = endpoints.iter().copied().map(Ring::of_timed).collect();
    let ringing = async { bell::ring(&mut *pool.acquire().await?, &rings).await };
    if let Err(error) = ringing.await {
        tracing::warn!(%error, "owners could not be told of rows that a job has queued");
    }
}
