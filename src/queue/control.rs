//! Commands of the API to the queue and to the owners of its shards.
//!
//! A change that an owner must obey before the API may promise anything (pause, delete, a rotation at once) counts up its
//! shard's `config_version` in the same transaction and rings; the owner reloads, lets what is in flight end, and says so.
//! [`Owners::obeyed`] waits for that.
//!
//! A command concerns an endpoint, and stands beside its version until it is obeyed, or else the whole shard. One of an endpoint
//! is obeyed when it is crossed out, one of a shard when `config_seen` has come so far: that says that everything up to there is
//! obeyed. So an endpoint that hangs does not hold up commands to its neighbours. Versions are given out under the lock of the
//! shard's row: who reads one has read all before it, and a new owner, which begins by reading everything, finds what the one
//! before has not obeyed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    bell::{self, Ring},
    expunge,
    stats::{self, Change, End},
};
use crate::{
    db::SharedPool,
    types::{EndpointId, EventId, LocationId, Shard, TenantId, Timestamp},
};

/// Channel on which owners are told of commands; the payload is empty, polling is the truth.
pub const COMMAND_CHANNEL: &str = "posthaste_command";

/// Longest that the API waits for an owner's acknowledgement.
const OBEYED_WITHIN: Duration = Duration::from_secs(5);
const OBEYED_POLL_MIN: Duration = Duration::from_millis(5);
const OBEYED_POLL_MAX: Duration = Duration::from_millis(100);

/// Commands to endpoints of one shard that wait at once. More than that are taken for commands to the shard.
const OF_ENDPOINTS_MAX: i32 = 64;

/// The version that an owner must have seen.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Command {
    shard: i32,
    version: i64,
    /// It is crossed out when it is obeyed.
    #[serde(default)]
    by_itself: bool,
}

/// Counts the configuration of the endpoint's shard up, in the transaction of the change.
pub async fn command_endpoint(db: &mut PgConnection, endpoint: EndpointId) -> sqlx::Result<Command> {
    let shard = endpoint.shard().column();
    let row = sqlx::query!(
        r#"WITH rung AS MATERIALIZED (SELECT pg_notify($3, ''))
           SELECT c.version AS "version!", c.by_itself AS "by_itself!" FROM rung CROSS JOIN command_endpoint($1, $2, $4) c"#,
        shard,
        endpoint.uuid(),
        COMMAND_CHANNEL,
        OF_ENDPOINTS_MAX
    )
    .fetch_one(db)
    .await?;
    Ok(Command { shard, version: row.version, by_itself: row.by_itself })
}

/// The same where the whole shard is concerned.
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
    Ok(Command { shard: shard.column(), version, by_itself: false })
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
        r#"UPDATE shards SET config_version = config_version + 1 WHERE shard = ANY($1)
         RETURNING shard, config_version AS version, false AS "by_itself!""#,
        &columns
    )
    .fetch_all(&mut *db)
    .await
}

/// The owners of shards, as handlers speak with them outside of any transaction. Nothing of a tenant is read or written.
#[derive(Clone, Debug)]
pub struct Owners(SharedPool);

impl Owners {
    pub fn new(pool: SharedPool) -> Self {
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
            let seen = are_obeyed(&mut *self.0.lease().await?, commands).await?;
            if seen || Instant::now() >= deadline {
                return Ok(seen);
            }
            sleep(pause).await;
            pause = (pause * 2).min(OBEYED_POLL_MAX);
        }
    }

    /// Tells the endpoint's owner that there is something to send.
    pub async fn ring(&self, ring: Ring) -> sqlx::Result<()> {
        let mut lease = self.0.lease().await?;
        bell::ring(&mut lease, &[ring]).await?;
        lease.commit().await
    }
}

/// Whether these commands are obeyed now.
pub async fn are_obeyed(db: impl PgExecutor<'_>, commands: &[Command]) -> sqlx::Result<bool> {
    let shards: Vec<i32> = commands.iter().map(|command| command.shard).collect();
    let versions: Vec<i64> = commands.iter().map(|command| command.version).collect();
    let by_themselves: Vec<bool> = commands.iter().map(|command| command.by_itself).collect();
    sqlx::query_scalar!(
        r#"SELECT coalesce(bool_and(s.node IS NULL OR s.config_seen >= c.version
               OR c.by_itself AND c.version <> ALL (s.command_versions)), true) AS "seen!"
           FROM unnest($1::int[], $2::bigint[], $3::bool[]) AS c(shard, version, by_itself) JOIN shards s ON s.shard = c.shard"#,
        &shards,
        &versions,
        &by_themselves
    )
    .fetch_one(db)
    .await
}

/// Commands to a shard that are not all obeyed: versions above `seen` up to `version`, of which these concern an endpoint.
#[derive(Clone, Debug)]
pub struct Pending {
    pub shard: Shard,
    pub seen: i64,
    pub version: i64,
    pub of_endpoints: Vec<(i64, EndpointId)>,
}

/// Those to this node's shards.
pub async fn pending(db: impl PgExecutor<'_>, node: Uuid) -> sqlx::Result<Vec<Pending>> {
    let rows = sqlx::query!(
        "SELECT shard, config_seen, config_version, command_versions, command_endpoints
         FROM shards WHERE node = $1 AND config_version > config_seen",
        node
    )
    .fetch_all(db)
    .await?;
    let pending = rows.into_iter().map(|row| Pending {
        shard: Shard::from_column(row.shard),
        seen: row.config_seen,
        version: row.config_version,
        of_endpoints: row
            .command_versions
            .into_iter()
            .zip(row.command_endpoints)
            .map(|(version, endpoint)| (version, endpoint.into()))
            .collect(),
    });
    Ok(pending.collect())
}

/// What a node obeys of a shard: everything up to `seen`, and these versions besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub shard: Shard,
    pub seen: i64,
    pub versions: Vec<i64>,
}

/// Tells whoever waits.
pub async fn acknowledge(db: impl PgExecutor<'_>, node: Uuid, acks: &[Ack]) -> sqlx::Result<()> {
    let (shards, seen): (Vec<i32>, Vec<i64>) = acks.iter().map(|ack| (ack.shard.column(), ack.seen)).unzip();
    let (of_shards, versions): (Vec<i32>, Vec<i64>) =
        acks.iter().flat_map(|ack| ack.versions.iter().map(|version| (ack.shard.column(), *version))).unzip();
    sqlx::query!(
        "UPDATE shards s SET config_seen = greatest(s.config_seen, a.seen),
             (command_versions, command_endpoints) = (
                 SELECT coalesce(array_agg(c.version ORDER BY c.version), '{}'), coalesce(array_agg(c.endpoint_id ORDER BY c.version), '{}')
                 FROM unnest(s.command_versions, s.command_endpoints) AS c(version, endpoint_id)
                 WHERE c.version > a.seen AND NOT EXISTS (
                     SELECT 1 FROM unnest($4::int[], $5::bigint[]) AS o(shard, version)
                     WHERE o.shard = s.shard AND o.version = c.version))
         FROM unnest($2::int[], $3::bigint[]) AS a(shard, seen) WHERE s.shard = a.shard AND s.node = $1",
        node,
        &shards,
        &seen,
        &of_shards,
        &versions
    )
    .execute(db)
    .await?;
    Ok(())
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
