//! Test events: a sample, sent once and at once, that changes nothing.

use std::{net::TcpListener, sync::Arc};

use futures_util::future::join_all;
use posthaste::app::Roles;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{array, text};
use crate::helpers::{
    Answer, Receiver, TestApp,
    app::{Tenant, settings, start},
    cluster::fresh_database,
    spawn,
    sql::Sql,
};

/// Tests of one tenant at once.
const AT_ONCE: usize = 4;

fn path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", text(endpoint, "id"))
}

async fn test(tenant: &Tenant, endpoint: &Value, body: Value) -> Value {
    tenant.client.post(&format!("{}/test", path(endpoint)), body).await.expect(200)
}

/// What a test must leave alone.
async fn state(tenant: &Tenant, endpoint: &Value) -> Vec<Value> {
    let shown = tenant.client.get(&path(endpoint)).await.expect(200);
    let fields = [
        "status",
        "failing_since",
        "last_success_at",
        "last_failure_at",
        "last_error",
        "pending_count",
        "updated_at",
    ];
    let mut state: Vec<Value> = fields.iter().map(|field| shown[field].clone()).collect();
    state
        .push(tenant.client.get(&format!("{}/deliveries", path(endpoint))).await.expect(200)["data"].clone());
    state
}

#[tokio::test]
async fn a_test_is_sent_like_any_attempt_and_answered_in_full() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(201).header("x-a", "b").body("thanks")]);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"headers": {"x-team": "one"}})).await;
    let before = state(&tenant, &endpoint).await;
    let attempt = test(&tenant, &endpoint, json!({"event_type": "contact.created"})).await;
    let seen = receiver.next().await;
    assert_eq!(attempt["request"]["url"], receiver.url("/hook"));
    for name in [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "x-webhook-signature",
        "x-team",
        "x-posthaste-attempt",
    ] {
        assert_eq!(attempt["request"]["headers"][name], seen.header(name), "{name}");
        assert!(!seen.header(name).is_empty(), "{name}");
    }
    let expected = json!({"status": 201, "body": "thanks", "truncated": false});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(attempt["response"][field], *value, "{field}");
    }
    assert_eq!(attempt["response"]["headers"]["x-a"], "b");
    for (field, value) in [
        ("trigger", json!("test")),
        ("outcome", json!("succeeded")),
        ("number", json!(1)),
        ("error", Value::Null),
    ] {
        assert_eq!(attempt[field], value, "{field}");
    }
    assert!(attempt["duration_ms"].is_number() && attempt["remote_addr"].is_string());

    let types = tenant.client.get("/v1/event-types/contact.created").await.expect(200);
    assert_eq!((&seen.json()["type"], &seen.json()["data"]), (&json!("contact.created"), &types["example"]));
    let event = tenant.client.get(&format!("/v1/events/{}", seen.header("webhook-id"))).await.expect(200);
    assert_eq!((&event["live_mode"], &event["deliveries"]), (&json!(false), &json!([])));
    assert_eq!((&event["data"], &event["location_id"]), (&types["example"], &json!(tenant.location_id)));
    assert_eq!(state(&tenant, &endpoint).await, before);
    // It is no delivery: there is nothing to retry or to cancel.
    let delivery = json!({"id": seen.header("webhook-id")});
    for what in ["retry", "cancel"] {
        tenant.tell_delivery(&delivery, &endpoint, what).await.problem(404);
    }
    let audit = tenant.client.get("/v1/audit").await.expect(200);
    assert_eq!(
        (&audit["data"][0]["action"], &audit["data"][0]["resource"]),
        (&json!("endpoint.test"), &endpoint["id"])
    );
    assert!(receiver.rest().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn whatever_comes_of_it_the_endpoint_is_as_before() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [500, 410, 302, 429, 200].map(Answer::status));
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": [1]})).await;
    let before = state(&tenant, &endpoint).await;
    for status in [500, 410, 302, 429] {
        let attempt = test(&tenant, &endpoint, json!({})).await;
        assert_eq!((&attempt["outcome"], &attempt["error"]), (&json!("failed"), &json!("response_status")));
        assert_eq!(attempt["response"]["status"], status);
        assert!(!text(&attempt, "diagnosis").is_empty());
    }
    // A port that nobody listens on any more.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = tenant.endpoint(&format!("http://{closed}/"), json!({"event_types": ["contact.*"]})).await;
    let attempt = test(&tenant, &nowhere, json!({})).await;
    assert_eq!(
        (&attempt["outcome"], &attempt["error"], &attempt["response"]),
        (&json!("failed"), &json!("connect"), &Value::Null)
    );
    assert_eq!(state(&tenant, &endpoint).await, before);
    assert_eq!(app.stored().await.1, 0, "nothing is queued");
    assert_eq!(receiver.take(4).await.len(), 4);

    // A real delivery afterwards is the first that counts.
    let event = tenant.publish("message.sent", json!({})).await;
    tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    assert_eq!(receiver.next().await.header("x-posthaste-attempt"), "1");
    assert!(receiver.rest().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn paused_and_disabled_endpoints_are_tested_too() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [410, 200, 200].map(Answer::status));
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    tenant.publish("message.sent", json!({})).await;
    tenant.endpoint_when(&endpoint, |one| one["status"] == "disabled").await;
    tenant.publish("message.sent", json!({})).await;
    receiver.next().await;
    for status in ["disabled", "paused"] {
        if status == "paused" {
            tenant.tell(&endpoint, "pause").await;
        }
        let before = state(&tenant, &endpoint).await;
        assert_eq!(before[0], status);
        assert_eq!(test(&tenant, &endpoint, json!({})).await["outcome"], "succeeded");
        assert_eq!(state(&tenant, &endpoint).await, before);
        assert_eq!(receiver.next().await.json()["type"], "message.incoming");
    }
    assert!(receiver.rest().is_empty(), "what is held stays held");
    app.stop().await;
}

#[tokio::test]
async fn the_sample_is_of_the_type_that_was_asked_for_or_of_a_fitting_one() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant_with(json!({"preset": "messagesync", "allow_unknown_event_types": true})).await;
    let own = |name: &str, example: Value| json!({"name": name, "description": "d", "example": example});
    for body in [
        own("order.paid", json!({"total": 1e2, "b": 1, "a": 2})),
        json!({"name": "order.blank", "description": "d"}),
        own("order.vast", json!({"n": 9_007_199_254_740_993_u64})),
        own("order.gone", json!(1)),
    ] {
        tenant.client.post("/v1/event-types", body).await.expect(201);
    }
    tenant.client.delete("/v1/event-types/order.gone").await.expect(204);
    for (patterns, wanted, expected) in [
        (json!(["message.failed", "sms.message.*"]), None, "message.failed"),
        (json!(["order.gone.x", "order.*"]), None, "order.paid"),
        (json!(["order.blank"]), None, "whatsapp.message.inbound"),
        (json!(["unknown.type"]), None, "whatsapp.message.inbound"),
        (json!(["*"]), Some("order.gone"), "order.gone"),
        (json!(["sms.*"]), Some("message.failed"), "message.failed"),
        (json!(["posthaste.endpoint.*"]), None, "posthaste.endpoint.failing"),
        (json!(["sms.*"]), Some("posthaste.delivery.exhausted"), "posthaste.delivery.exhausted"),
    ] {
        let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"event_types": patterns})).await;
        let body = wanted.map_or(json!({}), |name| json!({"event_type": name}));
        test(&tenant, &endpoint, body).await;
        assert_eq!(receiver.next().await.json()["type"], expected, "{patterns}");
    }
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"event_types": ["*"]})).await;
    tenant.client.poke(&format!("{}/test", path(&endpoint))).await.expect(200);
    assert_eq!(receiver.next().await.json()["type"], "whatsapp.message.inbound", "without a body");
    let mut sql = Sql::open(&app.database).await;
    let stored = sql.count("SELECT count(*) FROM events").await;
    for wrong in
        ["order.blank", "order.vast", "order", "unknown.type", "posthaste.endpoint.gone", "", "*", "a\u{0}"]
    {
        let reply =
            tenant.client.post(&format!("{}/test", path(&endpoint)), json!({"event_type": wrong})).await;
        assert_eq!(reply.pointers(), ["/event_type"], "{wrong}");
    }
    assert_eq!(sql.count("SELECT count(*) FROM events").await, stored);
    assert!(receiver.rest().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn a_format_without_envelope_needs_an_object() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant_with(json!({"preset": "whatsable"})).await;
    let list = json!({"name": "own.list", "description": "d", "example": [1]});
    tenant.client.post("/v1/event-types", list).await.expect(201);
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"event_types": ["*"]})).await;
    test(&tenant, &endpoint, json!({})).await;
    let example = tenant.client.get("/v1/event-types/message.incoming").await.expect(200)["example"].clone();
    assert_eq!(receiver.next().await.json(), example);
    let reply =
        tenant.client.post(&format!("{}/test", path(&endpoint)), json!({"event_type": "own.list"})).await;
    assert_eq!(reply.pointers(), ["/event_type"]);
    app.stop().await;
}

/// A program that has the role `api` alone.
async fn api_alone() -> TestApp {
    let (database, _) = fresh_database().await;
    start(settings(&database, &[]), database, Roles { api: true, worker: false }).await
}

#[tokio::test]
async fn a_node_without_worker_tests_too() {
    let mut app = api_alone().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    assert_eq!(test(&tenant, &endpoint, json!({})).await["outcome"], "succeeded");
    receiver.next().await;
    app.stop().await;
}

#[tokio::test]
async fn a_target_that_is_refused_is_told_and_not_reached() {
    let mut app = api_alone().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    app.stop().await;
    let mut stricter = app.settings.clone();
    stricter.allow_targets.clear();
    let mut app = start(stricter, app.database.clone(), Roles { api: true, worker: false }).await;
    let client = app.with_key(&tenant.key);
    let attempt = client.poke(&format!("{}/test", path(&endpoint))).await.expect(200);
    assert_eq!((&attempt["outcome"], &attempt["error"]), (&json!("failed"), &json!("refused_target")));
    assert!(receiver.rest().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn a_new_endpoint_is_pinged_if_it_asks_for_it() {
    let mut app = api_alone().await;
    let mut receiver = Receiver::start().await;
    let gate = Arc::new(Notify::new());
    receiver.script("/hook", [Answer::status(500).behind(&gate)]);
    let tenant = app.tenant().await;
    for field in [json!({}), json!({"send_test_ping": false})] {
        tenant.endpoint(&receiver.url("/quiet"), field).await;
    }
    let body = json!({"name": "E", "url": receiver.url("/hook"), "event_types": ["message.read"], "send_test_ping": "yes"});
    assert_eq!(tenant.client.post("/v1/endpoints", body).await.pointers(), ["/send_test_ping"]);
    // Answered although the receiver holds the ping.
    let fields = json!({"event_types": ["message.read"], "send_test_ping": true});
    let endpoint = tenant.endpoint(&receiver.url("/hook"), fields.clone()).await;
    assert_eq!(endpoint["status"], "active");
    let seen = receiver.next().await;
    assert_eq!((seen.path.as_str(), &seen.json()["type"]), ("/hook", &json!("message.read")));
    // A clean stop waits for it: what came of it is stored.
    gate.notify_one();
    app.stop().await;
    let mut sql = Sql::open(&app.database).await;
    assert_eq!(sql.count("SELECT count(*) FROM attempts WHERE cause = 3 AND response_status = 500").await, 1);
    assert_eq!(sql.count("SELECT count(*) FROM events WHERE NOT live_mode").await, 1);
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn so_many_at_once_and_no_more() {
    let mut app = api_alone().await;
    let mut receiver = Receiver::start().await;
    let gates: Vec<_> = (0..AT_ONCE).map(|_| Arc::new(Notify::new())).collect();
    receiver.script("/hook", gates.iter().map(|gate| Answer::status(200).behind(gate)).collect::<Vec<_>>());
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let others = other.endpoint(&receiver.url("/other"), json!({})).await;
    let held = join_all((0..AT_ONCE).map(|_| test(&tenant, &endpoint, json!({}))));
    let meanwhile = async {
        receiver.take(AT_ONCE).await;
        let refused = tenant.client.poke(&format!("{}/test", path(&endpoint))).await;
        assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
        refused.problem(429);
        test(&other, &others, json!({})).await;
        assert_eq!(receiver.next().await.path, "/other");
        gates.iter().for_each(|gate| gate.notify_one());
    };
    let (attempts, ()) = tokio::join!(held, meanwhile);
    assert!(attempts.iter().all(|attempt| attempt["outcome"] == "succeeded"));
    test(&tenant, &endpoint, json!({})).await;
    let events = tenant.client.get("/v1/locations/default/events").await.expect(200);
    assert_eq!(array(&events, "data").len(), AT_ONCE + 1);
    app.stop().await;
}
