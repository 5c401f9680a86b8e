//! Endpoints: their fields, versions and states.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::routes::household;
use crate::helpers::{
    Answer, Receiver, Tenant,
    client::{Client, Reply},
    spawn,
};

const URL: &str = "https://e.example.com/hook";

fn path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap())
}

fn etag(reply: &Reply) -> String {
    reply.headers[header::ETAG].to_str().unwrap().to_owned()
}

async fn actions(client: &Client, endpoint: &Value) -> Vec<(String, Value)> {
    let page = client.get("/v1/audit?limit=250").await.expect(200);
    let entries = page["data"].as_array().unwrap().iter().filter(|entry| entry["resource"] == endpoint["id"]);
    entries.map(|entry| (entry["action"].as_str().unwrap().to_owned(), entry["fields"].clone())).collect()
}

fn defaults(endpoint: &Value, tenant: &Tenant) -> Value {
    json!({
        "id": endpoint["id"], "location_id": tenant.location_id, "name": "E", "url": URL, "event_types": ["*"],
        "rate_limit_per_s": null, "max_in_flight": 8, "format": "standard", "headers": {}, "timeout_ms": null,
        "retry_schedule_s": null, "metadata": {}, "status": "active", "status_reason": null, "failing_since": null,
        "last_success_at": null, "last_failure_at": null, "last_error": null, "pending_count": 0, "throttled_until": null,
        "created_at": endpoint["created_at"], "updated_at": endpoint["updated_at"],
    })
}

#[tokio::test]
async fn an_endpoint_has_defaults() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let body = json!({"name": "E", "url": URL, "event_types": ["*"]});
    for route in [
        "/v1/endpoints".to_owned(),
        "/v1/locations/default/endpoints".to_owned(),
        format!("/v1/locations/{}/endpoints", tenant.location_id),
    ] {
        let reply = tenant.client.post(&route, body.clone()).await;
        let tag = etag(&reply);
        let mut made = reply.expect(201);
        assert!(made["id"].as_str().unwrap().starts_with("ep_"));
        let secret = made.as_object_mut().unwrap().remove("secret").expect("shown once");
        let bytes = STANDARD.decode(secret.as_str().unwrap().strip_prefix("whsec_").unwrap()).unwrap();
        assert_eq!(bytes.len(), 32);
        assert_eq!(made, defaults(&made, &tenant));
        assert_eq!(made["created_at"], made["updated_at"]);
        let read = tenant.client.get(&path(&made)).await;
        assert_eq!(etag(&read), tag);
        assert_eq!(read.expect(200), made);
        assert_eq!(tenant.client.get("/v1/endpoints").await.expect(200)["data"][0], made);
        assert_eq!(actions(&tenant.client, &made).await, [("endpoint.create".to_owned(), json!([]))]);
    }
    app.stop().await;
}

#[tokio::test]
async fn nulls_are_defaults_and_presets_choose_the_format() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let body = json!({
        "location_id": null, "name": "E", "url": URL, "event_types": ["*"], "rate_limit_per_s": null, "max_in_flight": null,
        "format": null, "headers": null, "timeout_ms": null, "retry_schedule_s": null, "metadata": null, "secret": null,
    });
    let mut made = tenant.client.post("/v1/endpoints", body).await.expect(201);
    made.as_object_mut().unwrap().remove("secret");
    assert_eq!(made, defaults(&made, &tenant));
    for preset in ["standard", "messagesync", "whatsable", "aisoule", "whatssync", "whatsapp_platform"] {
        let tenant = app.tenant_with(json!({"preset": preset})).await;
        let endpoint = tenant.endpoint(URL, json!({"event_types": ["*"]})).await;
        assert_eq!(endpoint["format"], preset);
        let other = tenant.endpoint(URL, json!({"event_types": ["*"], "format": "standard"})).await;
        assert_eq!(other["format"], "standard");
        let back = tenant.client.patch(&path(&other), json!({"format": null})).await.expect(200);
        assert_eq!(back["format"], preset);
    }
    app.stop().await;
}

#[tokio::test]
async fn every_field_is_kept() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let second = json!({"name": "Second", "external_id": "second"});
    let second = tenant.client.post("/v1/locations", second).await.expect(201);
    let secret = format!("whsec_{}", STANDARD.encode([7_u8; 24]));
    let fields = json!({
        "name": "Zoë's CRM ☺", "url": "https://münchen.example/a%20b?c=d&e=%C3%A9", "event_types": ["contact.*", "message.sent"],
        "rate_limit_per_s": 10_000, "max_in_flight": 256, "format": "messagesync",
        "headers": {"Authorization": "Bearer s3cret", "X-Tenant": "a, b"}, "timeout_ms": 30_000,
        "retry_schedule_s": [1, 60, 604_739], "metadata": {"a": {"b": [1, "two", null, true]}},
    });
    let mut body = fields.clone();
    body["secret"] = json!(secret);
    body["location_id"] = json!("second");
    let made = tenant.client.post("/v1/endpoints", body).await.expect(201);
    assert_eq!(made["secret"], secret);
    assert_eq!(made["location_id"], second["id"]);
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    let read = tenant.client.get(&path(&made)).await.expect(200);
    assert!(read.get("secret").is_none(), "shown once");
    for (name, value) in read.as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    assert_eq!(tenant.client.get(&format!("{}/secret", path(&made))).await.expect(200)["secret"], secret);
    // Neither the secret nor a header's value is stored in clear.
    let stored = crate::helpers::Stored::read(&mut app.sql().await).await;
    for hidden in [secret.as_str(), &secret[6..], "s3cret"] {
        assert!(!stored.mentions(hidden), "{hidden}");
    }
    // Endpoints may share URL and secret.
    let again = json!({"name": "E", "url": URL, "event_types": ["*"], "secret": secret});
    tenant.client.post("/v1/endpoints", again.clone()).await.expect(201);
    tenant.client.post("/v1/endpoints", again).await.expect(201);
    // Lowest values, and a foreign secret where the format signs with its text.
    let lowest = json!({
        "name": "x", "url": URL, "event_types": ["message.sent"], "rate_limit_per_s": 1, "max_in_flight": 1, "timeout_ms": 1000,
        "retry_schedule_s": [], "format": "aisoule", "secret": "0123456789abcdef",
    });
    let made = tenant.client.post("/v1/endpoints", lowest.clone()).await.expect(201);
    for (name, value) in lowest.as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_patch_changes_what_it_names() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let client = &tenant.client;
    let body = json!({"name": "E", "url": URL, "event_types": ["*"]});
    let reply = client.post("/v1/endpoints", body).await;
    let mut tags = BTreeSet::from([etag(&reply)]);
    let mut expected = reply.expect(201);
    expected.as_object_mut().unwrap().remove("secret");
    let told = |value: Value| (value.clone(), value);
    let changes = [
        told(json!({})),
        told(json!({"name": "Renamed"})),
        told(json!({"url": "https://f.example.com/"})),
        told(json!({"event_types": ["message.read", "message.sent"]})),
        told(json!({"event_types": ["contact.*"]})),
        told(json!({"rate_limit_per_s": 5})),
        told(json!({"rate_limit_per_s": null})),
        told(json!({"max_in_flight": 3})),
        (json!({"max_in_flight": null}), json!({"max_in_flight": 8})),
        told(json!({"format": "whatssync"})),
        (json!({"format": null}), json!({"format": "standard"})),
        told(json!({"headers": {"X-A": "1", "X-B": "2"}})),
        (
            json!({"headers": {"x-a": "3", "X-C": "4"}}),
            json!({"headers": {"X-B": "2", "X-C": "4", "x-a": "3"}}),
        ),
        (json!({"headers": {"x-b": null, "nothing": null}}), json!({"headers": {"X-C": "4", "x-a": "3"}})),
        (json!({"headers": null}), json!({"headers": {}})),
        told(json!({"timeout_ms": 2_000})),
        told(json!({"timeout_ms": null})),
        told(json!({"retry_schedule_s": [1, 2]})),
        told(json!({"retry_schedule_s": []})),
        told(json!({"retry_schedule_s": null})),
        told(json!({"metadata": {"a": 1, "b": {"c": 2}}})),
        (json!({"metadata": {"a": null, "b": {"d": 3}}}), json!({"metadata": {"b": {"c": 2, "d": 3}}})),
        (json!({"metadata": null}), json!({"metadata": {}})),
        told(json!({"name": "Both", "url": URL, "timeout_ms": 1_000})),
    ];
    for (patch, change) in &changes {
        let reply = client.patch(&path(&expected), patch.clone()).await;
        assert!(tags.insert(etag(&reply)), "a new ETag after {patch}");
        let answer = reply.expect(200);
        for (name, value) in change.as_object().unwrap() {
            expected[name] = value.clone();
        }
        assert!(answer["updated_at"].as_str() >= expected["updated_at"].as_str());
        expected["updated_at"] = answer["updated_at"].clone();
        assert_eq!(answer, expected, "after {patch}");
        assert_eq!(client.get(&path(&expected)).await.expect(200), expected);
    }
    let mut log = actions(client, &expected).await;
    log.reverse();
    assert_eq!(log.remove(0).0, "endpoint.create");
    for ((action, fields), (patch, _)) in log.iter().zip(&changes) {
        let names = |names: &mut dyn Iterator<Item = String>| names.collect::<BTreeSet<_>>();
        let named = names(&mut patch.as_object().unwrap().keys().cloned());
        let kept =
            names(&mut fields.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()));
        assert_eq!((action.as_str(), kept), ("endpoint.update", named));
    }
    assert_eq!(log.len(), changes.len());
    app.stop().await;
}

#[tokio::test]
async fn a_format_that_the_secret_does_not_fit_is_refused() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let foreign = json!({"format": "aisoule", "secret": "brought-along-from-elsewhere"});
    let endpoint = tenant.endpoint(URL, foreign).await;
    let reply = tenant.client.patch(&path(&endpoint), json!({"format": "standard"})).await;
    assert_eq!(reply.pointers(), ["/format"]);
    assert_eq!(tenant.client.get(&path(&endpoint)).await.expect(200)["format"], "aisoule");
    app.stop().await;
}

#[tokio::test]
async fn a_stale_tag_changes_nothing() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(URL, json!({})).await;
    let path = path(&endpoint);
    let stale = etag(&tenant.client.get(&path).await);
    let fresh = etag(&tenant.client.patch(&path, json!({"name": "Second"})).await);
    assert_ne!(stale, fresh);
    let before = crate::helpers::Stored::read(&mut app.sql().await).await;
    for tag in [stale.as_str(), "\"nope\"", "", "1", &format!("W/{fresh}")] {
        let client = tenant.client.with("if-match", tag);
        client.patch(&path, json!({"name": "Third"})).await.problem(412);
        client.poke(&format!("{path}/pause")).await.problem(412);
        client.poke(&format!("{path}/resume")).await.problem(412);
        client.delete(&path).await.problem(412);
    }
    crate::helpers::Stored::read(&mut app.sql().await).await.assert_same(&before, "stale tags");
    let client = tenant.client.with("if-match", &fresh);
    let reply = client.patch(&path, json!({"name": "Third"})).await;
    let newer = etag(&reply);
    reply.expect(200);
    client.patch(&path, json!({"name": "Fourth"})).await.problem(412);
    let several = tenant.client.with("if-match", &format!("{stale}, {newer}"));
    several.patch(&path, json!({"name": "Fourth"})).await.expect(200);
    tenant.client.with("if-match", "*").patch(&path, json!({"name": "Fifth"})).await.expect(200);
    assert_eq!(tenant.client.get(&path).await.expect(200)["name"], "Fifth");
    app.stop().await;
}

#[tokio::test]
async fn concurrent_patches_lose_nothing() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(URL, json!({})).await;
    let changes = (0..12).map(|n| {
        let (client, path, key) = (tenant.client.clone(), path(&endpoint), format!("k{n}"));
        tokio::spawn(async move { client.patch(&path, json!({"metadata": {key: n}})).await.expect(200) })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap();
    }
    let read = tenant.client.get(&path(&endpoint)).await.expect(200);
    assert_eq!(read["metadata"].as_object().unwrap().len(), 12);
    app.stop().await;
}

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
