//! States of endpoints: paused, failing, disabled, gone.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    endpoints::{actions, etag, path},
    routes::household,
};
use crate::helpers::{Answer, Receiver, spawn};

#[tokio::test]
async fn pause_holds_and_resume_sends() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let path = path(&endpoint);
    for _ in 0..2 {
        let reply = tenant.client.poke(&format!("{path}/pause")).await;
        let tag = etag(&reply);
        let paused = reply.expect(200);
        assert_eq!((&paused["status"], &paused["id"]), (&json!("paused"), &endpoint["id"]));
        assert!(paused["status_reason"].is_string());
        let read = tenant.client.get(&path).await;
        assert_eq!(etag(&read), tag);
        assert_eq!(read.expect(200), paused);
    }
    let event = tenant.publish("message.sent", json!({"n": 1})).await;
    assert_eq!(event["deliveries"][0]["status"], "held");
    let held = tenant.delivery_when(&event, &endpoint, |_| true).await;
    assert_eq!((&held["status"], &held["attempt_count"]), (&json!("held"), &json!(0)));
    assert_eq!(tenant.client.get(&path).await.expect(200)["pending_count"], 1);
    assert!(receiver.rest().is_empty());

    let resumed = tenant.client.poke(&format!("{path}/resume")).await.expect(200);
    assert_eq!((&resumed["status"], &resumed["status_reason"]), (&json!("active"), &Value::Null));
    assert_eq!(receiver.next().await.header("webhook-id"), event["id"]);
    tenant.delivery_when(&event, &endpoint, |delivery| delivery["status"] == "succeeded").await;
    // Of an active one, it changes nothing.
    let again = tenant.client.poke(&format!("{path}/resume")).await.expect(200);
    assert_eq!(again["status"], "active");
    tenant
        .client
        .get_until(&path, |one| one["pending_count"] == 0 && one["last_success_at"].is_string())
        .await;
    let log: Vec<_> =
        actions(&tenant.client, &endpoint).await.into_iter().map(|(action, _)| action).collect();
    assert_eq!(
        log,
        ["endpoint.resume", "endpoint.resume", "endpoint.pause", "endpoint.pause", "endpoint.create"]
    );
    app.stop().await;
}

#[tokio::test]
async fn statuses_follow_what_happens() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    receiver.script("/gone", [Answer::status(410), Answer::status(200)]);
    let gone = tenant.endpoint(&receiver.url("/gone"), json!({"event_types": ["contact.*"]})).await;
    let event = tenant.publish("contact.created", json!({})).await;
    receiver.next().await;
    let disabled = tenant.client.get_until(&path(&gone), |one| one["status"] == "disabled").await;
    assert!(disabled["status_reason"].as_str().unwrap().contains("410"), "{disabled}");
    assert_eq!(disabled["disabled_at"], disabled["last_failure_at"]);
    assert!(disabled["last_failure_at"].is_string() && disabled["last_error"].is_string());
    tenant.delivery_when(&event, &gone, |delivery| delivery["status"] == "failed").await;
    let held = tenant.publish("contact.updated", json!({})).await;
    assert_eq!(held["deliveries"][0]["status"], "held");
    // A person's pause hides it, and resuming enables it.
    let paused = tenant.client.poke(&format!("{}/pause", path(&gone))).await.expect(200);
    assert_eq!(paused["status"], "paused");
    let resumed = tenant.client.poke(&format!("{}/resume", path(&gone))).await.expect(200);
    assert_eq!((&resumed["status"], &resumed["failing_since"]), (&json!("active"), &Value::Null));
    assert_eq!(receiver.next().await.header("webhook-id"), held["id"]);

    receiver.script("/fails", [Answer::status(500), Answer::status(200)]);
    let fails = tenant.endpoint(&receiver.url("/fails"), json!({"retry_schedule_s": []})).await;
    let event = tenant.publish("message.sent", json!({})).await;
    tenant.delivery_when(&event, &fails, |delivery| delivery["status"] == "failed").await;
    let failing = tenant.client.get_until(&path(&fails), |one| one["status"] == "failing").await;
    assert!(failing["failing_since"].is_string() && failing["status_reason"].is_string());
    assert_eq!(failing["last_success_at"], Value::Null);
    let listed = tenant.client.get("/v1/endpoints?status=failing").await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["id"], fails["id"]);
    assert_eq!((&listed["active_count"], &listed["total_count"]), (&json!(2), &json!(2)));
    tenant.publish("message.sent", json!({})).await;
    let healed = tenant.client.get_until(&path(&fails), |one| one["status"] == "active").await;
    assert_eq!((&healed["failing_since"], &healed["status_reason"]), (&Value::Null, &Value::Null));
    app.stop().await;
}

#[tokio::test]
async fn a_deleted_endpoint_gets_nothing_more() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let house = household(&app, &mut receiver).await;
    let client = &house.tenant.client;
    let endpoint = json!({"id": house.ids.fill("{endpoint_id}")});
    client.poke(&format!("{}/pause", path(&endpoint))).await.expect(200);
    let held = house.tenant.publish("message.sent", json!({})).await;
    assert_eq!(held["deliveries"][0]["status"], "held");
    let reply = client.delete(&path(&endpoint)).await;
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    for gone in ["", "/subscriptions", "/secret", "/deliveries"] {
        client.get(&format!("{}{gone}", path(&endpoint))).await.problem(404);
    }
    client.delete(&path(&endpoint)).await.problem(404);
    client.patch(&path(&endpoint), json!({"name": "Back"})).await.problem(404);
    client.poke(&format!("{}/resume", path(&endpoint))).await.problem(404);
    client.poke(&house.ids.fill("/v1/events/{event_id}/deliveries/{endpoint_id}/retry")).await.problem(404);
    client.get(&house.ids.fill("/v1/events/{event_id}")).await.expect(200);
    let published = house.tenant.publish("message.sent", json!({})).await;
    assert_eq!(published["deliveries"], json!([]));
    let listed = client.get("/v1/endpoints").await.expect(200);
    assert_eq!(
        (&listed["data"], &listed["active_count"], &listed["total_count"]),
        (&json!([]), &json!(0), &json!(0))
    );
    assert_eq!(actions(client, &endpoint).await[0].0, "endpoint.delete");
    assert!(receiver.rest().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn a_delete_waits_for_what_is_in_flight() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let gate = Arc::new(Notify::new());
    receiver.script("/hook", [Answer::status(500).behind(&gate)]);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": [1, 1]})).await;
    tenant.publish("message.sent", json!({})).await;
    receiver.next().await;
    let (client, target) = (tenant.client.clone(), path(&endpoint));
    let delete = tokio::spawn(async move { client.delete(&target).await });
    tenant.client.get_until("/v1/endpoints", |list| list["total_count"] == 0).await;
    gate.notify_one();
    delete.await.unwrap().expect(204);
    // What comes later does not come from here: another endpoint's event is sent, and nothing else.
    let other = tenant.endpoint(&receiver.url("/other"), json!({})).await;
    let event = tenant.publish("message.sent", json!({})).await;
    tenant.delivery_when(&event, &other, |delivery| delivery["status"] == "succeeded").await;
    let paths: Vec<_> = receiver.rest().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/other"]);
    app.stop().await;
}
