//! A month of history, a million attempts of it, made in the database at once.

use serde_json::Value;

use crate::helpers::sql::Sql;

/// Days that have passed, today not among them.
const DAYS: i64 = 28;
/// Events of the busy endpoint; every second one took two attempts.
const EVENTS: i64 = 500_000;
/// Events that wait for the busy endpoint, newer than all others.
const WAITING: i64 = 20_000;
/// The wide tenant's endpoints, and how many of them each of its events goes to.
pub const WIDE_ENDPOINTS: i64 = 1_000;
const WIDE_EVENTS: i64 = 25_000;
const WIDE_FAN_OUT: i64 = 10;
const AUDITED: i64 = 100_000;

/// One endpoint with nearly everything, and one that will have 999 others beside it.
pub struct Month<'a> {
    pub busy: &'a Value,
    pub wide: &'a Value,
}

/// Partitions for the days that have passed.
pub async fn days(sql: &mut Sql) {
    for statement in HELPERS {
        sql.run(statement).await;
    }
    sql.run(&format!("SELECT make_days({DAYS})")).await;
}

pub async fn fill(sql: &mut Sql, month: &Month<'_>) {
    let id = |endpoint: &Value| endpoint["id"].as_str().unwrap().trim_start_matches("ep_").to_owned();
    let (busy, wide) = (id(month.busy), id(month.wide));
    sql.run(&format!("SELECT make_busy('{busy}', {DAYS}, {EVENTS}, {WAITING})")).await;
    sql.run(&format!("SELECT make_wide('{wide}', {DAYS}, {WIDE_EVENTS}, {WIDE_FAN_OUT}, {WIDE_ENDPOINTS})"))
        .await;
    sql.run(&format!("SELECT make_audit({AUDITED})")).await;
}

const HELPERS: [&str; 6] = [
    // A UUIDv7 of that millisecond, made different by a number, in a shard.
    "CREATE FUNCTION seed_id(ms bigint, n bigint, shard integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
         SELECT (lpad(to_hex(ms), 12, '0') || '7000' || '8' || lpad(to_hex(n), 12, '0') || lpad(to_hex(shard), 3, '0'))::uuid
     $$",
    // Milliseconds of the n-th of so many events, spread evenly over the days before this one.
    "CREATE FUNCTION seed_ms(n bigint, count bigint, days bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
         SELECT (extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC'))::bigint - days * 86400) * 1000
             + n * days * 86400000 / (count + 1)
     $$",
    "CREATE FUNCTION make_days(days integer) RETURNS void LANGUAGE plpgsql AS $$
     DECLARE day timestamp; name text; parent text;
     BEGIN
         FOR ago IN 2 .. days LOOP
             day := date_trunc('day', now() AT TIME ZONE 'UTC') - ago * interval '1 day';
             FOREACH parent IN ARRAY ARRAY['events', 'attempts', 'settled', 'endpoint_stats'] LOOP
                 name := parent || to_char(day, '_YYYYMMDD');
                 EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', name, parent,
                     (lpad(to_hex(extract(epoch FROM day)::bigint * 1000), 12, '0') || repeat('0', 20))::uuid,
                     (lpad(to_hex(extract(epoch FROM day)::bigint * 1000 + 86400000), 12, '0') || repeat('0', 20))::uuid);
             END LOOP;
         END LOOP;
     END $$",
    // One event in a hundred failed, one in a thousand was canceled; the first ten are of a rare type.
    "CREATE FUNCTION make_busy(endpoint uuid, days bigint, events bigint, waiting bigint) RETURNS void LANGUAGE plpgsql AS $$
     DECLARE e endpoints;
     BEGIN
         SELECT * INTO e FROM endpoints WHERE id = endpoint;
         CREATE TEMP TABLE seeds ON COMMIT DROP AS
             SELECT n, seed_id(seed_ms(n, events + waiting, days), n, e.shard) AS id FROM generate_series(1, events + waiting) n;
         INSERT INTO events (shard, id, tenant_id, location_id, event_type, occurred_at, live_mode, endpoint_ids, data)
             SELECT e.shard, s.id, e.tenant_id, e.location_id,
                 CASE WHEN s.n <= 10 THEN 'form.submitted' WHEN s.n % 2 = 0 THEN 'message.sent' ELSE 'message.read' END,
                 now(), true, ARRAY[endpoint], '{}' FROM seeds s ORDER BY s.id;
         INSERT INTO attempts (shard, endpoint_id, event_id, id, tenant_id, at, number, endpoint_version, format_version, duration_ms,
                 cause, succeeded, truncated, error)
             SELECT e.shard, endpoint, s.id, seed_id(seed_ms(s.n, events + waiting, days), s.n * 2 + a, e.shard), e.tenant_id, now(), a, 1, 1,
                 50, 0, ok, false, CASE WHEN ok THEN NULL ELSE 'response_status' END
             FROM seeds s CROSS JOIN LATERAL (
                 SELECT a, s.n % 100 <> 1 AND s.n % 1000 <> 2 AND (a = 2 OR s.n % 2 = 1) AS ok FROM generate_series(1, 2 - (s.n % 2)::integer) a
             ) tries WHERE s.n <= events ORDER BY s.id;
         INSERT INTO settled (shard, endpoint_id, event_id, tenant_id, status, reason, at)
             SELECT e.shard, endpoint, s.id, e.tenant_id, CASE WHEN s.n % 100 = 1 THEN 'failed' ELSE 'canceled' END, 'seeded', now()
             FROM seeds s WHERE s.n <= events AND (s.n % 100 = 1 OR s.n % 1000 = 2) ORDER BY s.id;
         INSERT INTO queue (shard, endpoint_id, event_id, format_version)
             SELECT e.shard, endpoint, s.id, 1 FROM seeds s WHERE s.n > events ORDER BY s.id;
         INSERT INTO endpoint_stats (shard, endpoint_id, hour, succeeded, failed, canceled, latency)
             SELECT e.shard, endpoint, seed_id(seed_ms(0, 1, days) + h * 3600000, 0, 0), 700, 7, 1, array_fill(20, ARRAY[40])
             FROM generate_series(0, days * 24 - 1) h;
     END $$",
    "CREATE FUNCTION make_wide(endpoint uuid, days bigint, events bigint, fan_out bigint, endpoints bigint) RETURNS void LANGUAGE plpgsql AS $$
     DECLARE e endpoints;
     BEGIN
         SELECT * INTO e FROM endpoints t WHERE t.id = endpoint;
         CREATE TEMP TABLE copies ON COMMIT DROP AS
             SELECT n, CASE WHEN n = 0 THEN endpoint ELSE seed_id(seed_ms(0, 1, days), n, e.shard) END AS id
             FROM generate_series(0, endpoints - 1) n;
         INSERT INTO endpoints SELECT c.* FROM copies JOIN LATERAL jsonb_populate_record(NULL::endpoints,
             to_jsonb(e) || jsonb_build_object('id', copies.id)) c ON true WHERE copies.n > 0;
         INSERT INTO endpoint_health (shard, endpoint_id, tenant_id) SELECT e.shard, c.id, e.tenant_id FROM copies c WHERE c.n > 0;
         INSERT INTO endpoint_versions (tenant_id, endpoint_id, version, url, created_at)
             SELECT e.tenant_id, c.id, 1, e.url, now() FROM copies c WHERE c.n > 0;
         INSERT INTO subscriptions (tenant_id, endpoint_id, event_type, created_at)
             SELECT e.tenant_id, c.id, 'message.*', now() FROM copies c WHERE c.n > 0;
         CREATE TEMP TABLE wides ON COMMIT DROP AS
             SELECT n, seed_id(seed_ms(n, events, days), n, e.shard) AS id FROM generate_series(1, events) n;
         INSERT INTO events (shard, id, tenant_id, location_id, event_type, occurred_at, live_mode, endpoint_ids, data)
             SELECT e.shard, w.id, e.tenant_id, e.location_id, 'message.sent', now(), true, '{}', '{}' FROM wides w ORDER BY w.id;
         INSERT INTO attempts (shard, endpoint_id, event_id, id, tenant_id, at, number, endpoint_version, format_version, duration_ms,
                 cause, succeeded, truncated)
             SELECT e.shard, c.id, w.id, seed_id(seed_ms(w.n, events, days), w.n * fan_out + f, e.shard), e.tenant_id, now(), 1, 1, 1, 50, 0,
                 true, false
             FROM wides w CROSS JOIN generate_series(0, fan_out - 1) f JOIN copies c ON c.n = (w.n * fan_out + f) % endpoints
             ORDER BY w.id;
     END $$",
    "CREATE FUNCTION make_audit(entries bigint) RETURNS void LANGUAGE sql AS $$
         INSERT INTO audit_log (tenant_id, id, at, action, resource, fields)
         SELECT t.id, seed_id(seed_ms(n, entries, 28), n, 0), now(), 'endpoint.update', 'ep', '{}'
         FROM generate_series(1, entries) n CROSS JOIN tenants t
     $$",
];
