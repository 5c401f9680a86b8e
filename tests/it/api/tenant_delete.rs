//! Deleting a tenant: gone at once for everyone, purged to the last row, nobody else's touched.

use std::collections::BTreeMap;

use posthaste::app::Roles;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{array, text};
use crate::helpers::{
    Answer, Receiver, TestApp,
    app::{Tenant, settings, start},
    cluster::fresh_database,
    process::Process,
    spawn,
    sql::Sql,
};

const API: Roles = Roles { api: true, worker: false };

fn uuid(id: &str) -> &str {
    id.split_once('_').unwrap().1
}

/// Rows of the tenant in every table that has tenants, as far as the database itself tells which.
async fn rows(db: &mut PgConnection, tenant: &str) -> BTreeMap<String, i64> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.table_name::text FROM information_schema.columns c
         JOIN pg_class t ON t.relname = c.table_name AND t.relnamespace = 'public'::regnamespace
         WHERE c.table_schema = 'public' AND c.column_name = 'tenant_id' AND t.relkind IN ('r', 'p') AND NOT t.relispartition",
    )
    .fetch_all(&mut *db)
    .await
    .unwrap();
    assert!(tables.len() > 15, "{tables:?}");
    let mut found = BTreeMap::new();
    for table in tables {
        let sql = format!("SELECT count(*) FROM {table} WHERE tenant_id = '{}'", uuid(tenant));
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *db).await.unwrap();
        found.insert(table, count);
    }
    found
}

/// A tenant with something in every table; one delivery is to be retried in a moment.
async fn furnished(app: &TestApp, receiver: &mut Receiver, external_id: &str) -> Tenant {
    let tenant = app.tenant_with(json!({"external_id": external_id})).await;
    let second = tenant.client.post("/v1/locations", json!({"name": "Second"})).await.expect(201);
    let own = json!({"name": "own.type", "description": "d"});
    tenant.client.with("idempotency-key", "k").post("/v1/event-types", own).await.expect(201);
    let path = format!("/{external_id}");
    receiver.script(&path, [Answer::status(200)]);
    receiver.script("/ladder", [Answer::status(500)]);
    let good = tenant.endpoint(&receiver.url(&path), json!({})).await;
    tenant.endpoint(&receiver.url("/held"), json!({"location_id": second["id"]})).await;
    let failed = tenant.endpoint(&receiver.url("/ladder"), json!({"retry_schedule_s": []})).await;
    let event = tenant.publish("message.sent", json!({})).await;
    tenant.delivery_when(&event, &good, |one| one["status"] == "succeeded").await;
    tenant.delivery_when(&event, &failed, |one| one["status"] == "failed").await;
    let ladder = tenant.endpoint(&receiver.url("/ladder"), json!({"retry_schedule_s": [2]})).await;
    let body = json!({"since": "2026-01-01T00:00:00Z"});
    let recover = format!("/v1/endpoints/{}/recover", text(&good, "id"));
    tenant.job_ended(&tenant.client.post(&recover, body).await.expect(202)).await;
    let event = tenant.publish("message.sent", json!({})).await;
    tenant.delivery_when(&event, &ladder, |one| one["attempt_count"] == 1).await;
    let mut sql = Sql::open(&app.database).await;
    let id = uuid(&tenant.id);
    sql.run(&format!(
        "WITH v AS (INSERT INTO wire_format_versions (tenant_id, name, definition, created_at)
                    VALUES ('{id}', 'own', '{{}}', now()) RETURNING version)
         INSERT INTO wire_formats (tenant_id, name, version, created_at, updated_at)
         SELECT '{id}', 'own', version, now(), now() FROM v"
    ))
    .await;
    sql.run(&format!(
        "INSERT INTO notices (shard, endpoint_id, event_id, kind, tenant_id, at)
         SELECT shard, id, id, 'failing', tenant_id, now() + interval '1 day' FROM endpoints WHERE tenant_id = '{id}' LIMIT 1"
    ))
    .await;
    tenant
}

#[tokio::test]
async fn a_tenant_goes_with_everything_and_nobody_else_does() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = furnished(&app, &mut receiver, "gone").await;
    let other = furnished(&app, &mut receiver, "kept").await;
    let mut db = app.sql().await;
    let mut before = rows(&mut db, &tenant.id).await;
    // A notice may have been dealt with, and what is pending sent.
    for may_go in ["notices", "settled"] {
        before.remove(may_go);
    }
    assert!(before.values().all(|count| *count > 0), "{before:?}");
    let operator = app.operator();
    let path = format!("/v1/tenants/{}", tenant.id);

    let job = operator.delete(&path).await.expect(202);
    assert_eq!((&job["kind"], &job["status"], &job["done"]), (&json!("purge"), &json!("running"), &json!(0)));
    for gone in [
        operator.delete(&path).await,
        operator.get(&path).await,
        operator.patch(&path, json!({"name": "N"})).await,
        operator.get(&format!("{path}/keys")).await,
        operator.post(&format!("{path}/keys"), json!({"name": "K", "scopes": ["read"]})).await,
    ] {
        gone.problem(404);
    }
    let in_its_name = operator.with("posthaste-tenant", &tenant.id);
    let event = json!({"type": "message.sent", "data": {}});
    for client_path in ["/v1/endpoints", "/v1/locations", "/v1/event-types"] {
        tenant.client.get(client_path).await.problem(401);
        in_its_name.get(client_path).await.problem(404);
    }
    tenant.client.post("/v1/locations/default/events", event.clone()).await.problem(401);
    in_its_name.post("/v1/locations/default/events", event).await.problem(404);
    let job_path = format!("/v1/jobs/{}", text(&job, "id"));
    tenant.client.get(&job_path).await.problem(401);
    other.client.get(&job_path).await.problem(404);
    operator.get(&job_path).await.problem(400);
    in_its_name.delete(&job_path).await.problem(404);
    let listed = operator.get("/v1/tenants?limit=250").await.expect(200);
    assert!(array(&listed, "data").iter().all(|one| one["id"] != tenant.id));

    let ended = in_its_name.get_until(&job_path, |job| job["status"] != "running").await;
    // What began before the owners had obeyed may have been sent.
    receiver.rest();
    assert_eq!((&ended["status"], &ended["error"]), (&json!("succeeded"), &Value::Null));
    assert_eq!((&ended["total"], &ended["done"]), (&json!(7), &json!(7)), "endpoints, locations, the tenant");
    let jobs = in_its_name.get("/v1/jobs").await.expect(200);
    assert_eq!(jobs["data"], json!([ended]), "all that is left of it");
    for (table, count) in rows(&mut db, &tenant.id).await {
        assert_eq!(count, i64::from(["jobs", "audit_log"].contains(&table.as_str())), "{table}");
    }
    let told = in_its_name.get("/v1/audit").await.expect(200);
    assert_eq!(
        (&told["data"][0]["action"], &told["data"][0]["resource"]),
        (&json!("tenant.delete"), &json!(tenant.id))
    );
    assert_eq!(array(&told, "data").len(), 1);
    let mut sql = Sql::open(&app.database).await;
    let nobodys = "SELECT count(*) FROM endpoint_stats s WHERE NOT EXISTS (SELECT 1 FROM endpoints e WHERE e.id = s.endpoint_id)";
    assert_eq!(sql.count(nobodys).await, 0);
    assert_eq!(
        sql.count(&format!("SELECT count(*) FROM tenants WHERE id = '{}'", uuid(&tenant.id))).await,
        0
    );
    // The other's ladder goes on; nothing of this one was sent meanwhile.
    let mut others = rows(&mut db, &other.id).await;
    others.remove("notices");
    assert!(others.values().all(|count| *count > 0), "{others:?}");
    assert_eq!(array(&other.client.get("/v1/endpoints").await.expect(200), "data").len(), 4);
    sql.until("SELECT count(*) FROM queue", 0).await;
    let sent = receiver.rest();
    let events = other.client.get("/v1/locations/default/events").await.expect(200);
    let known: Vec<&str> = array(&events, "data").iter().map(|one| text(one, "id")).collect();
    assert!(sent.iter().all(|seen| known.contains(&seen.header("webhook-id"))), "{sent:?}");
    // Its name is free again.
    app.tenant_with(json!({"external_id": "gone"})).await;
    app.stop().await;
}

#[tokio::test]
async fn a_purge_goes_on_after_its_node_was_killed() {
    const ENDPOINTS: usize = 150;
    let (database, _) = fresh_database().await;
    let mut app = start(settings(&database, &["--rate-limit-per-s", "0"]), database, API).await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    for tenant in [&tenant, &other] {
        tenant.publish_batch("message.sent", 20).await;
    }
    for _ in 0..ENDPOINTS {
        tenant.endpoint("http://127.0.0.1:9999/", json!({})).await;
    }
    tenant.publish_batch("message.sent", 20).await;
    let job = app.operator().delete(&format!("/v1/tenants/{}", tenant.id)).await.expect(202);
    let mut sql = Sql::open(&app.database).await;
    let mut so_far = 0;
    for _ in 0..2 {
        let (mut worker, _) = Process::role("worker", &app.settings).await;
        sql.until(&format!("SELECT (done > {so_far})::int::bigint FROM jobs"), 1).await;
        worker.kill().await;
        so_far = sql.count("SELECT done FROM jobs").await;
        let left = sql
            .count(&format!("SELECT count(*) FROM endpoints WHERE tenant_id = '{}'", uuid(&tenant.id)))
            .await;
        assert_eq!(so_far + left, 150, "what is counted is gone, and the other way round");
    }
    let (_worker, _) = Process::role("worker", &app.settings).await;
    let in_its_name = app.operator().with("posthaste-tenant", &tenant.id);
    let path = format!("/v1/jobs/{}", text(&job, "id"));
    let ended = in_its_name.get_until(&path, |job| job["status"] != "running").await;
    assert_eq!(
        (&ended["status"], &ended["total"], &ended["done"]),
        (&json!("succeeded"), &json!(152), &json!(152))
    );
    for (table, count) in rows(&mut app.sql().await, &tenant.id).await {
        assert_eq!(count, i64::from(["jobs", "audit_log"].contains(&table.as_str())), "{table}");
    }
    assert_eq!(sql.count("SELECT count(*) FROM events").await, 20, "the other's");
    app.stop().await;
}

#[tokio::test]
async fn a_purge_waits_for_those_who_have_not_heard_of_the_end() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let event = tenant.publish("message.sent", json!({})).await;
    // A publish that began before, and ends after.
    let mut late = Sql::open(&app.database).await;
    late.run("BEGIN").await;
    let id = uuid(text(&event, "id"));
    let (start, end) = id.split_at(id.len() - 5);
    let copy = format!("{start}{}{}", if end.starts_with('0') { 1 } else { 0 }, &end[1..]);
    late.run(&format!(
        "INSERT INTO events (shard, id, tenant_id, location_id, event_type, occurred_at, live_mode, endpoint_ids, data)
         SELECT shard, '{copy}', tenant_id, location_id, event_type, occurred_at, live_mode, endpoint_ids, data FROM events"
    ))
    .await;
    let job = app.operator().delete(&format!("/v1/tenants/{}", tenant.id)).await.expect(202);
    let mut sql = Sql::open(&app.database).await;
    sql.until("SELECT count(*) FROM jobs WHERE task->>'mark' IS NOT NULL", 1).await;
    // It looks again and again, and does nothing.
    for _ in 0..3 {
        let due_us = sql.count("SELECT (extract(epoch FROM due_at) * 1000000)::bigint FROM jobs").await;
        let later = format!(
            "SELECT ((extract(epoch FROM due_at) * 1000000)::bigint > {due_us})::int::bigint FROM jobs"
        );
        sql.until(&later, 1).await;
    }
    assert_eq!(sql.count("SELECT done FROM jobs").await, 0);
    assert_eq!(sql.count("SELECT count(*) FROM events").await, 1);
    late.run("COMMIT").await;
    let in_its_name = app.operator().with("posthaste-tenant", &tenant.id);
    let path = format!("/v1/jobs/{}", text(&job, "id"));
    let ended = in_its_name.get_until(&path, |job| job["status"] != "running").await;
    assert_eq!(ended["status"], "succeeded");
    assert_eq!(sql.count("SELECT count(*) FROM events").await, 0);
    app.stop().await;
}

#[tokio::test]
async fn a_location_goes_with_its_events() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let location = tenant.client.post("/v1/locations", json!({"name": "L"})).await.expect(201);
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"location_id": location["id"]})).await;
    let path = format!("/v1/locations/{}", text(&location, "id"));
    let body = json!({"type": "message.sent", "data": {}});
    let event = tenant.client.post(&format!("{path}/events"), body).await.expect(202);
    tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    tenant.publish("message.sent", json!({})).await;
    tenant.client.delete(&path).await.expect(204);
    let mut sql = Sql::open(&app.database).await;
    for table in ["locations", "endpoints"] {
        sql.run(&format!("UPDATE {table} SET deleted_at = deleted_at - interval '2 minutes'")).await;
    }
    app.stop().await;
    let mut app = app.another(Roles { api: false, worker: true }).await;
    sql.until("SELECT count(*) FROM locations", 1).await;
    for (table, left) in [("events", 1), ("endpoints", 0), ("attempts", 0), ("endpoint_stats", 0)] {
        assert_eq!(sql.count(&format!("SELECT count(*) FROM {table}")).await, left, "{table}");
    }
    app.stop().await;
}
