//! SQL of the jobs.

use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::model::{Job, Running, Task};
use crate::{
    types::{EndpointId, EventId, JobId, TenantId, Timestamp},
    web::{ApiError, page::Keyset},
};

/// Jobs of one tenant that may be running: they take turns with those of all others.
const RUNNING_MAX: i64 = 1_000;

/// Refuses where the tenant has too many running.
pub async fn make_room(db: impl PgExecutor<'_>, tenant: TenantId) -> Result<(), ApiError> {
    let running = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (
               SELECT 1 FROM jobs WHERE tenant_id = $1 AND status = 'running' LIMIT $2) r"#,
        tenant.uuid(),
        RUNNING_MAX
    )
    .fetch_one(db)
    .await?;
    if running < RUNNING_MAX {
        return Ok(());
    }
    let told = format!("{RUNNING_MAX} jobs are running already: wait for one to end, or cancel one.");
    Err(ApiError::Conflict(told.into()))
}

/// Enters a job that begins at once.
pub async fn insert(
    db: &mut PgConnection,
    tenant: TenantId,
    id: JobId,
    task: &Task,
    total: i64,
) -> Result<Job, ApiError> {
    let stored = serde_json::to_value(task).map_err(ApiError::internal)?;
    sqlx::query!(
        "INSERT INTO jobs (tenant_id, id, kind, status, endpoint_id, event_id, task, total, due_at, created_at)
         VALUES ($1, $2, $3, 'running', $4, $5, $6, $7, now(), now())",
        tenant.uuid(),
        id.uuid(),
        task.kind(),
        task.endpoint_id().map(EndpointId::uuid),
        task.event_id().map(EventId::uuid),
        stored,
        total
    )
    .execute(&mut *db)
    .await?;
    find(db, tenant, id).await?.ok_or_else(|| ApiError::internal("a job that was just made"))
}

pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, id: JobId) -> sqlx::Result<Option<Job>> {
    sqlx::query_as!(
        Job,
        r#"
        SELECT id AS "id: JobId", kind, status, endpoint_id AS "endpoint_id: EndpointId", event_id AS "event_id: EventId", total,
            done, error, created_at AS "created_at: Timestamp", finished_at AS "finished_at: Timestamp"
        FROM jobs WHERE tenant_id = $1 AND id = $2
        "#,
        tenant.uuid(),
        id.uuid()
    )
    .fetch_optional(db)
    .await
}

/// A tenant has few jobs (their history is kept for days): they are filtered while they are read in order.
pub async fn page(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    (kind, status): (Option<&str>, Option<&str>),
    page: Keyset,
) -> sqlx::Result<Vec<Job>> {
    sqlx::query_as!(
        Job,
        r#"
        SELECT p.id AS "id!: JobId", p.kind AS "kind!", p.status AS "status!", p.endpoint_id AS "endpoint_id: EndpointId",
            p.event_id AS "event_id: EventId", p.total AS "total!", p.done AS "done!", p.error,
            p.created_at AS "created_at!: Timestamp", p.finished_at AS "finished_at: Timestamp"
        FROM (
            (SELECT * FROM jobs WHERE NOT $2 AND tenant_id = $1 AND id < $3
                 AND ($5::text IS NULL OR kind = $5) AND ($6::text IS NULL OR status = $6) ORDER BY id DESC LIMIT $4)
            UNION ALL
            (SELECT * FROM jobs WHERE $2 AND tenant_id = $1 AND id > $3
                 AND ($5::text IS NULL OR kind = $5) AND ($6::text IS NULL OR status = $6) ORDER BY id LIMIT $4)
        ) p ORDER BY p.id DESC
        "#,
        tenant.uuid(),
        page.backwards,
        page.edge,
        page.fetch(),
        kind,
        status
    )
    .fetch_all(db)
    .await
}

/// Ends a running job. Waits for a step under way. False where it has ended, or there is none.
pub async fn cancel(db: impl PgExecutor<'_>, tenant: TenantId, id: JobId) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE jobs SET status = 'canceled', finished_at = now() WHERE tenant_id = $1 AND id = $2 AND status = 'running'",
        tenant.uuid(),
        id.uuid()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The job whose turn it is, for this transaction alone.
pub async fn take_turn(db: impl PgExecutor<'_>) -> sqlx::Result<Option<Running>> {
    sqlx::query_as!(
        Running,
        r#"
        SELECT tenant_id AS "tenant_id: TenantId", id AS "id: JobId", task, cursor FROM jobs
        WHERE status = 'running' AND due_at <= clock_timestamp() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
        "#
    )
    .fetch_optional(db)
    .await
}

/// How far the job is after a step; its next turn is after those of the others that wait, and `pause_s` after this one. A
/// pause counts from when the turn was due, so that the rate is kept on average, though turns come late.
pub async fn advance(
    db: impl PgExecutor<'_>,
    job: &Running,
    cursor: Option<Uuid>,
    done: i64,
    pause_s: Option<f64>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE jobs j SET cursor = coalesce($3, j.cursor), done = j.done + $4,
             due_at = CASE WHEN $5::float8 IS NULL THEN n.now
                 ELSE greatest(j.due_at, n.now - interval '1 second') + $5 * interval '1 second' END
         FROM (SELECT clock_timestamp() AS now) n
         WHERE j.tenant_id = $1 AND j.id = $2",
        job.tenant_id.uuid(),
        job.id.uuid(),
        cursor,
        done,
        pause_s
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn set_task(db: impl PgExecutor<'_>, job: &Running, task: &Task) -> sqlx::Result<()> {
    let stored = serde_json::to_value(task).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query!(
        "UPDATE jobs SET task = $3 WHERE tenant_id = $1 AND id = $2",
        job.tenant_id.uuid(),
        job.id.uuid(),
        stored
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn finish(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: JobId,
    done: i64,
    error: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE jobs SET status = CASE WHEN $4::text IS NULL THEN 'succeeded' ELSE 'failed' END, done = done + $3,
             total = greatest(total, done + $3), error = $4, finished_at = now()
         WHERE tenant_id = $1 AND id = $2 AND status = 'running'",
        tenant.uuid(),
        id.uuid(),
        done,
        error
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Finished jobs are kept for as long as deliveries are.
pub async fn purge_finished(pool: &PgPool, retention_days: u16) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM jobs WHERE finished_at < now() - $1 * interval '1 day'",
        f64::from(retention_days)
    )
    .execute(pool)
    .await?;
    Ok(())
}
