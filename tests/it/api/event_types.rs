//! The catalogue: a preset's types, a tenant's own, schemas, archiving.

use serde_json::{Value, json};

use crate::helpers::{TestApp, app::Tenant, spawn};

async fn with_own_type(fields: Value) -> (TestApp, Tenant) {
    let app = spawn().await;
    let tenant = app.tenant_with(json!({"validate_payloads": true})).await;
    let mut body = json!({"name": "order.paid", "description": "An order was paid", "group": "shop"});
    body.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
    tenant.client.post("/v1/event-types", body).await.expect(201);
    (app, tenant)
}

fn schema() -> Value {
    json!({"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer", "minimum": 1}}})
}

#[tokio::test]
async fn a_type_of_ones_own_can_be_published_and_subscribed_to() {
    let (mut app, tenant) = with_own_type(json!({})).await;
    let all = tenant.client.get("/v1/event-types").await.expect(200);
    let names: Vec<&str> =
        all["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"order.paid") && names.contains(&"message.incoming"), "{names:?}");
    assert!(names.is_sorted());
    let own = tenant.client.get("/v1/event-types/order.paid").await.expect(200);
    assert_eq!(own["preset"], Value::Null);
    let preset = tenant.client.get("/v1/event-types/message.incoming").await.expect(200);
    assert_eq!(preset["preset"], "standard");
    assert!(preset["example"].is_object());

    let endpoint = tenant.endpoint("http://127.0.0.1:9999/", json!({"event_types": ["order.*"]})).await;
    let published = tenant.publish("order.paid", json!({})).await;
    assert_eq!(published["deliveries"][0]["endpoint_id"], endpoint["id"]);
    // Nobody else's.
    let other = app.tenant().await;
    let path = format!("/v1/locations/{}/events", other.location_id);
    assert_eq!(
        other.client.post(&path, json!({"type": "order.paid", "data": 1})).await.pointers(),
        ["/type"]
    );
    other.client.get("/v1/event-types/order.paid").await.problem(404);
    app.stop().await;
}

#[tokio::test]
async fn payloads_are_validated_where_the_tenant_asks_for_it() {
    let (mut app, tenant) = with_own_type(json!({"schema": schema(), "example": {"amount": 5}})).await;
    let path = format!("/v1/locations/{}/events", tenant.location_id);
    for (data, pointers) in [
        (json!({"amount": 0}), vec!["/data/amount"]),
        (json!({"amount": "1"}), vec!["/data/amount"]),
        (json!({}), vec!["/data"]),
        (json!([1]), vec!["/data"]),
    ] {
        assert_eq!(
            tenant.client.post(&path, json!({"type": "order.paid", "data": data})).await.pointers(),
            pointers,
            "{data}"
        );
    }
    tenant.publish("order.paid", json!({"amount": 1})).await;
    let batch = json!({"events": [
        {"location_id": "default", "type": "order.paid", "data": {"amount": 1}},
        {"location_id": "default", "type": "order.paid", "data": {"amount": -1}},
    ]});
    assert_eq!(tenant.client.post("/v1/events/batch", batch).await.pointers(), ["/events/1/data/amount"]);
    // A change reaches the next publish.
    tenant.client.patch("/v1/event-types/order.paid", json!({"schema": null})).await.expect(200);
    tenant.publish("order.paid", json!([])).await;
    app.operator()
        .patch(&format!("/v1/tenants/{}", tenant.id), json!({"validate_payloads": false}))
        .await
        .expect(200);
    app.stop().await;
}

#[tokio::test]
async fn an_archived_type_takes_no_new_subscriptions_and_keeps_old_ones() {
    let (mut app, tenant) = with_own_type(json!({})).await;
    let endpoint = tenant.endpoint("http://127.0.0.1:9999/", json!({"event_types": ["order.paid"]})).await;
    tenant.client.delete("/v1/event-types/order.paid").await.expect(204);
    assert!(tenant.client.get("/v1/event-types/order.paid").await.expect(200)["archived_at"].is_string());
    let new = json!({"name": "n", "url": "http://127.0.0.1:9999/", "event_types": ["order.paid"]});
    assert_eq!(tenant.client.post("/v1/endpoints", new).await.pointers(), ["/event_types/0"]);
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    tenant
        .client
        .patch(&path, json!({"name": "renamed", "event_types": ["order.paid", "message.sent"]}))
        .await
        .expect(200);
    let published = tenant.publish("order.paid", json!(1)).await;
    assert_eq!(published["deliveries"][0]["endpoint_id"], endpoint["id"]);
    app.stop().await;
}

#[tokio::test]
async fn an_archived_type_comes_back() {
    let (mut app, tenant) = with_own_type(json!({})).await;
    let path = "/v1/event-types/order.paid";
    let new = json!({"name": "n", "url": "http://127.0.0.1:9999/", "event_types": ["order.paid"]});
    let archived = tenant.client.patch(path, json!({"archived": true})).await.expect(200);
    assert!(archived["archived_at"].is_string());
    let again = tenant.client.patch(path, json!({"archived": true})).await.expect(200);
    assert_eq!(again["archived_at"], archived["archived_at"], "since it was archived first");
    assert_eq!(tenant.client.post("/v1/endpoints", new.clone()).await.pointers(), ["/event_types/0"]);
    assert_eq!(tenant.client.patch(path, json!({"archived": null})).await.pointers(), ["/archived"]);
    assert_eq!(tenant.client.patch(path, json!({"archived": "no"})).await.pointers(), ["/archived"]);
    let back = tenant.client.patch(path, json!({"archived": false})).await.expect(200);
    assert_eq!(back["archived_at"], json!(null));
    assert_eq!(tenant.client.get(path).await.expect(200), back);
    tenant.client.post("/v1/endpoints", new).await.expect(201);
    app.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_type_is_said_by_field() {
    let (mut app, tenant) = with_own_type(json!({})).await;
    for (body, pointers) in [
        (json!({"name": "a..b", "description": "d"}), vec!["/name"]),
        (json!({"name": "posthaste.mine", "description": "d"}), vec!["/name"]),
        (json!({"name": "a", "description": ""}), vec!["/description"]),
        (json!({"name": "a", "description": "d", "channel": "fax"}), vec!["/channel"]),
        (json!({"name": "a", "description": "d", "schema": {"type": 5}}), vec!["/schema"]),
        (
            json!({"name": "a", "description": "d", "schema": {"$ref": "https://example.com/x"}}),
            vec!["/schema"],
        ),
        (
            json!({"name": "a", "description": "d", "schema": schema(), "example": {"amount": 0}}),
            vec!["/example/amount"],
        ),
        (json!({"name": "a", "description": "d", "example": "\u{0}"}), vec!["/example"]),
    ] {
        assert_eq!(tenant.client.post("/v1/event-types", body.clone()).await.pointers(), pointers, "{body}");
    }
    for taken in ["message.incoming", "order.paid"] {
        let body = json!({"name": taken, "description": "d"});
        tenant.client.post("/v1/event-types", body).await.problem(409);
    }
    tenant.client.patch("/v1/event-types/message.incoming", json!({"group": "x"})).await.problem(409);
    tenant.client.delete("/v1/event-types/nothing.here").await.problem(404);
    app.stop().await;
}

const OPERATIONAL: [&str; 4] = [
    "posthaste.endpoint.failing",
    "posthaste.endpoint.recovered",
    "posthaste.endpoint.disabled",
    "posthaste.delivery.exhausted",
];

#[tokio::test]
async fn posthastes_own_types_are_in_every_catalogue_and_are_nobodys_to_change() {
    let mut app = spawn().await;
    for fields in [json!({}), json!({"preset": "whatsable", "allow_unknown_event_types": true})] {
        let tenant = app.tenant_with(fields).await;
        let client = &tenant.client;
        let all = client.get("/v1/event-types").await.expect(200);
        for name in OPERATIONAL {
            let path = format!("/v1/event-types/{name}");
            let one = client.get(&path).await.expect(200);
            assert!(all["data"].as_array().unwrap().contains(&one), "{name} is listed");
            assert_eq!((&one["group"], &one["preset"]), (&json!("operational"), &json!("posthaste")));
            assert_eq!(one["schema"]["type"], "object");
            assert!(one["example"]["endpoint_id"].is_string() && !one["description"].is_null());
            client.patch(&path, json!({"group": "mine"})).await.problem(409);
            client.delete(&path).await.problem(409);
            let own = json!({"name": name, "description": "d"});
            assert_eq!(client.post("/v1/event-types", own).await.pointers(), ["/name"]);
            let reply = tenant.try_publish(json!({"type": name, "data": one["example"]})).await;
            assert_eq!(reply.pointers(), ["/type"], "nobody publishes {name}");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn operational_types_are_subscribed_to_by_name_or_prefix() {
    let mut app = spawn().await;
    for fields in [json!({}), json!({"allow_unknown_event_types": true})] {
        let tenant = app.tenant_with(fields).await;
        let patterns =
            ["posthaste.*", "posthaste.endpoint.*", "posthaste.delivery.exhausted", "message.sent", "*"];
        let endpoint = tenant.endpoint("http://127.0.0.1:9999/", json!({"event_types": patterns})).await;
        assert_eq!(endpoint["event_types"].as_array().unwrap().len(), patterns.len());
        for nothing in ["posthaste", "posthaste.endpoint", "posthaste.endpoint.disable", "posthaste.key.*"] {
            let body = json!({"name": "n", "url": "http://127.0.0.1:9999/", "event_types": [nothing]});
            let reply = tenant.client.post("/v1/endpoints", body).await;
            // The bare word is a name like any other.
            let is_allowed = nothing == "posthaste" && reply.status == 201;
            assert!(is_allowed || reply.pointers() == ["/event_types/0"], "{nothing}");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn presets_are_shown_to_anybody_with_a_key() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let all = tenant.client.get("/v1/presets").await.expect(200);
    assert_eq!(all["data"].as_array().unwrap().len(), 6);
    let one = tenant.client.get("/v1/presets/whatssync").await.expect(200);
    assert_eq!(one["format"]["signatures"][0]["header"], "x-whatsync-signature");
    tenant.client.get("/v1/presets/nothing").await.problem(404);
    app.anonymous().get("/v1/presets").await.problem(401);
    app.stop().await;
}

/// Forty definitions, each twice the one before: 2^40 checks of one value.
fn bomb() -> Value {
    let mut definitions = json!({"n0": {"type": "integer"}});
    for level in 1..=40 {
        let below = json!({"$ref": format!("#/$defs/n{}", level - 1)});
        definitions[format!("n{level}")] = json!({"anyOf": [below, below]});
    }
    json!({"$defs": definitions, "$ref": "#/$defs/n40"})
}

#[tokio::test]
async fn a_schema_that_asks_for_exponential_work_is_refused_and_the_server_goes_on() {
    let (mut app, tenant) = with_own_type(json!({})).await;
    let new = json!({"name": "a.bomb", "description": "d", "schema": bomb(), "example": "x"});
    assert_eq!(tenant.client.post("/v1/event-types", new).await.pointers(), ["/schema"]);
    let change = json!({"schema": bomb(), "example": "x"});
    assert_eq!(tenant.client.patch("/v1/event-types/order.paid", change).await.pointers(), ["/schema"]);
    tenant.client.get("/v1/event-types/a.bomb").await.problem(404);
    tenant.publish("order.paid", json!({})).await;
    app.stop().await;
}

#[tokio::test]
async fn however_much_is_wrong_with_data_the_answer_is_short() {
    let schema = json!({"items": {"const": "x".repeat(60_000)}});
    let (mut app, tenant) = with_own_type(json!({"schema": schema})).await;
    let data = json!(vec![1; 10_000]);
    let change = tenant.client.patch("/v1/event-types/order.paid", json!({"example": data})).await;
    let publish = tenant.try_publish(json!({"type": "order.paid", "data": data})).await;
    for (reply, first) in [(change, "/example/0"), (publish, "/data/0")] {
        assert!(reply.text.len() < 20_000, "{} bytes", reply.text.len());
        let pointers = reply.pointers();
        assert_eq!((pointers.len(), pointers[0].as_str()), (20, first));
    }
    app.stop().await;
}
