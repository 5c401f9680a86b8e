//! Commands of the API to the queue and to the owners of its shards.
//!
//! A change that an owner must obey before the API may promise anything (pause, delete, a rotation at once) counts up its
//! shard's `config_version` in the same transaction and rings; the owner reloads, lets what is in flight end, and writes
//! `config_seen`. [`Owners::obeyed`] waits for that.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor, PgPool};
use tokio::time::{Instant, sleep};

use super::{
    bell::{self, Ring},
    expunge,
    stats::{self, Change, End},
};
use crate::types::{EndpointId, EventId, LocationId, Shard, TenantId, Timestamp};

/// Channel on which owners are told of commands; the payload is empty, polling is the truth.
pub const COMMAND_CHANNEL: &str = "posthaste_command";

/// Longest that the API waits for an owner's acknowledgement.
const OBEYED_WITHIN: Duration = Duration::from_secs(5);
const OBEYED_POLL_MIN: Duration = Duration::from_millis(5);
const OBEYED_POLL_MAX: Duration = Duration::from_millis(100);

/// The version that an owner must have seen.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Command {
    shard: i32,
    version: i64,
}

/// Counts the shard's configuration up, in the transaction of the change.
pub async fn command(db: &mut PgConnection, shard: Shard) -> sqlx::Result<Command> {
    let version = sqlx::query_scalar!(
        "WITH rung AS (SELECT pg_notify($2, ''))
         UPDATE shards SET config_version = config_version + 1 WHERE shard = $1 AND (SELECT count(*) FROM rung) = 1
         RETURNING config_version",
        shard.column(),
        COMMAND_CHANNEL
    )
    .fetch_one(db)
    .await?;
    Ok(Command { shard: shard.column(), version })
}

/// The same for many shards at once.
pub async fn command_all(db: &mut PgConnection, shards: &[Shard]) -> sqlx::Result<Vec<Command>> {
    let mut columns: Vec<i32> = shards.iter().map(|shard| shard.column()).collect();
    columns.sort_unstable();
    columns.dedup();
    // In order, as everybody locks them.
    sqlx::query!("SELECT shard FROM shards WHERE shard = ANY($1) ORDER BY shard FOR NO KEY UPDATE", &columns)
        .fetch_all(&mut *db)
        .await?;
    sqlx::query!("SELECT pg_notify($1, '')", COMMAND_CHANNEL).execute(&mut *db).await?;
    sqlx::query_as!(
        Command,
        "UPDATE shards SET config_version = config_version + 1 WHERE shard = ANY($1)
         RETURNING shard, config_version AS version",
        &columns
    )
    .fetch_all(&mut *db)
    .await
}

/// The owners of shards, as handlers speak with them outside of any transaction. Nothing of a tenant is read or written.
#[derive(Clone, Debug)]
pub struct Owners(PgPool);

impl Owners {
    pub fn new(pool: PgPool) -> Self {
        Self(pool)
    }

    /// Waits until the owner obeys, or nobody owns the shard. False where that takes too long.
    pub async fn obeyed(&self, command: Command) -> sqlx::Result<bool> {
        self.all_obeyed(&[command]).await
    }

    /// The same of many commands.
    pub async fn all_obeyed(&self, commands: &[Command]) -> sqlx::Result<bool> {
        let deadline = Instant::now() + OBEYED_WITHIN;
        let mut pause = OBEYED_POLL_MIN;
        loop {
            let seen = are_obeyed(&self.0, commands).await?;
            if seen || Instant::now() >= deadline {
                return Ok(seen);
            }
            sleep(pause).await;
            pause = (pause * 2).min(OBEYED_POLL_MAX);
        }
    }

    /// Tells the endpoint's owner that there is something to send.
    pub async fn ring(&self, ring: Ring) -> sqlx::Result<()> {
        bell::ring(&self.0, &[ring]).await
    }
}

/// Whether these commands are obeyed now.
pub async fn are_obeyed(db: impl PgExecutor<'_>, commands: &[Command]) -> sqlx::Result<bool> {
    let (shards, versions): (Vec<i32>, Vec<i64>) =
        commands.iter().map(|command| (command.shard, command.version)).unzip();
    sqlx::query_scalar!(
        r#"SELECT coalesce(bool_and(s.node IS NULL OR s.config_seen >= c.version), true) AS "seen!"
           FROM unnest($1::int[], $2::bigint[]) AS c(shard, version) JOIN shards s ON s.shard = c.shard"#,
        &shards,
        &versions
    )
    .fetch_one(db)
    .await
}

/// Makes every publish to this location be routed anew.
pub async fn reroute(db: impl PgExecutor<'_>, location: LocationId) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE locations SET routing_version = routing_version + 1 WHERE shard = $1 AND id = $2",
        location.shard().column(),
        location.uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The same for every location of a tenant: its settings and event types decide, too.
pub async fn reroute_all(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query!(
        // In the order in which everybody locks them.
        "WITH locked AS MATERIALIZED (
             SELECT shard, id FROM locations WHERE tenant_id = $1 ORDER BY id FOR NO KEY UPDATE
         )
         UPDATE locations l SET routing_version = l.routing_version + 1 FROM locked k
         WHERE l.shard = k.shard AND l.id = k.id",
        tenant.uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What [`retry`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It was pending: its next attempt is due now.
    Hastened,
    /// It had ended: the ladder starts again.
    Requeued,
    /// There is no such delivery.
    Unknown,
    /// The event's data are gone.
    Expunged,
}

/// Makes a delivery due now, whatever its state. Attempt numbers go on.
pub async fn retry(
    db: &mut PgConnection,
    tenant: TenantId,
    event: EventId,
    endpoint: EndpointId,
    format_version: i32,
) -> sqlx::Result<Retried> {
    if expunge::is_expunged(&mut *db, tenant, event).await? == Some(true) {
        return Ok(Retried::Expunged);
    }
    // Locked: a finish that is about to end it has done so by then, or waits until this is committed.
    let waiting = sqlx::query!(
        r#"SELECT due_at AS "due_at: Timestamp" FROM queue WHERE shard = $1 AND endpoint_id = $2 AND event_id = $3 FOR UPDATE"#,
        endpoint.shard().column(),
        endpoint.uuid(),
        event.uuid()
    )
    .fetch_optional(&mut *db)
    .await?;
    if let Some(row) = waiting {
        // Fresh rows are due already; so is what the owner has in flight, whose result is a compare-and-set on seq.
        if row.due_at.is_some() {
            sqlx::query!(
                "UPDATE queue q SET due_at = n.now, cause = 1 FROM (SELECT clock_timestamp() AS now) n
                 WHERE q.shard = $1 AND q.endpoint_id = $2 AND q.event_id = $3",
                endpoint.shard().column(),
                endpoint.uuid(),
                event.uuid()
            )
            .execute(&mut *db)
            .await?;
        }
        return Ok(Retried::Hastened);
    }
    let requeued = sqlx::query!(
        r#"
        WITH past AS (
            SELECT max(a.number) AS number, (array_agg(a.format_version ORDER BY a.id DESC))[1] AS format_version,
                coalesce(bool_or(a.succeeded), false) AS succeeded
            FROM attempts a WHERE a.shard = $1 AND a.endpoint_id = $2 AND a.event_id = $3 AND a.tenant_id = $4 AND a.cause <> 3
        ), ended AS (
            DELETE FROM settled s WHERE s.shard = $1 AND s.endpoint_id = $2 AND s.event_id = $3 AND s.tenant_id = $4
            RETURNING s.status
        ), queued AS (
            INSERT INTO queue AS t (shard, endpoint_id, event_id, due_at, seq, format_version, cause)
            SELECT $1, $2, $3, clock_timestamp(), coalesce(p.number, 0), coalesce(p.format_version, $5), 1 FROM past p
            WHERE p.number IS NOT NULL OR EXISTS (SELECT 1 FROM ended)
            ON CONFLICT DO NOTHING
            RETURNING t.event_id
        )
        SELECT e.status AS "settled?", p.succeeded AS "succeeded!"
        FROM queued q CROSS JOIN past p LEFT JOIN ended e ON true
        "#,
        endpoint.shard().column(),
        endpoint.uuid(),
        event.uuid(),
        tenant.uuid(),
        format_version
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(was) = requeued else {
        // Somebody else may have queued it meanwhile.
        let queued = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM queue WHERE shard = $1 AND endpoint_id = $2 AND event_id = $3) AS "queued!""#,
            endpoint.shard().column(),
            endpoint.uuid(),
            event.uuid()
        )
        .fetch_one(db)
        .await?;
        return Ok(if queued { Retried::Hastened } else { Retried::Unknown });
    };
    let from = match was.settled {
        Some(status) => End::from_settled(&status),
        None => was.succeeded.then_some(End::Succeeded),
    };
    stats::count(db, &[Change { endpoint_id: endpoint, event_id: event, from, to: None }]).await?;
    Ok(Retried::Requeued)
}

/// What [`cancel`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canceled {
    Canceled,
    NotPending,
}

/// Ends a pending delivery. An attempt in flight is still recorded when it ends, and changes nothing else: the delivery stays
/// canceled, even where the receiver took it.
pub async fn cancel(
    db: &mut PgConnection,
    tenant: TenantId,
    event: EventId,
    endpoint: EndpointId,
) -> sqlx::Result<Canceled> {
    let done = sqlx::query!(
        "WITH gone AS (
             DELETE FROM queue q WHERE q.shard = $1 AND q.endpoint_id = $2 AND q.event_id = $3
             RETURNING q.shard, q.endpoint_id, q.event_id
         )
         INSERT INTO settled AS t (shard, endpoint_id, event_id, tenant_id, status, reason, at)
         SELECT g.shard, g.endpoint_id, g.event_id, $4::uuid, 'canceled', 'canceled by hand', clock_timestamp() FROM gone g
         ON CONFLICT (shard, endpoint_id, event_id)
         DO UPDATE SET status = excluded.status, reason = excluded.reason, at = excluded.at",
        endpoint.shard().column(),
        endpoint.uuid(),
        event.uuid(),
        tenant.uuid()
    )
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(Canceled::NotPending);
    }
    let change = Change { endpoint_id: endpoint, event_id: event, from: None, to: Some(End::Canceled) };
    stats::count(db, &[change]).await?;
    Ok(Canceled::Canceled)
}
