//! Jobs that queue deliveries again, against time, crashes and each other.

use posthaste::{
    app::Roles,
    queue::requeue::{self, Status, Wanted},
    types::{EndpointId, TenantId},
};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, PgConnection};
use uuid::Uuid;

use crate::helpers::{
    Answer, Receiver, TestApp,
    app::{Tenant, settings, start},
    cluster::fresh_database,
    process::Process,
    spawn,
    sql::Sql,
};

const API: Roles = Roles { api: true, worker: false };
const SINCE: &str = "2026-01-01T00:00:00Z";

async fn api() -> TestApp {
    let (database, _) = fresh_database().await;
    start(settings(&database, &[]), database, API).await
}

async fn recover(tenant: &Tenant, endpoint: &Value, body: Value) -> Value {
    let path = format!("/v1/endpoints/{}/recover", endpoint["id"].as_str().unwrap());
    tenant.client.post(&path, body).await.expect(202)
}

/// An endpoint with deliveries that have failed. Where nothing is to be sent it is paused.
async fn failed(tenant: &Tenant, url: &str, count: usize) -> Value {
    let endpoint = tenant.endpoint(url, json!({})).await;
    tenant.client.poke(&format!("/v1/endpoints/{}/pause", endpoint["id"].as_str().unwrap())).await;
    tenant.publish_batch("message.sent", count).await;
    endpoint
}

/// Makes everything that waits a failure.
const FAIL: &str = "WITH gone AS (DELETE FROM queue RETURNING shard, endpoint_id, event_id)
    INSERT INTO settled (shard, endpoint_id, event_id, tenant_id, status, reason, at)
    SELECT g.shard, g.endpoint_id, g.event_id, e.tenant_id, 'failed', 'made up', now()
    FROM gone g JOIN events e ON e.shard = g.shard AND e.id = g.event_id";

#[tokio::test]
async fn a_job_goes_on_after_its_node_was_killed() {
    const COUNT: usize = 60;
    let mut app = api().await;
    let tenant = app.tenant().await;
    let endpoint = failed(&tenant, "http://127.0.0.1:9999/", COUNT).await;
    let mut sql = Sql::open(&app.database).await;
    sql.run(FAIL).await;
    let job = recover(&tenant, &endpoint, json!({"since": SINCE, "rate_per_s": 20})).await;
    let mut so_far = 0;
    for _ in 0..2 {
        let (mut worker, _) = Process::role("worker", &app.settings).await;
        sql.until(&format!("SELECT (done > {so_far})::int::bigint FROM jobs"), 1).await;
        worker.kill().await;
        so_far = sql.count("SELECT done FROM jobs").await;
    }
    assert_eq!(sql.count("SELECT count(*) FROM queue").await, so_far);
    let (_worker, _) = Process::role("worker", &app.settings).await;
    let ended = tenant.job_ended(&job).await;
    assert_eq!((&ended["status"], &ended["done"]), (&json!("succeeded"), &json!(COUNT)));
    for (table, count) in [("queue", 60), ("settled", 0)] {
        assert_eq!(sql.count(&format!("SELECT count(*) FROM {table}")).await, count, "{table}");
    }
    app.stop().await;
}

#[tokio::test]
async fn recovers_at_once_send_each_delivery_once() {
    const COUNT: usize = 40;
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    // A failure that is no sign for the circuit breaker: that would give it one request at a time.
    receiver.script("/hook", [Answer::status(429)]);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": []})).await;
    tenant.publish_batch("message.sent", COUNT).await;
    let mut sql = Sql::open(&app.database).await;
    sql.until("SELECT count(*) FROM settled", 40).await;
    receiver.take(COUNT).await;
    receiver.script("/hook", [Answer::status(200)]);
    let body = json!({"since": SINCE, "rate_per_s": 40});
    let (one, other, third) = tokio::join!(
        recover(&tenant, &endpoint, body.clone()),
        recover(&tenant, &endpoint, body.clone()),
        recover(&tenant, &endpoint, json!({"since": SINCE})),
    );
    let mut done = 0;
    for job in [&one, &other, &third] {
        let ended = tenant.job_ended(job).await;
        assert_eq!(ended["status"], "succeeded");
        done += ended["done"].as_i64().unwrap();
    }
    assert_eq!(done, 40);
    tenant.endpoint_when(&endpoint, |endpoint| endpoint["pending_count"] == 0).await;
    let again = receiver.take(COUNT).await;
    assert!(again.iter().all(|seen| seen.header("x-posthaste-attempt") == "2"));
    sql.until("SELECT count(*) FROM attempts WHERE succeeded AND cause = 2", 40).await;
    assert_eq!(sql.count("SELECT count(*) FROM attempts").await, 80);
    assert!(receiver.rest().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn a_rate_is_kept_and_others_need_not_wait_for_it() {
    const COUNT: usize = 6;
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/slow", [Answer::status(500)]);
    receiver.script("/fast", [Answer::status(500)]);
    let tenant = app.tenant().await;
    let fields = |event_type: &str| json!({"retry_schedule_s": [], "event_types": [event_type]});
    let slow = tenant.endpoint(&receiver.url("/slow"), fields("message.sent")).await;
    let fast = tenant.endpoint(&receiver.url("/fast"), fields("message.read")).await;
    tenant.publish_batch("message.sent", COUNT).await;
    tenant.publish_batch("message.read", COUNT).await;
    Sql::open(&app.database).await.until("SELECT count(*) FROM settled", 12).await;
    receiver.take(2 * COUNT).await;
    for path in ["/slow", "/fast"] {
        receiver.script(path, [Answer::status(200)]);
    }
    let paced = recover(&tenant, &slow, json!({"since": SINCE, "rate_per_s": 2})).await;
    let whole = recover(&tenant, &fast, json!({"since": SINCE})).await;
    tenant.job_ended(&whole).await;
    let running = tenant.client.get(&format!("/v1/jobs/{}", paced["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(running["status"], "running");
    tenant.job_ended(&paced).await;
    let seen = receiver.take(2 * COUNT).await;
    let slow: Vec<_> = seen.iter().filter(|one| one.path == "/slow").map(|one| one.at).collect();
    let took = *slow.last().unwrap() - slow[0];
    // Two of them may come together, where a turn was late by up to a second.
    assert!(took.as_millis() >= 1_400, "{took:?} for {COUNT} at 2 a second");
    app.stop().await;
}

#[tokio::test]
async fn of_two_statements_at_once_each_row_is_moved_by_one() {
    for status in [Status::Failed, Status::Succeeded] {
        let mut app = api().await;
        let tenant = app.tenant().await;
        let endpoint = failed(&tenant, "http://127.0.0.1:9999/", 20).await;
        let mut sql = Sql::open(&app.database).await;
        sql.run(FAIL).await;
        if status == Status::Succeeded {
            sql.run(
                "INSERT INTO attempts (shard, endpoint_id, event_id, id, tenant_id, at, number, endpoint_version, format_version,
                     duration_ms, cause, succeeded, truncated)
                 SELECT shard, endpoint_id, event_id, event_id, tenant_id, now(), 1, 1, 1, 1, 0, true, false FROM settled",
            )
            .await;
            sql.run("DELETE FROM settled").await;
        }
        let (tenant_id, endpoint_id): (TenantId, EndpointId) =
            (tenant.id.parse().unwrap(), endpoint["id"].as_str().unwrap().parse().unwrap());
        let wanted = move || Wanted { from: Uuid::nil(), below: Uuid::max(), status, event_types: None };
        let mut one: PgConnection = app.database.connect().await.unwrap();
        let mut open = one.begin().await.unwrap();
        let first = requeue::some(&mut open, tenant_id, endpoint_id, &wanted(), None, 12, 1).await.unwrap();
        assert_eq!(first.queued, 12);
        let mut other: PgConnection = app.database.connect().await.unwrap();
        let second = tokio::spawn(async move {
            requeue::some(&mut other, tenant_id, endpoint_id, &wanted(), None, 100, 1).await.unwrap()
        });
        let waits = "SELECT least(count(*), 1) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        sql.until(waits, 1).await;
        open.commit().await.unwrap();
        let second = second.await.unwrap();
        assert_eq!((second.queued, second.up_to), (8, None));
        for (table, count) in [("queue", 20), ("settled", 0)] {
            assert_eq!(sql.count(&format!("SELECT count(*) FROM {table}")).await, count, "{table}");
        }
        app.stop().await;
    }
}

#[tokio::test]
async fn what_waits_is_not_read_to_find_what_failed() {
    const WAITING: i64 = 50_000;
    let mut app = api().await;
    let tenant = app.tenant().await;
    let endpoint = failed(&tenant, "http://127.0.0.1:9999/", 1_000).await;
    let mut sql = Sql::open(&app.database).await;
    sql.run(FAIL).await;
    // Statistics of a quiet time.
    sql.run("INSERT INTO queue (shard, endpoint_id, event_id, format_version) VALUES (0, gen_random_uuid(), gen_random_uuid(), 1)")
        .await;
    sql.run("ANALYZE queue").await;
    sql.run(&format!(
        "INSERT INTO queue (shard, endpoint_id, event_id, format_version)
         SELECT shard, id, gen_random_uuid(), 1 FROM endpoints CROSS JOIN generate_series(1, {WAITING})"
    ))
    .await;
    // As the API connects.
    for setting in ["seqscan", "bitmapscan", "hashjoin", "mergejoin"] {
        sql.run(&format!("SET enable_{setting} = off")).await;
    }
    let (tenant_id, endpoint_id): (TenantId, EndpointId) =
        (tenant.id.parse().unwrap(), endpoint["id"].as_str().unwrap().parse().unwrap());
    let wanted = Wanted { from: Uuid::nil(), below: Uuid::max(), status: Status::Failed, event_types: None };
    sql.run("BEGIN").await;
    assert_eq!(requeue::count(&mut sql.0, tenant_id, endpoint_id, &wanted).await.unwrap(), 1_000);
    let moved = requeue::some(&mut sql.0, tenant_id, endpoint_id, &wanted, None, 500, 1).await.unwrap();
    assert_eq!(moved.queued, 500);
    for relation in ["queue", "queue_pkey"] {
        let read =
            sql.count(&format!("SELECT pg_stat_get_xact_tuples_returned('{relation}'::regclass)")).await;
        assert!(read < WAITING / 10, "{read} rows of {relation}");
    }
    sql.run("COMMIT").await;
    app.stop().await;
}
