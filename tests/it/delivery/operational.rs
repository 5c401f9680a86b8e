//! What happens to a tenant's endpoints is told to those of its own endpoints that ask for it.

use std::collections::BTreeMap;

use posthaste::app::Roles;
use serde_json::{Value, json};

use crate::helpers::{Answer, Receiver, Tenant, TestApp, app::start, spawn, sql::Sql};

const BOTH: Roles = Roles { api: true, worker: true };

/// An endpoint that gets whatever these patterns say.
async fn watch(tenant: &Tenant, url: &str, patterns: &[&str]) -> Value {
    tenant.endpoint(url, json!({"event_types": patterns, "retry_schedule_s": []})).await
}

/// The next requests of the receiver's watchers, by type.
async fn told(receiver: &mut Receiver, count: usize) -> BTreeMap<String, Value> {
    let mut told = BTreeMap::new();
    while told.len() < count {
        let seen = receiver.next().await;
        if seen.path == "/watch" {
            let event = seen.json();
            assert_eq!(seen.header("webhook-id"), event["id"]);
            told.insert(event["type"].as_str().unwrap().to_owned(), event);
        }
    }
    told
}

/// Everything has ended and nothing is left to be told.
async fn at_rest(app: &TestApp) -> Sql {
    let mut sql = Sql::open(&app.database).await;
    sql.until("SELECT (SELECT count(*) FROM queue) + (SELECT count(*) FROM notices)", 0).await;
    sql
}

const OPERATIONAL: &str = "SELECT count(*) FROM events WHERE starts_with(event_type, 'posthaste.')";

#[tokio::test]
async fn an_endpoint_that_fails_recovers_and_goes_is_told_of() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(503), Answer::status(200), Answer::status(410)]);
    let tenant = app.tenant().await;
    let watcher = watch(&tenant, &receiver.url("/watch"), &["posthaste.*"]).await;
    let hook = tenant.endpoint(&receiver.url("/hook"), json!({"name": "CRM", "retry_schedule_s": []})).await;
    let catalogue = tenant.client.get("/v1/event-types").await.expect(200);
    let keys = |name: &str| -> Vec<String> {
        let known = catalogue["data"].as_array().unwrap().iter().find(|known| known["name"] == name);
        known.unwrap()["example"].as_object().unwrap().keys().cloned().collect()
    };

    let first = tenant.publish("message.sent", json!(1)).await;
    let events = told(&mut receiver, 2).await;
    let exhausted = &events["posthaste.delivery.exhausted"]["data"];
    assert_eq!(exhausted["event_id"], first["id"]);
    assert_eq!(exhausted["event_type"], "message.sent");
    assert_eq!(exhausted["endpoint_id"], hook["id"]);
    assert_eq!(exhausted["location_id"], tenant.location_id.as_str());
    assert_eq!((&exhausted["attempt_count"], &exhausted["last_response_status"]), (&json!(1), &json!(503)));
    assert_eq!(exhausted["error"], "response_status");
    assert!(exhausted["diagnosis"].as_str().unwrap().contains("503"), "{exhausted}");
    let failing = &events["posthaste.endpoint.failing"]["data"];
    assert_eq!((&failing["endpoint_id"], &failing["name"]), (&hook["id"], &json!("CRM")));
    assert_eq!((&failing["url"], &failing["status"]), (&hook["url"], &json!("failing")));
    let seen = tenant.endpoint_when(&hook, |endpoint| endpoint["status"] == "failing").await;
    assert_eq!(
        (&failing["since"], &failing["status_reason"]),
        (&seen["failing_since"], &seen["status_reason"])
    );
    for (name, event) in &events {
        let given: Vec<String> = event["data"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(given, keys(name), "{name} has what the catalogue says");
    }

    tenant.publish("message.sent", json!(2)).await;
    let events = told(&mut receiver, 1).await;
    assert_eq!(events["posthaste.endpoint.recovered"]["data"]["endpoint_id"], hook["id"]);
    assert_eq!(events["posthaste.endpoint.recovered"]["data"]["status"], "active");

    tenant.publish("message.sent", json!(3)).await;
    let events = told(&mut receiver, 2).await;
    let disabled = &events["posthaste.endpoint.disabled"]["data"];
    assert_eq!((&disabled["status"], &disabled["endpoint_id"]), (&json!("disabled"), &hook["id"]));
    assert!(disabled["status_reason"].as_str().unwrap().contains("410"), "{disabled}");
    assert_eq!(events["posthaste.delivery.exhausted"]["data"]["last_response_status"], 410);

    // Each of them once, kept like every event, delivered to the watcher alone.
    let mut sql = at_rest(&app).await;
    assert_eq!(sql.count(OPERATIONAL).await, 5);
    let id = events["posthaste.endpoint.disabled"]["id"].as_str().unwrap();
    let kept = tenant.client.get(&format!("/v1/events/{id}")).await.expect(200);
    assert_eq!(kept["data"], *disabled);
    assert_eq!(kept["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(kept["deliveries"][0]["endpoint_id"], watcher["id"]);
    app.stop().await;
}

#[tokio::test]
async fn two_watchers_that_fail_do_not_go_on_about_each_other() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    receiver.decide(|_| Some(Answer::status(500)));
    let tenant = app.tenant().await;
    let one = watch(&tenant, &receiver.url("/watch"), &["posthaste.*"]).await;
    let two =
        watch(&tenant, &receiver.url("/watch"), &["posthaste.delivery.*", "posthaste.endpoint.*"]).await;
    tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": []})).await;
    tenant.publish("message.sent", json!(1)).await;
    let mut sql = Sql::open(&app.database).await;
    // The delivery itself, and two events for each of two watchers: all of them fail.
    sql.until("SELECT count(*) FROM settled WHERE status = 'failed'", 5).await;
    for watcher in [one, two] {
        tenant.endpoint_when(&watcher, |endpoint| endpoint["status"] == "failing").await;
    }
    let mut sql = at_rest(&app).await;
    assert_eq!(sql.count(OPERATIONAL).await, 2);
    app.stop().await;
    // Another start finds nothing that was left to be told.
    let mut app = start(app.settings.clone(), app.database.clone(), BOTH).await;
    let mut sql = at_rest(&app).await;
    assert_eq!(sql.count(OPERATIONAL).await, 2);
    app.stop().await;
}

#[tokio::test]
async fn who_does_not_ask_is_not_told_and_every_location_that_asks_is() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.decide(|seen| Some(Answer::status(if seen.path == "/hook" { 500 } else { 200 })));
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    // Of another tenant, for everything, for one type, and elsewhere.
    watch(&other, &receiver.url("/other"), &["posthaste.*", "*"]).await;
    watch(&tenant, &receiver.url("/everything"), &["*"]).await;
    watch(&tenant, &receiver.url("/watch"), &["posthaste.endpoint.failing"]).await;
    let branch = tenant.client.post("/v1/locations", json!({"name": "Branch"})).await.expect(201);
    let elsewhere = json!({"event_types": ["posthaste.*"], "location_id": branch["id"]});
    tenant.endpoint(&receiver.url("/elsewhere"), elsewhere).await;
    tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": []})).await;
    tenant.publish("message.sent", json!(1)).await;
    let mut paths: Vec<(String, String)> = Vec::new();
    for seen in receiver.take(5).await {
        paths.push((seen.path.clone(), seen.json()["type"].as_str().unwrap().to_owned()));
    }
    paths.sort();
    let expected = [
        ("/elsewhere", "posthaste.delivery.exhausted"),
        ("/elsewhere", "posthaste.endpoint.failing"),
        ("/everything", "message.sent"),
        ("/hook", "message.sent"),
        ("/watch", "posthaste.endpoint.failing"),
    ];
    assert_eq!(paths, expected.map(|(path, name)| (path.to_owned(), name.to_owned())));
    let mut sql = at_rest(&app).await;
    assert_eq!(sql.count(OPERATIONAL).await, 3, "an event for each location that asks");
    assert!(receiver.rest().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_disabled_for_failing_too_long_is_told_of() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(500)]);
    let tenant = app.tenant_with(json!({"failing_days": 1})).await;
    watch(&tenant, &receiver.url("/watch"), &["posthaste.endpoint.*"]).await;
    tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": []})).await;
    tenant.publish("message.sent", json!(1)).await;
    told(&mut receiver, 1).await;
    at_rest(&app).await;
    app.stop().await;
    let mut sql = Sql::open(&app.database).await;
    sql.run("UPDATE endpoint_health SET failing_since = now() - interval '25 hours' WHERE failing_since IS NOT NULL").await;
    let mut app = start(app.settings.clone(), app.database.clone(), BOTH).await;
    let events = told(&mut receiver, 1).await;
    let disabled = &events["posthaste.endpoint.disabled"]["data"];
    assert_eq!(disabled["status_reason"], "no delivery has succeeded for 1 day");
    app.stop().await;
}
