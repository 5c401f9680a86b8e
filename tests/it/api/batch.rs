//! Publishing many events at once: all or nothing.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::{array, text};
use crate::helpers::{Receiver, spawn};

const BATCH: &str = "/v1/events/batch";

fn one(location: &str, event_type: &str) -> Value {
    json!({"location_id": location, "type": event_type, "data": {"n": 1}})
}

#[tokio::test]
async fn a_batch_goes_to_several_locations_in_its_order() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    tenant.client.post("/v1/locations", json!({"name": "B", "external_id": "b"})).await.expect(201);
    let endpoint = tenant.endpoint(&receiver.url("/a"), json!({})).await;
    let other = tenant.endpoint(&receiver.url("/b"), json!({"location_id": "b"})).await;
    let mut third = one(&tenant.location_id, "message.read");
    third.as_object_mut().unwrap().extend(json!({
        "timestamp": "2026-11-20T10:00:00Z", "tags": {"k": "v"}, "live_mode": false, "api_version": "1", "channel": "sms",
    }).as_object().cloned().unwrap());
    let events = json!([
        one("default", "message.sent"),
        one("b", "message.delivered"),
        third,
        one("b", "form.submitted")
    ]);
    let answer = tenant.client.post(BATCH, json!({"events": events})).await.expect(202);
    let answers = array(&answer, "data");
    let types: Vec<&str> = answers.iter().map(|one| text(one, "type")).collect();
    assert_eq!(types, ["message.sent", "message.delivered", "message.read", "form.submitted"]);
    let to: Vec<&Value> = answers.iter().map(|one| &one["deliveries"][0]["endpoint_id"]).collect();
    assert_eq!(to, [&endpoint["id"], &other["id"], &endpoint["id"], &Value::Null]);
    assert_eq!(answers[2]["timestamp"], "2026-11-20T10:00:00.000Z");
    let stored = tenant.client.get(&format!("/v1/events/{}", text(&answers[2], "id"))).await.expect(200);
    assert_eq!((&stored["tags"], &stored["live_mode"]), (&json!({"k": "v"}), &json!(false)));

    let seen: HashSet<_> = receiver
        .take(3)
        .await
        .iter()
        .map(|seen| (seen.path.clone(), seen.header("webhook-id").to_owned()))
        .collect();
    let sent = [("/a", 0), ("/b", 1), ("/a", 2)];
    assert_eq!(seen, sent.map(|(path, at)| (path.to_owned(), text(&answers[at], "id").to_owned())).into());
    app.stop().await;
}

#[tokio::test]
async fn one_bad_event_and_nothing_is_stored() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant_with(json!({"preset": "messagesync"})).await;
    let foreign = app.tenant().await;
    tenant.endpoint(&receiver.url("/hook"), json!({"event_types": ["*"]})).await;
    tenant
        .client
        .post("/v1/locations", json!({"name": "W", "external_id": "w", "channels": ["sms"]}))
        .await
        .expect(201);
    let good = one("default", "message.failed");
    let mut bad_data = good.clone();
    bad_data["data"] = json!({"id": 123_456_789_012_345_678_u64});
    let mut with_key = good.clone();
    with_key["idempotency_key"] = json!("k");
    let mut bad_time = one("default", "nope");
    bad_time["timestamp"] = json!("x");
    for (bad, pointers) in [
        (one("default", "nope"), vec!["/events/3/type"]),
        (one("default", "posthaste.test"), vec!["/events/3/type"]),
        (one("default", "a b"), vec!["/events/3/type"]),
        (one("nowhere", "message.failed"), vec!["/events/3/location_id"]),
        (one(&foreign.location_id, "message.failed"), vec!["/events/3/location_id"]),
        (one("a\0", "message.failed"), vec!["/events/3/location_id"]),
        (bad_data, vec!["/events/3/data/id"]),
        (with_key, vec!["/events/3/idempotency_key"]),
        (bad_time, vec!["/events/3/timestamp"]),
        (json!({"type": "message.failed", "data": 1}), vec!["/events/3/location_id"]),
        (json!({"location_id": "default", "type": "message.failed"}), vec!["/events/3/data"]),
        (json!([]), vec!["/events/3"]),
        (json!("event"), vec!["/events/3"]),
        (json!(null), vec!["/events/3"]),
    ] {
        let events = json!({"events": [good, good, good, bad, good]});
        let client = tenant.client.with("idempotency-key", "a-batch");
        assert_eq!(client.post(BATCH, events).await.pointers(), pointers, "{bad}");
    }
    let several =
        json!({"events": [one("default", "nope"), good, one("nowhere", "nope"), one("default", "nope")]});
    assert_eq!(tenant.client.post(BATCH, several).await.pointers(), ["/events/2/location_id"]);
    let several = json!({"events": [one("default", "nope"), good, one("default", "nope")]});
    assert_eq!(tenant.client.post(BATCH, several).await.pointers(), ["/events/0/type", "/events/2/type"]);
    let disconnected = json!({"events": [good, one("w", "whatsapp.message.inbound")]});
    let problem = tenant.client.post(BATCH, disconnected).await.problem(409);
    assert!(text(&problem, "detail").contains("vent 1 "), "{problem}");
    for body in [
        json!({}),
        json!({"events": null}),
        json!({"events": []}),
        json!({"events": {}}),
        json!({"events": [good], "x": 1}),
    ] {
        let pointer = if body["x"] == 1 { "/x" } else { "/events" };
        assert_eq!(tenant.client.post(BATCH, body).await.pointers(), [pointer]);
    }
    assert_eq!(app.stored().await, (0, 0, 0));
    assert!(receiver.rest().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn a_batch_holds_a_thousand_events_and_eight_mebibytes() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let events = |count: usize, bytes: usize| {
        let mut event = one("default", "message.sent");
        event["data"] = json!("x".repeat(bytes));
        json!({"events": vec![event; count]}).to_string()
    };
    let send = async |body: String| tenant.client.send(Method::POST, BATCH, Some(body)).await;
    assert_eq!(send(events(1_001, 1)).await.pointers(), ["/events"]);
    // A body above 1 MiB, which a single publish may not have.
    let answer = send(events(1_000, 2_000)).await.expect(202);
    let ids: HashSet<&str> = array(&answer, "data").iter().map(|one| text(one, "id")).collect();
    assert_eq!(ids.len(), 1_000);
    send(events(31, 256 * 1024 - 2)).await.expect(202);
    assert_eq!(app.stored().await, (1_031, 0, 0));
    let problem = send(events(33, 256 * 1024 - 2)).await.problem(413);
    assert!(text(&problem, "detail").contains("8388608"), "{problem}");
    assert_eq!(app.stored().await, (1_031, 0, 0));
    app.stop().await;
}
