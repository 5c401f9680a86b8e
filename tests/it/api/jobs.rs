//! Recover: what is counted, what is sent again, and how the job tells of it.

use posthaste::app::Roles;
use serde_json::{Value, json};

use super::{array, text};
use crate::helpers::{
    Answer, Receiver, Stored, TestApp,
    app::{Tenant, settings, start},
    cluster::fresh_database,
    spawn,
    sql::{Sql, UNTRUE_STATS},
};

fn path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", text(endpoint, "id"))
}

async fn start_without_worker() -> TestApp {
    let (database, _) = fresh_database().await;
    start(settings(&database, &[]), database, Roles { api: true, worker: false }).await
}

async fn recover(tenant: &Tenant, endpoint: &Value, body: Value) -> Value {
    let job = tenant.client.post(&format!("{}/recover", path(endpoint)), body).await.expect(202);
    assert_eq!(job["status"], "running");
    tenant.job_ended(&job).await
}

async fn dry_run(tenant: &Tenant, endpoint: &Value, body: Value) -> Value {
    tenant.client.post(&format!("{}/recover?dry_run=true", path(endpoint)), body).await.expect(200)
}

/// The status of each of the endpoint's deliveries, oldest first.
async fn statuses(tenant: &Tenant, endpoint: &Value) -> Vec<String> {
    let page = tenant.client.get(&format!("{}/deliveries", path(endpoint))).await.expect(200);
    array(&page, "data").iter().rev().map(|one| text(one, "status").to_owned()).collect()
}

async fn ended(tenant: &Tenant, endpoint: &Value, event: &Value, status: &str) -> Value {
    tenant.delivery_when(event, endpoint, |one| one["status"] == status).await
}

#[tokio::test]
async fn what_failed_in_a_period_is_counted_and_sent_again() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(500)]);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": []})).await;
    let other = tenant.endpoint(&receiver.url("/other"), json!({"event_types": ["message.sent"]})).await;
    let mut events = Vec::new();
    for event_type in ["message.sent", "message.read", "message.sent", "message.failed"] {
        let event = tenant.publish(event_type, json!({})).await;
        ended(&tenant, &endpoint, &event, "failed").await;
        events.push(tenant.client.get(&format!("/v1/events/{}", text(&event, "id"))).await.expect(200));
    }
    receiver.take(6).await;
    let (first, second, last) =
        (text(&events[0], "created_at"), text(&events[1], "created_at"), text(&events[3], "created_at"));
    let before = Stored::read(&mut app.sql().await).await;
    for (body, total) in [
        (json!({"since": first}), 4),
        (json!({"since": second}), 3),
        (json!({"since": first, "until": last}), 3),
        (json!({"since": "2020-01-01T00:00:00+02:00", "until": first}), 0),
        (json!({"since": first, "status": "failed", "event_types": null}), 4),
        (json!({"since": first, "status": "canceled"}), 0),
        (json!({"since": first, "status": "succeeded"}), 0),
        (json!({"since": first, "event_types": ["message.sent"]}), 2),
        (json!({"since": first, "event_types": ["message.read", "message.failed", "contact.*"]}), 2),
        (json!({"since": first, "event_types": ["message.*"]}), 4),
        (json!({"since": first, "event_types": ["*"], "rate_per_s": 1}), 4),
        (json!({"since": "2200-01-01T00:00:00Z"}), 0),
    ] {
        assert_eq!(dry_run(&tenant, &endpoint, body.clone()).await, json!({"total": total}), "{body}");
    }
    Stored::read(&mut app.sql().await).await.assert_same(&before, "dry runs");
    assert!(receiver.rest().is_empty());

    receiver.script("/hook", [Answer::status(200)]);
    let body = json!({"since": first, "until": last, "event_types": ["message.sent"]});
    let job = recover(&tenant, &endpoint, body).await;
    assert_eq!(
        (&job["status"], &job["total"], &job["done"]),
        (&json!("succeeded"), &json!(2), &json!(2)),
        "{job}"
    );
    assert_eq!((&job["kind"], &job["endpoint_id"]), (&json!("recover"), &endpoint["id"]));
    assert_eq!((&job["event_id"], &job["error"]), (&Value::Null, &Value::Null));
    assert!(text(&job, "id").starts_with("job_") && text(&job, "finished_at") >= text(&job, "created_at"));
    for event in [&events[0], &events[2]] {
        let delivery = ended(&tenant, &endpoint, event, "succeeded").await;
        let attempt = &delivery["attempts"][1];
        assert_eq!((&attempt["number"], &attempt["trigger"]), (&json!(2), &json!("replay")));
    }
    assert!(
        receiver
            .take(2)
            .await
            .iter()
            .all(|seen| seen.path == "/hook" && seen.header("x-posthaste-attempt") == "2")
    );
    assert_eq!(statuses(&tenant, &endpoint).await, ["succeeded", "failed", "succeeded", "failed"]);
    assert_eq!(dry_run(&tenant, &endpoint, json!({"since": first})).await["total"], 2);
    let audit = tenant.client.get("/v1/audit").await.expect(200);
    assert_eq!(
        (&audit["data"][0]["action"], &audit["data"][0]["resource"]),
        (&json!("endpoint.recover"), &endpoint["id"])
    );

    // What has succeeded or was canceled is sent again only where that is asked for.
    let job = recover(&tenant, &endpoint, json!({"since": first, "status": "succeeded"})).await;
    assert_eq!(job["done"], 2);
    for event in [&events[0], &events[2]] {
        let again = |one: &Value| one["status"] == "succeeded" && one["attempt_count"] == 3;
        tenant.delivery_when(event, &endpoint, again).await;
    }
    assert_eq!(receiver.take(2).await.len(), 2);
    assert_eq!(statuses(&tenant, &other).await, ["succeeded", "succeeded"]);
    assert!(receiver.rest().is_empty(), "the other endpoint is left alone");
    Sql::open(&app.database).await.until(UNTRUE_STATS, 0).await;
    app.stop().await;
}

#[tokio::test]
async fn what_was_canceled_comes_back_and_is_held_where_the_endpoint_is_paused() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    tenant.tell(&endpoint, "pause").await;
    let mut events = Vec::new();
    for n in 0..3 {
        let event = tenant.publish("message.sent", json!(n)).await;
        if n > 0 {
            tenant.tell_delivery(&event, &endpoint, "cancel").await.expect(200);
        }
        events.push(event);
    }
    let since = "2026-01-01T00:00:00Z";
    let job = recover(&tenant, &endpoint, json!({"since": since, "status": "canceled"})).await;
    assert_eq!((&job["total"], &job["done"]), (&json!(2), &json!(2)));
    assert_eq!(statuses(&tenant, &endpoint).await, ["held", "held", "held"]);
    for status in ["canceled", "failed", "succeeded"] {
        let job = recover(&tenant, &endpoint, json!({"since": since, "status": status})).await;
        assert_eq!(
            (&job["status"], &job["total"]),
            (&json!("succeeded"), &json!(0)),
            "what is held is pending"
        );
    }
    assert!(receiver.rest().is_empty());
    tenant.tell(&endpoint, "resume").await;
    for event in &events {
        ended(&tenant, &endpoint, event, "succeeded").await;
    }
    Sql::open(&app.database).await.until(UNTRUE_STATS, 0).await;
    assert!(receiver.take(3).await.iter().all(|seen| seen.header("x-posthaste-attempt") == "1"));
    assert!(receiver.rest().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn a_job_is_canceled_once_and_what_it_has_not_come_to_stays() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    tenant.tell(&endpoint, "pause").await;
    for event in tenant.publish_batch("message.sent", 60).await {
        tenant.tell_delivery(&json!({"id": event}), &endpoint, "cancel").await.expect(200);
    }
    let body = json!({"since": "2026-01-01T00:00:00Z", "status": "canceled", "rate_per_s": 4});
    let job = tenant.client.post(&format!("{}/recover", path(&endpoint)), body).await.expect(202);
    assert_eq!((&job["status"], &job["total"], &job["done"]), (&json!("running"), &json!(60), &json!(0)));
    let job_path = format!("/v1/jobs/{}", text(&job, "id"));
    tenant.client.get_until(&job_path, |job| job["done"].as_i64() > Some(0)).await;
    let canceled = tenant.client.delete(&job_path).await.expect(200);
    assert_eq!((&canceled["status"], &canceled["error"]), (&json!("canceled"), &Value::Null));
    assert!(canceled["finished_at"].is_string());
    tenant.client.delete(&job_path).await.problem(409);
    let queued = canceled["done"].as_i64().unwrap();
    assert!((1..60).contains(&queued), "{queued}");
    assert_eq!(app.stored().await.1, queued);
    assert_eq!(tenant.client.get(&job_path).await.expect(200), canceled);
    let jobs = tenant.client.get("/v1/jobs").await.expect(200);
    assert_eq!(array(&jobs, "data"), std::slice::from_ref(&canceled));
    for (query, found) in [
        ("kind=recover", 1),
        ("kind=replay", 0),
        ("status=canceled", 1),
        ("status=running", 0),
        ("kind=recover&status=canceled&limit=1", 1),
        ("kind=recover&status=failed", 0),
    ] {
        let jobs = tenant.client.get(&format!("/v1/jobs?{query}")).await.expect(200);
        assert_eq!(array(&jobs, "data").len(), found, "{query}");
        assert!(array(&jobs, "data").iter().all(|job| *job == canceled), "{query}");
    }
    for wrong in ["kind=", "kind=export", "status=done", "state=failed"] {
        tenant.client.get(&format!("/v1/jobs?{wrong}")).await.problem(400);
    }
    let audit = tenant.client.get("/v1/audit").await.expect(200);
    assert_eq!(
        (&audit["data"][0]["action"], &audit["data"][0]["resource"]),
        (&json!("job.cancel"), &job["id"])
    );
    app.stop().await;
}

#[tokio::test]
async fn a_tenant_has_so_many_jobs_running_and_no_more() {
    let mut app = start_without_worker().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let endpoint = tenant.endpoint("https://e.example.com/", json!({})).await;
    let others = other.endpoint("https://e.example.com/", json!({})).await;
    let event = tenant.publish("message.sent", json!({})).await;
    let body = json!({"since": "2026-01-01T00:00:00Z"});
    let recover = format!("{}/recover", path(&endpoint));
    let job = tenant.client.post(&recover, body.clone()).await.expect(202);
    let mut sql = Sql::open(&app.database).await;
    sql.run(
        "INSERT INTO jobs (tenant_id, id, kind, status, task, total, due_at, created_at)
         SELECT tenant_id, gen_random_uuid(), kind, status, task, total, due_at, created_at FROM jobs, generate_series(1, 999)",
    )
    .await;
    tenant.client.post(&recover, body.clone()).await.problem(409);
    let replay = format!("/v1/events/{}/replay", text(&event, "id"));
    tenant.client.post(&replay, json!({})).await.problem(409);
    assert_eq!(dry_run(&tenant, &endpoint, body.clone()).await, json!({"total": 0}));
    other.client.post(&format!("{}/recover", path(&others)), body.clone()).await.expect(202);
    tenant.client.delete(&format!("/v1/jobs/{}", text(&job, "id"))).await.expect(200);
    tenant.client.post(&recover, body).await.expect(202);
    app.stop().await;
}

#[tokio::test]
async fn a_job_ends_with_its_endpoint() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    tenant.tell(&endpoint, "pause").await;
    for event in tenant.publish_batch("message.sent", 30).await {
        tenant.tell_delivery(&json!({"id": event}), &endpoint, "cancel").await.expect(200);
    }
    let body = json!({"since": "2026-01-01T00:00:00Z", "status": "canceled", "rate_per_s": 1});
    let job = tenant.client.post(&format!("{}/recover", path(&endpoint)), body).await.expect(202);
    tenant.client.delete(&path(&endpoint)).await.expect(204);
    let ended = tenant.job_ended(&job).await;
    assert_eq!((&ended["status"], &ended["error"]), (&json!("failed"), &json!("the endpoint was deleted")));
    app.stop().await;
}

#[tokio::test]
async fn bad_recovers_point_at_what_is_wrong_and_start_nothing() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint("https://e.example.com/", json!({})).await;
    let before = Stored::read(&mut app.sql().await).await;
    let since = "2026-01-01T00:00:00Z";
    for (body, pointers) in [
        (json!({}), "/since"),
        (json!({"since": null}), "/since"),
        (json!({"since": 1}), "/since"),
        (json!({"since": ""}), "/since"),
        (json!({"since": "yesterday"}), "/since"),
        (json!({"since": "2026-01-01"}), "/since"),
        (json!({"since": "1969-12-31T23:59:59Z"}), "/since"),
        (json!({"since": "2026-01-01T00:00:00Z\u{0}"}), "/since"),
        (json!({"since": since, "until": since}), "/until"),
        (json!({"since": since, "until": "2025-12-31T23:59:59Z"}), "/until"),
        (json!({"since": since, "until": "later"}), "/until"),
        (json!({"since": since, "status": "pending"}), "/status"),
        (json!({"since": since, "status": ""}), "/status"),
        (json!({"since": since, "event_types": []}), "/event_types"),
        (json!({"since": since, "event_types": vec!["*"; 101]}), "/event_types"),
        (json!({"since": since, "event_types": "*"}), "/event_types"),
        (json!({"since": since, "event_types": ["*", "a b"]}), "/event_types/1"),
        (json!({"since": since, "rate_per_s": 0}), "/rate_per_s"),
        (json!({"since": since, "rate_per_s": 10_001}), "/rate_per_s"),
        (json!({"since": since, "rate_per_s": -1}), "/rate_per_s"),
        (json!({"since": since, "rate_per_s": 1.5}), "/rate_per_s"),
        (json!({"since": "x", "until": "y", "status": "z"}), "/since /until /status"),
    ] {
        for query in ["", "?dry_run=true"] {
            let reply =
                tenant.client.post(&format!("{}/recover{query}", path(&endpoint)), body.clone()).await;
            assert_eq!(reply.pointers().join(" "), pointers, "{body}");
        }
    }
    for query in ["dry_run=1", "dry_run=", "dry_run=yes", "dryrun=true"] {
        let reply = tenant
            .client
            .post(&format!("{}/recover?{query}", path(&endpoint)), json!({"since": since}))
            .await;
        reply.problem(400);
    }
    Stored::read(&mut app.sql().await).await.assert_same(&before, "bad recovers");
    app.stop().await;
}
