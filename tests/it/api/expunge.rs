//! Expunging an event: what it said and what was answered to it are gone, nothing more of it is sent.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{array, text};
use crate::helpers::{
    Answer, Receiver, Stored, TestApp, spawn,
    sql::{Sql, UNTRUE_STATS},
};

const SECRET: &str = "a-name-to-be-forgotten";
const ANSWER: &str = "an-answer-to-be-forgotten";

fn path(event: &Value) -> String {
    format!("/v1/events/{}", text(event, "id"))
}

/// Whether this text is stored anywhere, as it is or in bytes.
async fn is_stored(app: &TestApp, text: &str) -> bool {
    let stored = Stored::read(&mut app.sql().await).await;
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    stored.mentions(text) || stored.mentions(&hex)
}

#[tokio::test]
async fn an_expunged_event_has_neither_data_nor_answers_and_no_second_chance() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(200).header("x-answer", ANSWER).body(ANSWER)]);
    receiver.script("/fails", [Answer::status(500).body(ANSWER)]);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let fails = tenant.endpoint(&receiver.url("/fails"), json!({"retry_schedule_s": []})).await;
    let said = json!({"type": "message.sent", "data": {"name": SECRET}, "tags": {"about": SECRET}});
    let event = tenant.try_publish(said).await.expect(202);
    let kept = tenant.publish("message.sent", json!({"name": "kept"})).await;
    for event in [&event, &kept] {
        tenant.delivery_when(event, &endpoint, |one| one["status"] == "succeeded").await;
        tenant.delivery_when(event, &fails, |one| one["status"] == "failed").await;
    }
    receiver.take(4).await;
    let before = tenant.client.get(&path(&kept)).await.expect(200);
    assert_eq!(before["expunged_at"], Value::Null);
    assert!(is_stored(&app, SECRET).await);

    for _ in 0..2 {
        assert_eq!(tenant.client.delete(&format!("{}/data", path(&event))).await.expect(204), Value::Null);
        let shown = tenant.client.get(&path(&event)).await.expect(200);
        assert_eq!((&shown["data"], &shown["type"]), (&Value::Null, &json!("message.sent")));
        assert_eq!(shown["tags"], json!({}));
        assert!(shown["expunged_at"].is_string());
        let statuses: Vec<_> = array(&shown, "deliveries").iter().map(|one| text(one, "status")).collect();
        assert!(statuses.contains(&"succeeded") && statuses.contains(&"failed"), "{statuses:?}");
    }
    assert!(!is_stored(&app, SECRET).await);
    for endpoint in [&endpoint, &fails] {
        let delivery_path = format!("{}/deliveries/{}", path(&event), text(endpoint, "id"));
        let delivery = tenant.client.get(&delivery_path).await.expect(200);
        assert_eq!((&delivery["request"], &delivery["attempt_count"]), (&Value::Null, &json!(1)));
        let list = format!("/v1/endpoints/{}/attempts?event_type=message.sent", text(endpoint, "id"));
        let attempts = tenant.client.get(&list).await.expect(200);
        let attempt = array(&attempts, "data").iter().find(|one| one["event_id"] == event["id"]).unwrap();
        assert_eq!((&attempt["request"], &attempt["event_type"]), (&Value::Null, &json!("message.sent")));
        let response = &delivery["attempts"][0]["response"];
        assert_eq!((&response["body"], &response["headers"]), (&json!(""), &json!({})));
        tenant.tell_delivery(&event, endpoint, "retry").await.problem(409);
        let since = json!({"since": "2026-01-01T00:00:00Z", "status": delivery["status"]});
        let recover = format!("/v1/endpoints/{}/recover", text(endpoint, "id"));
        let total = tenant.client.post(&format!("{recover}?dry_run=true"), since.clone()).await.expect(200);
        assert_eq!(total, json!({"total": 1}), "the other event");
        let job = tenant.client.post(&recover, since).await.expect(202);
        assert_eq!(tenant.job_ended(&job).await["done"], 1);
        assert_eq!(receiver.next().await.header("webhook-id"), text(&kept, "id"));
    }
    tenant.client.post(&format!("{}/replay", path(&event)), json!({})).await.problem(409);
    let list = tenant.client.get("/v1/locations/default/events").await.expect(200);
    let expunged: Vec<bool> = array(&list, "data").iter().map(|one| one["expunged_at"].is_string()).collect();
    assert_eq!(expunged, [false, true]);
    assert_eq!(tenant.client.get(&path(&kept)).await.expect(200)["data"], before["data"]);
    let audit = tenant.client.get("/v1/audit").await.expect(200);
    let told: Vec<_> = array(&audit, "data").iter().filter(|one| one["action"] == "event.expunge").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["resource"], event["id"]);
    assert!(receiver.rest().is_empty());
    Sql::open(&app.database).await.until(UNTRUE_STATS, 0).await;
    app.stop().await;
}

#[tokio::test]
async fn what_waits_is_canceled_and_what_is_in_flight_leaves_nothing() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let gate = Arc::new(Notify::new());
    receiver.script("/hook", [Answer::status(500).body(ANSWER).behind(&gate), Answer::status(200)]);
    let tenant = app.tenant().await;
    let fields = json!({"retry_schedule_s": [1], "max_in_flight": 1});
    let endpoint = tenant.endpoint(&receiver.url("/hook"), fields).await;
    let held = tenant.endpoint(&receiver.url("/held"), json!({})).await;
    tenant.tell(&held, "pause").await;
    let event = tenant.publish("message.sent", json!({"name": SECRET})).await;
    receiver.next().await;
    let open = async {
        tenant.delivery_when(&event, &endpoint, |one| one["status"] == "canceled").await;
        gate.notify_one();
    };
    let data = format!("{}/data", path(&event));
    let (reply, ()) = tokio::join!(tenant.client.delete(&data), open);
    reply.expect(204);
    // In flight until just now: it is on disk, without what was answered.
    let delivery_path = format!("{}/deliveries/{}", path(&event), text(&endpoint, "id"));
    let delivery = tenant.client.get(&delivery_path).await.expect(200);
    assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("canceled"), &json!(1)));
    assert_eq!(delivery["attempts"][0]["response"]["status"], 500);
    assert!(!is_stored(&app, SECRET).await && !is_stored(&app, ANSWER).await);
    let canceled = tenant.delivery_when(&event, &held, |_| true).await;
    assert_eq!(
        (&canceled["status"], &canceled["last_error"]),
        (&json!("canceled"), &json!("the event's data were expunged"))
    );
    tenant.tell(&held, "resume").await;
    // Others go on.
    let next = tenant.publish("message.sent", json!({})).await;
    for endpoint in [&endpoint, &held] {
        tenant.delivery_when(&next, endpoint, |one| one["status"] == "succeeded").await;
    }
    let seen = receiver.take(2).await;
    assert!(seen.iter().all(|one| one.header("webhook-id") == text(&next, "id")));
    Sql::open(&app.database).await.until(UNTRUE_STATS, 0).await;
    app.stop().await;
}

#[tokio::test]
async fn what_an_attempt_that_took_long_was_answered_goes_later() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(200).body(ANSWER)]);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let test = tenant.client.poke(&format!("/v1/endpoints/{}/test", text(&endpoint, "id"))).await.expect(200);
    assert_eq!(test["response"]["body"], ANSWER);
    let event = json!({"id": receiver.next().await.header("webhook-id")});
    let mut sql = Sql::open(&app.database).await;
    sql.run("CREATE TABLE late AS SELECT response_headers, response_body FROM attempts").await;
    tenant.client.delete(&format!("{}/data", path(&event))).await.expect(204);
    let with_answer =
        "SELECT count(*) FROM attempts WHERE response_body IS NOT NULL OR response_headers IS NOT NULL";
    assert_eq!(sql.count(with_answer).await, 0, "of a test, too");
    // As if its result had come after everybody had stopped waiting: maintenance removes it, at the next start at the latest.
    sql.run("UPDATE attempts SET response_headers = l.response_headers, response_body = l.response_body FROM late l").await;
    sql.run("DROP TABLE late").await;
    assert_eq!(sql.count(with_answer).await, 1);
    app.stop().await;
    let mut app = app.another(posthaste::app::Roles { api: false, worker: true }).await;
    sql.until(with_answer, 0).await;
    app.stop().await;
}

#[tokio::test]
async fn a_kept_answer_does_not_bring_it_back() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    receiver.decide(|_| Some(Answer::status(200).body(ANSWER)));
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let event = tenant.publish("message.sent", json!({"name": SECRET})).await;
    tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    let keyed = tenant.client.with("idempotency-key", "k");
    let retry = format!("{}/deliveries/{}/retry", path(&event), text(&endpoint, "id"));
    assert!(keyed.poke(&retry).await.expect(202).to_string().contains(SECRET));
    let test = format!("/v1/endpoints/{}/test", text(&endpoint, "id"));
    let tested = keyed.poke(&test).await.expect(200);
    assert!(tested.to_string().contains(ANSWER));
    assert_eq!(tested["event_type"], "message.incoming");
    let body = tested["request"]["body"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["id"], tested["event_id"]);
    let test_path = format!("/v1/events/{}", text(&tested, "event_id"));
    let shown = tenant.client.get(&test_path).await.expect(200);
    assert_eq!(shown["not_matched"], json!([]), "a test is sent whatever anybody subscribes to");
    tenant.delivery_when(&event, &endpoint, |one| one["attempt_count"] == 2).await;

    tenant.client.delete(&format!("{}/data", path(&event))).await.expect(204);
    tenant.client.delete(&format!("{test_path}/data")).await.expect(204);
    keyed.poke(&retry).await.problem(409);
    let again = keyed.poke(&test).await;
    assert!(!again.headers.contains_key("idempotent-replayed"));
    assert_ne!(again.expect(200)["event_id"], tested["event_id"]);
    app.stop().await;
}
