//! Who gets what: patterns, and how soon a change of them counts.

use posthaste::app::Roles;
use serde_json::{Value, json};

use super::{array, text};
use crate::helpers::{TestApp, app::Tenant, spawn};

const URL: &str = "http://127.0.0.1:41999/hook";

fn subscriptions(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}/subscriptions", text(endpoint, "id"))
}

/// Endpoints that a publish reached, with what became of the delivery.
async fn reached(app: &TestApp, tenant: &Tenant, location: &str, event_type: &str) -> Vec<(String, String)> {
    let client = app.with_key(&tenant.key);
    let body = json!({"type": event_type, "data": {}});
    let answer = client.post(&format!("/v1/locations/{location}/events"), body).await.expect(202);
    let pair = |one: &Value| (text(one, "endpoint_id").to_owned(), text(one, "status").to_owned());
    array(&answer, "deliveries").iter().map(pair).collect()
}

#[tokio::test]
async fn names_prefixes_and_everything() {
    let mut app = spawn().await;
    let tenant = app.tenant_with(json!({"allow_unknown_event_types": true})).await;
    let patterns: [&[&str]; 5] = [
        &["message.sent"],
        &["message.*"],
        &["*"],
        &["posthaste.*", "order"],
        &["message.*", "message.sent", "*"],
    ];
    let mut endpoints = Vec::new();
    for event_types in patterns {
        let endpoint = tenant.endpoint(URL, json!({"event_types": event_types})).await;
        endpoints.push(text(&endpoint, "id").to_owned());
    }
    for (event_type, expected) in [
        ("message.sent", &[0, 1, 2, 4][..]),
        ("message.sent.twice", &[1, 2, 4]),
        ("message", &[2, 4]),
        ("messages.sent", &[2, 4]),
        ("order", &[2, 3, 4]),
        ("order.paid", &[2, 4]),
    ] {
        let reached = reached(&app, &tenant, "default", event_type).await;
        let places: Vec<usize> =
            reached.iter().map(|(id, _)| endpoints.iter().position(|known| known == id).unwrap()).collect();
        assert_eq!(places, expected, "{event_type}");
    }
    app.stop().await;
}

#[tokio::test]
async fn the_whole_set_is_replaced_or_nothing() {
    let mut app = spawn().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let endpoint = tenant.endpoint(URL, json!({"event_types": ["message.*"]})).await;
    let path = subscriptions(&endpoint);
    let set = |types: &[&str]| Value::Array(types.iter().map(|name| json!({"event_type": name})).collect());
    let shown = |types: &[&str]| {
        Value::Array(types.iter().map(|name| json!({"event_type": name, "filter": null})).collect())
    };
    assert_eq!(tenant.client.get(&path).await.expect(200)["data"], shown(&["message.*"]));
    let answer = tenant.client.put(&path, set(&["contact.created", "media.*"])).await.expect(200);
    assert_eq!(answer["data"], shown(&["contact.created", "media.*"]));
    let read = tenant.client.get(&format!("/v1/endpoints/{}", text(&endpoint, "id"))).await.expect(200);
    assert_eq!(read["event_types"], json!(["contact.created", "media.*"]));
    assert!(reached(&app, &tenant, "default", "message.sent").await.is_empty());
    assert_eq!(reached(&app, &tenant, "default", "media.uploaded").await.len(), 1);

    for (wrong, pointer) in [
        (json!([]), ""),
        (set(&["message.sent", "nope"]), "/1/event_type"),
        (set(&["message.sent", "message.sent"]), "/1/event_type"),
        (set(&["a b"]), "/0/event_type"),
        (set(&["*.sent"]), "/0/event_type"),
        (json!([{"event_type": 1}]), "/0/event_type"),
        (json!([{}]), "/0/event_type"),
        (json!([{"event_type": "*", "pattern": "*"}]), "/0/pattern"),
        (json!(["*"]), "/0"),
        (json!({"event_type": "*"}), ""),
        (set(&["*"; 101]), ""),
    ] {
        assert_eq!(tenant.client.put(&path, wrong.clone()).await.pointers(), [pointer], "{wrong}");
    }
    let stale = tenant.client.with("if-match", "\"1\"");
    stale.put(&path, set(&["*"])).await.problem(412);
    other.client.get(&path).await.problem(404);
    other.client.put(&path, set(&["*"])).await.problem(404);
    assert_eq!(tenant.client.get(&path).await.expect(200)["data"], shown(&["contact.created", "media.*"]));
    app.stop().await;
}

#[tokio::test]
async fn every_change_counts_from_the_very_next_publish_on_any_program() {
    let mut app = spawn().await;
    let mut other = app.another(Roles { api: true, worker: false }).await;
    let tenant = app.tenant().await;
    let one = tenant.endpoint(URL, json!({"event_types": ["message.sent"]})).await;
    let id = |endpoint: &Value| text(endpoint, "id").to_owned();
    let of = |endpoint: &Value, status: &str| (id(endpoint), status.to_owned());
    // What both programs remember by now is outdated by every change below.
    let check = async |event_type: &str, expected: &[(String, String)]| {
        for program in [&other, &app] {
            assert_eq!(reached(program, &tenant, "default", event_type).await, expected, "{event_type}");
        }
    };
    check("message.sent", &[of(&one, "pending")]).await;
    check("contact.created", &[]).await;
    let patterns = json!([{"event_type": "contact.*"}]);
    tenant.client.put(&subscriptions(&one), patterns).await.expect(200);
    check("message.sent", &[]).await;
    check("contact.created", &[of(&one, "pending")]).await;
    let endpoint = format!("/v1/endpoints/{}", id(&one));
    tenant.client.patch(&endpoint, json!({"event_types": ["message.*"]})).await.expect(200);
    check("message.sent", &[of(&one, "pending")]).await;
    let two = tenant.endpoint(URL, json!({"event_types": ["*"]})).await;
    check("message.sent", &[of(&one, "pending"), of(&two, "pending")]).await;
    tenant.client.poke(&format!("{endpoint}/pause")).await.expect(200);
    check("message.sent", &[of(&one, "held"), of(&two, "pending")]).await;
    tenant.client.poke(&format!("{endpoint}/resume")).await.expect(200);
    check("message.sent", &[of(&one, "pending"), of(&two, "pending")]).await;
    tenant.client.delete(&endpoint).await.expect(204);
    check("message.sent", &[of(&two, "pending")]).await;
    other.stop().await;
    app.stop().await;
}

#[tokio::test]
async fn what_is_refused_is_judged_anew_on_any_program() {
    let mut app = spawn().await;
    let mut other = app.another(Roles { api: true, worker: false }).await;
    let tenant = app.tenant_with(json!({"preset": "messagesync"})).await;
    let shop = json!({"name": "Shop", "external_id": "shop", "channels": ["sms"]});
    tenant.client.post("/v1/locations", shop).await.expect(201);
    let bare = json!({"event_types": ["message.failed"], "format": "whatsable"});
    let bare = tenant.client.post("/v1/locations/shop/endpoints", {
        let mut body = bare;
        body.as_object_mut().unwrap().extend(json!({"name": "B", "url": URL}).as_object().cloned().unwrap());
        body
    });
    let bare = bare.await.expect(201);
    let on_other = other.with_key(&tenant.key);
    let publish = async |location: &str, event_type: &str| {
        let event = json!({"location_id": location, "type": event_type, "data": [1]});
        let batch = on_other.post("/v1/events/batch", json!({"events": [event]})).await.status;
        let body = json!({"type": event_type, "data": [1]});
        let single = on_other.post(&format!("/v1/locations/{location}/events"), body).await.status;
        (single, batch)
    };
    assert_eq!(publish("shop", "whatsapp.message.inbound").await, (409, 409));
    assert_eq!(publish("shop", "order.paid").await, (422, 422));
    assert_eq!(publish("shop", "message.failed").await, (422, 422));
    assert_eq!(publish("store", "sms.message.inbound").await, (404, 422));

    tenant.client.patch("/v1/locations/shop", json!({"channels": ["sms", "whatsapp"]})).await.expect(200);
    assert_eq!(publish("shop", "whatsapp.message.inbound").await, (202, 202));
    let allow = json!({"allow_unknown_event_types": true});
    app.operator().patch(&format!("/v1/tenants/{}", tenant.id), allow).await.expect(200);
    assert_eq!(publish("shop", "order.paid").await, (202, 202));
    let format = json!({"format": "messagesync"});
    tenant.client.patch(&format!("/v1/endpoints/{}", text(&bare, "id")), format).await.expect(200);
    assert_eq!(publish("shop", "message.failed").await, (202, 202));

    // A location's own name goes where it goes.
    tenant.client.patch("/v1/locations/shop", json!({"external_id": "store"})).await.expect(200);
    assert_eq!(publish("shop", "message.failed").await, (404, 422));
    assert_eq!(publish("store", "message.failed").await, (202, 202));
    let again = json!({"name": "Another", "external_id": "shop"});
    let again = tenant.client.post("/v1/locations", again).await.expect(201);
    assert_eq!(publish("shop", "message.failed").await, (202, 202));
    let list = tenant.client.get(&format!("/v1/locations/{}/events", text(&again, "id"))).await.expect(200);
    assert_eq!(array(&list, "data").len(), 2);
    tenant.client.delete("/v1/locations/store").await.expect(204);
    assert_eq!(publish("store", "message.failed").await, (404, 422));
    other.stop().await;
    app.stop().await;
}
