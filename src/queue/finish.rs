//! Finishing: what came of many attempts, in one statement.
//!
//! It begins with a fence: the shards of the batch that this node still owns, locked so that a takeover waits for the
//! statement. A batch of a node that has lost its shards meanwhile applies its successes and its attempts only; retries and
//! failures are the new owner's to decide. Repeating a batch after a lost answer changes nothing more.
//!
//! `q.shard = ANY(ARRAY[d.shard])` is `q.shard = d.shard` in a form that Postgres can only look up by index, row by row of the
//! batch. Of a plain equality it could also read the whole queue and look for each row in the batch, and it does so whenever
//! a vacuum has met the queue empty: from then on a batch beside a backlog takes minutes.

use bytes::Bytes;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Cause, Turn, stats};
use crate::types::{AttemptId, EndpointId, EventId, TenantId, Timestamp};

/// One HTTP POST, to be kept.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub id: AttemptId,
    pub at: Timestamp,
    pub number: i32,
    pub endpoint_version: i32,
    pub format_version: i32,
    pub cause: Cause,
    pub duration_ms: i32,
    pub dns_ms: Option<i32>,
    pub connect_ms: Option<i32>,
    pub tls_ms: Option<i32>,
    pub first_byte_ms: Option<i32>,
    pub remote_addr: Option<String>,
    /// Error class and a sentence; `None` is a success.
    pub error: Option<(&'static str, String)>,
    pub response: Option<Response>,
}

/// What the receiver answered.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: i16,
    /// `name: value` lines.
    pub headers: Bytes,
    pub body: Bytes,
    pub truncated: bool,
}

/// What becomes of the delivery.
#[derive(Clone, Debug)]
pub enum Verdict {
    Succeeded,
    Retry { delay_ms: i64, step: i16 },
    Failed { reason: &'static str },
}

#[derive(Clone, Debug)]
pub struct Finished {
    pub endpoint_id: EndpointId,
    pub event_id: EventId,
    pub tenant_id: TenantId,
    /// `seq` of the queue row that the attempt was made for.
    pub seq: i32,
    /// One of Posthaste's own events: what becomes of it is told to nobody, so that two endpoints can't go on about each other.
    pub operational: bool,
    /// `None` where nothing was sent (the event's data are gone).
    pub attempt: Option<Attempt>,
    pub verdict: Verdict,
}

impl Finished {
    pub fn turn(&self) -> Turn {
        Turn { endpoint_id: self.endpoint_id, event_id: self.event_id, seq: self.seq }
    }
}

/// The circuit breaker of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// When the next attempt may begin; `None`: it is closed.
    pub until: Option<Timestamp>,
    /// Resets by hand that its owner knew of. It says nothing about the time after another one.
    pub resets: i32,
}

/// What an endpoint's attempts say about it.
#[derive(Clone, Debug)]
pub struct HealthChange {
    pub endpoint_id: EndpointId,
    pub success_at: Option<Timestamp>,
    pub failure_at: Option<Timestamp>,
    pub error: Option<String>,
    pub failing: Option<bool>,
    pub disabled: Option<&'static str>,
    pub throttle: Option<Throttle>,
    /// Whether the tenant may be told, if it asks for it.
    pub told: bool,
}

/// A retry or a failure that was written: when it is due, or that it has ended. One that is missing met a row that has
/// moved on, or belongs to somebody else by now.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    pub endpoint_id: EndpointId,
    pub event_id: EventId,
    pub due_at: Option<Timestamp>,
}

/// Writes a batch for `node`. The caller sorts it by shard, endpoint and event. `again`: some of it may be on disk already,
/// since it was tried before, and nobody knows how that ended.
pub async fn finish(
    db: &mut PgConnection,
    node: Uuid,
    batch: &[Finished],
    health: &[HealthChange],
    again: bool,
) -> sqlx::Result<Vec<Applied>> {
    let mut shards: Vec<i32> = batch.iter().map(|one| one.endpoint_id.shard().column()).collect();
    shards.extend(health.iter().map(|one| one.endpoint_id.shard().column()));
    shards.sort_unstable();
    shards.dedup();
    let done = Identities::of(batch.iter().filter(|one| matches!(one.verdict, Verdict::Succeeded)));
    let retried = || batch.iter().filter(|one| matches!(one.verdict, Verdict::Retry { .. }));
    let retry = Identities::of(retried());
    let (retry_delays, retry_steps): (Vec<i64>, Vec<i16>) = retried()
        .map(|one| match one.verdict {
            Verdict::Retry { delay_ms, step } => (delay_ms, step),
            Verdict::Succeeded | Verdict::Failed { .. } => (0, 0),
        })
        .unzip();
    let failures = || {
        batch.iter().filter_map(|one| match one.verdict {
            Verdict::Failed { reason } => Some((one, reason)),
            Verdict::Succeeded | Verdict::Retry { .. } => None,
        })
    };
    let failed = Identities::of(failures().map(|(one, _)| one));
    let hours = |identities: &Identities| -> Vec<Uuid> {
        identities.events.iter().map(|event| stats::hour_of(*event)).collect()
    };
    let (done_hours, failed_hours) = (hours(&done), hours(&failed));
    let done_latencies: Vec<Option<i16>> = batch
        .iter()
        .filter(|one| matches!(one.verdict, Verdict::Succeeded))
        .map(|one| one.attempt.as_ref().map(|attempt| stats::latency_bucket(attempt.duration_ms)))
        .collect();
    let failed_tenants: Vec<Uuid> = failures().map(|(one, _)| one.tenant_id.uuid()).collect();
    let failed_reasons: Vec<&str> = failures().map(|(_, reason)| reason).collect();
    let failed_told: Vec<bool> = failures().map(|(one, _)| !one.operational).collect();
    let a = AttemptColumns::of(batch);
    let h = HealthColumns::of(health);

    let rows = sqlx::query!(
        r#"
        WITH fence AS MATERIALIZED (
            SELECT s.shard FROM shards s WHERE s.shard = ANY($1::int[]) AND s.node = $2 FOR KEY SHARE
        ), barrier AS MATERIALIZED (
            SELECT count(*) AS owned FROM fence
        ), done AS (
            DELETE FROM queue q USING unnest($3::int[], $4::uuid[], $5::uuid[], $48::uuid[], $49::smallint[])
                AS d(shard, endpoint_id, event_id, hour, latency)
            WHERE q.shard = ANY(ARRAY[d.shard]) AND q.endpoint_id = d.endpoint_id AND q.event_id = d.event_id
                -- Deletes whoever owns the shard, but after the fence: the takeover then reads no row that is done.
                AND (SELECT b.owned FROM barrier b) >= 0
            RETURNING q.shard, q.endpoint_id, d.hour, d.latency
        ), retried AS (
            UPDATE queue q SET due_at = r.due_at, seq = q.seq + 1, step = r.step, cause = 0
            FROM (
                SELECT u.*, clock_timestamp() + u.delay_ms * interval '1 millisecond' AS due_at
                FROM unnest($6::int[], $7::uuid[], $8::uuid[], $9::int[], $10::bigint[], $11::smallint[])
                    AS u(shard, endpoint_id, event_id, seq, delay_ms, step)
                WHERE (u.shard IN (SELECT f.shard FROM fence f)) IS TRUE
            ) r
            WHERE q.shard = ANY(ARRAY[r.shard]) AND q.endpoint_id = r.endpoint_id AND q.event_id = r.event_id AND q.seq = r.seq
            RETURNING q.endpoint_id, q.event_id, q.due_at
        ), failed AS (
            DELETE FROM queue q
            USING unnest($12::int[], $13::uuid[], $14::uuid[], $15::int[], $16::uuid[], $17::text[], $50::uuid[], $51::bool[])
                AS d(shard, endpoint_id, event_id, seq, tenant_id, reason, hour, told)
            WHERE q.shard = ANY(ARRAY[d.shard]) AND q.endpoint_id = d.endpoint_id AND q.event_id = d.event_id AND q.seq = d.seq
                AND (d.shard IN (SELECT f.shard FROM fence f)) IS TRUE
            RETURNING q.shard, q.endpoint_id, q.event_id, d.tenant_id, d.reason, d.hour, d.told
        ), settle AS (
            INSERT INTO settled AS t (shard, endpoint_id, event_id, tenant_id, status, reason, at)
            SELECT f.shard, f.endpoint_id, f.event_id, f.tenant_id, 'failed', f.reason, clock_timestamp() FROM failed f
            ON CONFLICT (shard, endpoint_id, event_id)
            DO UPDATE SET status = excluded.status, reason = excluded.reason, at = excluded.at
        ), counted AS (
            -- Of what was truly deleted. A success whose attempt can't be kept leaves no trace, and is not counted.
            INSERT INTO endpoint_stats AS t (shard, endpoint_id, hour, succeeded, failed, canceled, latency)
            SELECT e.shard, e.endpoint_id, e.hour, count(e.latency), count(*) - count(e.latency), 0,
                latency_count('{}', coalesce(array_agg(e.latency) FILTER (WHERE e.latency IS NOT NULL), '{}'))
            FROM (
                SELECT d.shard, d.endpoint_id, d.hour, d.latency FROM done d WHERE d.latency IS NOT NULL
                UNION ALL
                SELECT f.shard, f.endpoint_id, f.hour, NULL FROM failed f
            ) e
            GROUP BY e.shard, e.endpoint_id, e.hour ORDER BY e.shard, e.endpoint_id, e.hour
            ON CONFLICT (shard, endpoint_id, hour) DO UPDATE SET succeeded = t.succeeded + excluded.succeeded,
                failed = t.failed + excluded.failed, latency = latency_add(t.latency, excluded.latency)
        ), tried AS NOT MATERIALIZED (
            SELECT * FROM unnest($18::int[], $19::uuid[], $20::uuid[], $21::uuid[], $22::uuid[], $23::timestamptz[],
                $24::int[], $25::int[], $26::int[], $27::smallint[], $28::int[], $29::int[], $30::int[], $31::int[],
                $32::int[], $33::text[], $34::bool[], $35::text[], $36::text[], $37::smallint[], $38::bytea[],
                $39::bytea[], $40::bool[]) AS u(shard, endpoint_id, event_id, id, tenant_id, at, number, endpoint_version,
                format_version, cause, duration_ms, dns_ms, connect_ms, tls_ms, first_byte_ms, remote_addr, succeeded, error,
                error_detail, response_status, response_headers, response_body, truncated)
        ), attempted AS (
            INSERT INTO attempts (shard, endpoint_id, event_id, id, tenant_id, at, number, endpoint_version, format_version,
                cause, duration_ms, dns_ms, connect_ms, tls_ms, first_byte_ms, remote_addr, succeeded, error, error_detail,
                response_status, response_headers, response_body, truncated)
            SELECT t.* FROM tried t WHERE NOT $55::bool
        ), attempted_again AS (
            -- To expect a conflict is to write each row twice into the log.
            INSERT INTO attempts (shard, endpoint_id, event_id, id, tenant_id, at, number, endpoint_version, format_version,
                cause, duration_ms, dns_ms, connect_ms, tls_ms, first_byte_ms, remote_addr, succeeded, error, error_detail,
                response_status, response_headers, response_body, truncated)
            SELECT t.* FROM tried t WHERE $55::bool
            ON CONFLICT DO NOTHING
        ), judged AS (
            UPDATE endpoint_health t SET
                last_success_at = greatest(t.last_success_at, c.success_at),
                last_failure_at = greatest(t.last_failure_at, c.failure_at),
                last_error = coalesce(c.error, t.last_error),
                failing_since = CASE WHEN c.failing THEN coalesce(t.failing_since, c.failure_at)
                                     WHEN NOT c.failing THEN NULL ELSE t.failing_since END,
                disabled_at = CASE WHEN c.disabled IS NULL THEN t.disabled_at ELSE coalesce(t.disabled_at, c.failure_at) END,
                disabled_reason = CASE WHEN t.disabled_at IS NULL THEN c.disabled ELSE t.disabled_reason END,
                throttled_until = CASE WHEN c.resets = t.throttle_resets THEN c.throttled_until ELSE t.throttled_until END
            FROM unnest($41::int[], $42::uuid[], $43::timestamptz[], $44::timestamptz[], $45::text[], $46::bool[],
                $47::text[], $52::bool[], $53::int[], $54::timestamptz[])
                AS c(shard, endpoint_id, success_at, failure_at, error, failing, disabled, told, resets, throttled_until)
            JOIN endpoint_health o ON o.shard = ANY(ARRAY[c.shard]) AND o.endpoint_id = c.endpoint_id
            WHERE t.shard = ANY(ARRAY[c.shard]) AND t.endpoint_id = c.endpoint_id AND (c.shard IN (SELECT f.shard FROM fence f)) IS TRUE
            RETURNING t.shard, t.endpoint_id, t.tenant_id, c.told, greatest(c.success_at, c.failure_at) AS at, ARRAY[
                CASE WHEN o.failing_since IS NULL AND t.failing_since IS NOT NULL THEN 'failing'
                     WHEN o.failing_since IS NOT NULL AND t.failing_since IS NULL THEN 'recovered' END,
                CASE WHEN o.disabled_at IS NULL AND t.disabled_at IS NOT NULL THEN 'disabled' END] AS kinds
        ), rerouted AS (
            -- From the commit on, publishes say `held`.
            UPDATE locations l SET routing_version = l.routing_version + 1
            FROM judged j JOIN endpoints e ON e.tenant_id = j.tenant_id AND e.id = j.endpoint_id
            WHERE 'disabled' = ANY(j.kinds) AND l.shard = j.shard AND l.id = e.location_id
        ), noticed AS (
            INSERT INTO notices AS t (shard, endpoint_id, event_id, kind, tenant_id, at)
            SELECT n.shard, n.endpoint_id, n.event_id, n.kind, n.tenant_id, n.at
            FROM (
                SELECT f.shard, f.endpoint_id, f.event_id, 'exhausted' AS kind, f.tenant_id, clock_timestamp() AS at
                FROM failed f WHERE f.told
                UNION ALL
                SELECT j.shard, j.endpoint_id, '00000000-0000-0000-0000-000000000000'::uuid, k.kind, j.tenant_id, j.at
                FROM judged j CROSS JOIN LATERAL unnest(j.kinds) AS k(kind) WHERE j.told AND k.kind IS NOT NULL
            ) n
            WHERE EXISTS (SELECT 1 FROM subscriptions s WHERE s.tenant_id = n.tenant_id AND starts_with(s.event_type, 'posthaste.'))
            ON CONFLICT DO NOTHING
        )
        SELECT r.endpoint_id AS "endpoint_id!: EndpointId", r.event_id AS "event_id!: EventId", r.due_at AS "due_at?: Timestamp"
        FROM retried r
        UNION ALL
        SELECT f.endpoint_id, f.event_id, NULL FROM failed f
        "#,
        &shards,
        node,
        &done.shards,
        &done.endpoints,
        &done.events,
        &retry.shards,
        &retry.endpoints,
        &retry.events,
        &retry.seqs,
        &retry_delays,
        &retry_steps,
        &failed.shards,
        &failed.endpoints,
        &failed.events,
        &failed.seqs,
        &failed_tenants,
        &failed_reasons as _,
        &a.identities.shards,
        &a.identities.endpoints,
        &a.identities.events,
        &a.ids,
        &a.tenants,
        &a.at,
        &a.numbers,
        &a.endpoint_versions,
        &a.format_versions,
        &a.causes,
        &a.durations,
        &a.dns as _,
        &a.connects as _,
        &a.tls as _,
        &a.first_bytes as _,
        &a.remotes as _,
        &a.succeeded,
        &a.errors as _,
        &a.details as _,
        &a.statuses as _,
        &a.headers as _,
        &a.bodies as _,
        &a.truncated,
        &h.shards,
        &h.endpoints,
        &h.success_at as _,
        &h.failure_at as _,
        &h.errors as _,
        &h.failing as _,
        &h.disabled as _,
        &done_hours,
        &done_latencies as _,
        &failed_hours,
        &failed_told,
        &h.told,
        &h.resets as _,
        &h.throttled_until as _,
        again
    )
    .fetch_all(db)
    .await?;
    let applied = rows.into_iter().map(|row| Applied {
        endpoint_id: row.endpoint_id,
        event_id: row.event_id,
        due_at: row.due_at,
    });
    Ok(applied.collect())
}

/// Columns for `unnest`: one array a column.
#[derive(Default)]
struct Identities {
    shards: Vec<i32>,
    endpoints: Vec<Uuid>,
    events: Vec<Uuid>,
    seqs: Vec<i32>,
}

impl Identities {
    fn of<'a>(rows: impl Iterator<Item = &'a Finished>) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.shards.push(row.endpoint_id.shard().column());
            columns.endpoints.push(row.endpoint_id.uuid());
            columns.events.push(row.event_id.uuid());
            columns.seqs.push(row.seq);
        }
        columns
    }
}

#[derive(Default)]
struct AttemptColumns<'a> {
    identities: Identities,
    ids: Vec<Uuid>,
    tenants: Vec<Uuid>,
    at: Vec<OffsetDateTime>,
    numbers: Vec<i32>,
    endpoint_versions: Vec<i32>,
    format_versions: Vec<i32>,
    causes: Vec<i16>,
    durations: Vec<i32>,
    dns: Vec<Option<i32>>,
    connects: Vec<Option<i32>>,
    tls: Vec<Option<i32>>,
    first_bytes: Vec<Option<i32>>,
    remotes: Vec<Option<&'a str>>,
    succeeded: Vec<bool>,
    errors: Vec<Option<&'a str>>,
    details: Vec<Option<&'a str>>,
    statuses: Vec<Option<i16>>,
    headers: Vec<Option<&'a [u8]>>,
    bodies: Vec<Option<&'a [u8]>>,
    truncated: Vec<bool>,
}

impl<'a> AttemptColumns<'a> {
    fn of(batch: &'a [Finished]) -> Self {
        let mut columns = Self {
            identities: Identities::of(batch.iter().filter(|one| one.attempt.is_some())),
            ..Self::default()
        };
        for (one, attempt) in batch.iter().filter_map(|one| Some((one, one.attempt.as_ref()?))) {
            let response = attempt.response.as_ref();
            columns.ids.push(attempt.id.uuid());
            columns.tenants.push(one.tenant_id.uuid());
            columns.at.push(attempt.at.datetime());
            columns.numbers.push(attempt.number);
            columns.endpoint_versions.push(attempt.endpoint_version);
            columns.format_versions.push(attempt.format_version);
            columns.causes.push(attempt.cause.column());
            columns.durations.push(attempt.duration_ms);
            columns.dns.push(attempt.dns_ms);
            columns.connects.push(attempt.connect_ms);
            columns.tls.push(attempt.tls_ms);
            columns.first_bytes.push(attempt.first_byte_ms);
            columns.remotes.push(attempt.remote_addr.as_deref());
            columns.succeeded.push(attempt.error.is_none());
            columns.errors.push(attempt.error.as_ref().map(|(class, _)| *class));
            columns.details.push(attempt.error.as_ref().map(|(_, detail)| detail.as_str()));
            columns.statuses.push(response.map(|response| response.status));
            columns.headers.push(response.map(|response| &response.headers[..]));
            columns.bodies.push(response.map(|response| &response.body[..]).filter(|body| !body.is_empty()));
            columns.truncated.push(response.is_some_and(|response| response.truncated));
        }
        columns
    }
}

#[derive(Default)]
struct HealthColumns<'a> {
    shards: Vec<i32>,
    endpoints: Vec<Uuid>,
    success_at: Vec<Option<OffsetDateTime>>,
    failure_at: Vec<Option<OffsetDateTime>>,
    errors: Vec<Option<&'a str>>,
    failing: Vec<Option<bool>>,
    disabled: Vec<Option<&'a str>>,
    told: Vec<bool>,
    resets: Vec<Option<i32>>,
    throttled_until: Vec<Option<OffsetDateTime>>,
}

impl<'a> HealthColumns<'a> {
    fn of(changes: &'a [HealthChange]) -> Self {
        let mut columns = Self::default();
        for change in changes {
            columns.shards.push(change.endpoint_id.shard().column());
            columns.endpoints.push(change.endpoint_id.uuid());
            columns.success_at.push(change.success_at.map(Timestamp::datetime));
            columns.failure_at.push(change.failure_at.map(Timestamp::datetime));
            columns.errors.push(change.error.as_deref());
            columns.failing.push(change.failing);
            columns.disabled.push(change.disabled);
            columns.told.push(change.told);
            columns.resets.push(change.throttle.map(|throttle| throttle.resets));
            let until = change.throttle.and_then(|throttle| throttle.until);
            columns.throttled_until.push(until.map(Timestamp::datetime));
        }
        columns
    }
}
