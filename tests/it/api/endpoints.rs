//! Endpoints: their fields and versions.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header;
use serde_json::{Value, json};

use crate::helpers::{
    Stored, Tenant,
    client::{Client, Reply},
    spawn,
};

const URL: &str = "https://e.example.com/hook";

pub fn path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap())
}

pub fn etag(reply: &Reply) -> String {
    reply.headers[header::ETAG].to_str().unwrap().to_owned()
}

/// What was done to it, newest first, and the fields.
pub async fn actions(client: &Client, endpoint: &Value) -> Vec<(String, Value)> {
    let page = client.get("/v1/audit?limit=250").await.expect(200);
    let entries = page["data"].as_array().unwrap().iter().filter(|entry| entry["resource"] == endpoint["id"]);
    entries.map(|entry| (entry["action"].as_str().unwrap().to_owned(), entry["fields"].clone())).collect()
}

fn defaults(endpoint: &Value, tenant: &Tenant) -> Value {
    json!({
        "id": endpoint["id"], "location_id": tenant.location_id, "name": "E", "url": URL, "event_types": ["*"],
        "rate_limit_per_s": null, "max_in_flight": 8, "format": "standard", "headers": {}, "timeout_ms": null,
        "retry_schedule_s": null, "metadata": {}, "client_certificate": null, "status": "active", "status_reason": null, "failing_since": null, "disabled_at": null,
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
    let stored = Stored::read(&mut app.sql().await).await;
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
async fn a_patch_that_changes_nothing_leaves_no_trace() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let client = &tenant.client;
    let fields = json!({
        "event_types": ["message.sent", "contact.*"], "rate_limit_per_s": 5, "timeout_ms": 2_000, "retry_schedule_s": [1, 2],
        "headers": {"X-A": "1"}, "metadata": {"a": {"b": 1}, "c": [1, 2]},
    });
    let endpoint = tenant.endpoint(URL, fields.clone()).await;
    let path = path(&endpoint);
    let read = client.get(&path).await;
    let (tag, endpoint) = (etag(&read), read.expect(200));
    let before = Stored::read(&mut app.sql().await).await;
    for patch in [
        json!({}),
        fields,
        json!({"event_types": ["contact.*", "message.sent"]}),
        json!({"name": endpoint["name"], "url": URL, "max_in_flight": null, "format": null}),
        json!({"headers": {"nothing": null}, "metadata": {"nothing": null}, "client_certificate": null}),
    ] {
        let reply = client.patch(&path, patch.clone()).await;
        assert_eq!(etag(&reply), tag, "after {patch}");
        assert_eq!(reply.expect(200), endpoint, "after {patch}");
    }
    client.with("if-match", "\"0\"").patch(&path, json!({})).await.problem(412);
    Stored::read(&mut app.sql().await).await.assert_same(&before, "patches that change nothing");
    let changed = client.patch(&path, json!({"event_types": ["contact.*"]})).await;
    assert_ne!(etag(&changed), tag);
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
    let before = Stored::read(&mut app.sql().await).await;
    for tag in [stale.as_str(), "\"nope\"", "", "1", &format!("W/{fresh}")] {
        let client = tenant.client.with("if-match", tag);
        client.patch(&path, json!({"name": "Third"})).await.problem(412);
        client.poke(&format!("{path}/pause")).await.problem(412);
        client.poke(&format!("{path}/resume")).await.problem(412);
        client.delete(&path).await.problem(412);
    }
    Stored::read(&mut app.sql().await).await.assert_same(&before, "stale tags");
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
