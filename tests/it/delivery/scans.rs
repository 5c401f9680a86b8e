//! The queue is read by its keys, never from end to end, by whoever reads it: the engine, tenants' requests, jobs, maintenance.
//! Whatever Postgres believes about the table: rows live for milliseconds, so that it is always wrong.

use posthaste::app::Roles;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;

use crate::helpers::{
    Answer, Receiver,
    app::{Tenant, settings, start},
    cluster::fresh_database,
    sql::Sql,
};

const API: Roles = Roles { api: true, worker: false };
const WORKER: Roles = Roles { api: false, worker: true };
const SINCE: &str = "2026-01-01T00:00:00Z";
/// Rows that wait for endpoints which nobody knows.
const ROWS: u32 = 40_000;
const LANES: u32 = 400;

/// Looks without reading tables from end to end, so that who did is the program; nobody gathers statistics by the way.
async fn looker(database: &PgConnectOptions) -> Sql {
    let mut sql = Sql::open(database).await;
    for setting in ["enable_seqscan", "enable_bitmapscan"] {
        sql.run(&format!("SET {setting} = off")).await;
    }
    sql.run("ALTER TABLE queue SET (autovacuum_enabled = false)").await;
    sql
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap()
}

async fn lists(tenant: &Tenant, endpoint: &Value, event: &Value) {
    let (endpoint, event) = (text(endpoint, "id"), text(event, "id"));
    let mut paths: Vec<String> =
        ["/v1/endpoints", "/v1/locations/default/endpoints", "/v1/locations/default/events", "/v1/jobs"]
            .map(str::to_owned)
            .to_vec();
    for of in [String::new(), format!("/endpoints/{endpoint}")] {
        paths.push(format!("/v1{of}/deliveries"));
        for status in ["pending", "held", "succeeded", "failed", "canceled"] {
            paths.push(format!("/v1{of}/deliveries?status={status}&limit=1"));
        }
        paths.push(format!("/v1{of}/deliveries?event_type=message.*&since={SINCE}"));
    }
    for what in ["", "/stats", "/stats?bucket=day", "/attempts"] {
        paths.push(format!("/v1/endpoints/{endpoint}{what}"));
    }
    paths.push(format!("/v1/events/{event}"));
    paths.push(format!("/v1/events/{event}/deliveries/{endpoint}"));
    for path in &paths {
        let page = tenant.client.get(path).await.expect(200);
        if let Some(cursor) = page["next_cursor"].as_str() {
            let mark = if path.contains('?') { '&' } else { '?' };
            tenant.client.get(&format!("{path}{mark}cursor={cursor}")).await.expect(200);
        }
    }
}

async fn job(tenant: &Tenant, path: &str, body: Value) {
    let job = tenant.client.post(path, body).await.expect(202);
    assert_eq!(tenant.job_ended(&job).await["status"], "succeeded", "{path}");
}

/// Everything that touches the queue.
async fn a_busy_day(database: &PgConnectOptions, sql: &mut Sql) {
    let mut app = start(settings(database, &[]), database.clone(), API).await;
    let receiver = Receiver::start().await;
    receiver.script("/fails", [Answer::status(500)]);
    receiver.script("/ladder", [500, 500, 200].map(Answer::status));
    let tenant = app.tenant().await;
    let good = tenant.endpoint(&receiver.url("/good"), json!({})).await;
    let fails = tenant.endpoint(&receiver.url("/fails"), json!({"retry_schedule_s": []})).await;
    let ladder = tenant.endpoint(&receiver.url("/ladder"), json!({"retry_schedule_s": [1, 3_600]})).await;
    let held = tenant.endpoint(&receiver.url("/held"), json!({})).await;
    tenant.tell(&held, "pause").await;
    let second = tenant.client.post("/v1/locations", json!({"name": "Second"})).await.expect(201);
    let elsewhere = tenant.endpoint(&receiver.url("/good"), json!({"location_id": second["id"]})).await;
    tenant.tell(&elsewhere, "pause").await;
    let path = format!("/v1/locations/{}/events", text(&second, "id"));
    tenant.client.post(&path, json!({"type": "message.sent", "data": {}})).await.expect(202);
    // Nobody sends yet; and then somebody does who takes all this over from one that died.
    let event = tenant.publish("message.sent", json!({})).await;
    tenant.publish_batch("message.read", 20).await;
    sql.run("UPDATE shards SET unclean = true").await;
    let mut worker = app.another(WORKER).await;
    tenant.delivery_when(&event, &good, |one| one["status"] == "succeeded").await;
    tenant.delivery_when(&event, &fails, |one| one["status"] == "failed").await;
    tenant.delivery_when(&event, &ladder, |one| one["attempt_count"] == 2).await;
    lists(&tenant, &good, &event).await;
    lists(&tenant, &held, &event).await;

    let next = tenant.publish("message.sent", json!({})).await;
    for (endpoint, what) in [(&ladder, "retry"), (&fails, "retry"), (&good, "retry"), (&held, "cancel")] {
        let status = tenant.tell_delivery(&event, endpoint, what).await.status;
        assert!([200, 202].contains(&status), "{what}: {status}");
    }
    tenant.delivery_when(&event, &ladder, |one| one["status"] == "succeeded").await;
    tenant.tell(&held, "resume").await;
    tenant.delivery_when(&next, &held, |one| one["status"] == "succeeded").await;
    tenant.client.delete(&format!("/v1/events/{}/data", text(&next, "id"))).await.expect(204);
    let recover = |endpoint: &Value| format!("/v1/endpoints/{}/recover", text(endpoint, "id"));
    job(&tenant, &recover(&fails), json!({"since": SINCE})).await;
    job(&tenant, &recover(&good), json!({"since": SINCE, "status": "succeeded"})).await;
    tenant
        .client
        .post(&format!("{}?dry_run=true", recover(&fails)), json!({"since": SINCE}))
        .await
        .expect(200);
    job(&tenant, &format!("/v1/events/{}/replay", text(&event, "id")), json!({})).await;

    tenant.client.delete(&format!("/v1/endpoints/{}", text(&fails, "id"))).await.expect(204);
    tenant.client.delete(&format!("/v1/locations/{}", text(&second, "id"))).await.expect(204);
    worker.stop().await;
    // A minute later, maintenance purges what that left.
    for table in ["endpoints", "locations"] {
        sql.run(&format!("UPDATE {table} SET deleted_at = deleted_at - interval '2 minutes'")).await;
    }
    let mut worker = app.another(WORKER).await;
    sql.until("SELECT count(*) FROM locations WHERE deleted_at IS NOT NULL", 0).await;
    let operator = app.operator();
    operator.delete(&format!("/v1/tenants/{}", tenant.id)).await.expect(202);
    sql.until("SELECT count(*) FROM tenants", 0).await;
    worker.stop().await;
    app.stop().await;
}

/// Sequential scans of the queue, and scans of its indexes, once everybody has told Postgres of theirs.
async fn scans(sql: &mut Sql) -> (i64, i64) {
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    sql.until(others, 0).await;
    let told = "SELECT (idx_scan > 0)::int::bigint FROM pg_stat_user_tables WHERE relname = 'queue'";
    sql.until(told, 1).await;
    let counted = |what: &str| format!("SELECT {what} FROM pg_stat_user_tables WHERE relname = 'queue'");
    (sql.count(&counted("seq_scan")).await, sql.count(&counted("idx_scan")).await)
}

#[tokio::test]
async fn a_queue_that_nobody_has_analysed_is_never_read_from_end_to_end() {
    let (database, _) = fresh_database().await;
    let mut sql = looker(&database).await;
    a_busy_day(&database, &mut sql).await;
    let (whole, by_key) = scans(&mut sql).await;
    assert_eq!(whole, 0, "beside {by_key} by key");
    assert_eq!(
        sql.count("SELECT count(*) FROM pg_class WHERE relname = 'queue' AND reltuples >= 0").await,
        0
    );
}

#[tokio::test]
async fn nor_is_one_that_is_known_to_fit_a_page() {
    let (database, _) = fresh_database().await;
    let mut sql = looker(&database).await;
    // To read that one from end to end would be the least work, until it is long.
    sql.run(
        "INSERT INTO queue (shard, endpoint_id, event_id, format_version) VALUES (0, gen_random_uuid(), gen_random_uuid(), 1)",
    )
    .await;
    sql.run("ANALYZE queue").await;
    a_busy_day(&database, &mut sql).await;
    let (whole, by_key) = scans(&mut sql).await;
    assert_eq!(whole, 0, "beside {by_key} by key");
    assert_eq!(sql.count("SELECT relpages::bigint FROM pg_class WHERE relname = 'queue'").await, 1);
}

#[tokio::test]
async fn nor_is_one_that_is_long_and_said_to_be_empty() {
    let (database, _) = fresh_database().await;
    let mut sql = looker(&database).await;
    let fill = format!(
        "INSERT INTO queue (shard, endpoint_id, event_id, format_version, due_at)
         SELECT n % {LANES}, ('01930000-0000-7000-8000-' || lpad(to_hex(n % {LANES}), 12, '0'))::uuid,
             ('01930000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 1, CASE n % 3 WHEN 0 THEN now() END
         FROM generate_series(1, {ROWS}) n"
    );
    // Only in what Postgres remembers is it empty.
    sql.run(&fill).await;
    sql.run("DELETE FROM queue WHERE shard >= 0").await;
    sql.run("VACUUM ANALYZE queue").await;
    sql.run(&fill).await;
    a_busy_day(&database, &mut sql).await;
    let (whole, by_key) = scans(&mut sql).await;
    assert_eq!(whole, 0, "beside {by_key} by key");
    let believed =
        "SELECT (reltuples = 0 AND relpages > 100)::int::bigint FROM pg_class WHERE relname = 'queue'";
    assert_eq!(sql.count(believed).await, 1);
    assert_eq!(sql.count("SELECT count(*) FROM queue").await, i64::from(ROWS));
}
