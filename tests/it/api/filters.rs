//! Subscriptions one by one, their filters, and what an event says of those that it did not go to.

use posthaste::app::Roles;
use serde_json::{Value, json};

use super::{array, text};
use crate::helpers::{Stored, app::Tenant, client::Reply, spawn};

const URL: &str = "http://127.0.0.1:41999/hook";

fn path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}/subscriptions", text(endpoint, "id"))
}

fn subscription(event_type: &str, filter: Value) -> Value {
    let mut subscription = json!({"event_type": event_type});
    subscription["filter"] = filter;
    subscription
}

async fn filtered(tenant: &Tenant, event_type: &str, filter: &str) -> Value {
    let endpoint = tenant.endpoint(URL, json!({"event_types": [event_type]})).await;
    let set = json!([subscription(event_type, json!(filter))]);
    tenant.client.put(&path(&endpoint), set).await.expect(200);
    endpoint
}

/// The endpoints that an event went to.
fn reached(published: &Value) -> Vec<&str> {
    array(published, "deliveries").iter().map(|one| text(one, "endpoint_id")).collect()
}

#[tokio::test]
async fn an_endpoint_gets_what_any_of_its_subscriptions_matches_and_once() {
    let mut app = spawn().await;
    let mut other = app.another(Roles { api: true, worker: false }).await;
    let tenant = app.tenant().await;
    let endpoint = filtered(&tenant, "message.*", "'support' in data.labels").await;
    let all = tenant.endpoint(URL, json!({"event_types": ["message.sent"]})).await;
    let (id, all) = (text(&endpoint, "id"), text(&all, "id"));
    let publish = async |event_type: &str, data: Value| {
        let path = format!("/v1/locations/{}/events", tenant.location_id);
        let client = other.with_key(&tenant.key);
        client.post(&path, json!({"type": event_type, "data": data, "channel": "sms"})).await.expect(202)
    };
    assert_eq!(reached(&publish("message.sent", json!({"labels": ["support"]})).await), [id, all]);
    assert_eq!(reached(&publish("message.sent", json!({"labels": []})).await), [all]);
    assert_eq!(reached(&publish("message.sent", json!({})).await), [all], "what fails is no match");
    assert_eq!(reached(&publish("message.sent", json!("text")).await), [all]);
    assert_eq!(
        reached(&publish("contact.created", json!({"labels": ["support"]})).await),
        Vec::<&str>::new()
    );
    // A second one that matches, too, and one whose value is no boolean.
    let put = async |pattern: &str, body: Value| {
        let status = tenant.client.put(&format!("{}/{pattern}", path(&endpoint)), body).await.status;
        assert!([200, 201].contains(&status), "{pattern}: {status}");
    };
    put("message.sent", json!({"filter": "channel == 'sms' && type.startsWith('message')"})).await;
    put("*", json!({"filter": "size(data)"})).await;
    assert_eq!(reached(&publish("message.sent", json!({"labels": ["support"]})).await), [id, all]);
    assert_eq!(reached(&publish("message.read", json!({"labels": []})).await), Vec::<&str>::new());
    put("*", json!({})).await;
    assert_eq!(reached(&publish("message.read", json!([])).await), [id], "without a filter everything");
    let batch = json!({"events": [
        {"location_id": "default", "type": "message.sent", "data": {}, "tags": {"a": "b"}, "live_mode": false}]});
    put("*", json!({"filter": "!live_mode && tags.a == 'b' && api_version == null"})).await;
    let answer = tenant.client.post("/v1/events/batch", batch).await.expect(202);
    assert_eq!(reached(&answer["data"][0]), [id, all]);
    other.stop().await;
    app.stop().await;
}

#[tokio::test]
async fn subscriptions_are_put_and_deleted_one_by_one() {
    let mut app = spawn().await;
    let (tenant, stranger) = (app.tenant().await, app.tenant().await);
    let client = &tenant.client;
    let endpoint = tenant.endpoint(URL, json!({"event_types": ["message.*"]})).await;
    let base = path(&endpoint);
    let put = async |pattern: &str, body: Value| client.put(&format!("{base}/{pattern}"), body).await;
    let made = put("contact.created", json!({"filter": "data.vip"})).await.expect(201);
    assert_eq!(made, subscription("contact.created", json!("data.vip")));
    assert_eq!(put("contact.created", json!({})).await.expect(200)["filter"], Value::Null);
    put("message.*", json!({"filter": "live_mode"})).await.expect(200);
    // No body is an empty one; a pattern may be percent-encoded.
    client.send(reqwest::Method::PUT, &format!("{base}/media%2e%2A"), None).await.expect(201);
    let set = json!([
        subscription("contact.created", json!(null)),
        subscription("media.*", json!(null)),
        subscription("message.*", json!("live_mode")),
    ]);
    assert_eq!(client.get(&base).await.expect(200)["data"], set);

    // A PATCH replaces the patterns; one that stays keeps its filter.
    let whole = format!("/v1/endpoints/{}", text(&endpoint, "id"));
    let patch = json!({"event_types": ["message.*", "form.submitted"]});
    client.patch(&whole, patch).await.expect(200);
    let set =
        json!([subscription("form.submitted", json!(null)), subscription("message.*", json!("live_mode"))]);
    assert_eq!(client.get(&base).await.expect(200)["data"], set);
    // A PUT of the whole set says everything anew.
    client
        .put(&base, json!([{"event_type": "message.*"}, {"event_type": "form.*", "filter": "true"}]))
        .await
        .expect(200);
    let set = json!([subscription("form.*", json!("true")), subscription("message.*", json!(null))]);
    assert_eq!(client.get(&base).await.expect(200)["data"], set);

    let tag = client.get(&whole).await.headers["etag"].to_str().unwrap().to_owned();
    let before = Stored::read(&mut app.sql().await).await;
    let stale = client.with("if-match", "\"1\"");
    stale.put(&format!("{base}/form.*"), json!({})).await.problem(412);
    stale.delete(&format!("{base}/form.*")).await.problem(412);
    for nothing in ["a..b", "*.sent", "mess*", "a%20b", "%00", "%ff"] {
        put(nothing, json!({})).await.problem(404);
        client.delete(&format!("{base}/{nothing}")).await.problem(404);
    }
    client.delete(&format!("{base}/message.sent")).await.problem(404);
    stranger.client.put(&format!("{base}/form.*"), json!({})).await.problem(404);
    stranger.client.delete(&format!("{base}/form.*")).await.problem(404);
    assert_eq!(put("nope.*", json!({})).await.pointers(), ["/event_type"]);
    assert_eq!(put("nope.*", json!({"filter": "1 +"})).await.pointers(), ["/filter", "/event_type"]);
    assert_eq!(put("form.*", json!({"filter": 1})).await.pointers(), ["/filter"]);
    assert_eq!(put("form.*", json!({"event_type": "form.*"})).await.pointers(), ["/event_type"]);
    Stored::read(&mut app.sql().await).await.assert_same(&before, "what was refused");

    let current = client.with("if-match", &tag);
    current.delete(&format!("{base}/form.*")).await.expect(204);
    client.delete(&format!("{base}/form.*")).await.problem(404);
    assert_eq!(client.delete(&format!("{base}/message.*")).await.pointers(), ["/event_type"]);
    assert_eq!(client.get(&whole).await.expect(200)["event_types"], json!(["message.*"]));
    app.stop().await;
}

#[tokio::test]
async fn a_wrong_filter_is_refused_with_its_place() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(URL, json!({})).await;
    let base = path(&endpoint);
    let before = Stored::read(&mut app.sql().await).await;
    for (filter, told) in [
        ("", "empty"),
        ("data.labels contains 'x'", "column 13"),
        ("data.", "column"),
        ("body.x == 1", "character 1"),
        ("true && data.x.matches('(a+)+')", "matches"),
        ("data.x.exists(y, y == 1)", "loops"),
        ("a\u{0}", "U+0000"),
        (&"(".repeat(1_000), "nested"),
        (&"!".repeat(1_024), "column 1025"),
        (&"x".repeat(1_025), "1024 bytes"),
    ] {
        let refused = |reply: Reply, pointer: &str| {
            let problem = reply.problem(422);
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{filter}");
            assert!(text(&problem["errors"][0], "detail").contains(told), "{filter}: {problem}");
        };
        let set = json!([{"event_type": "message.sent"}, {"event_type": "*", "filter": filter}]);
        refused(tenant.client.put(&base, set).await, "/1/filter");
        let body = json!({"filter": filter});
        refused(tenant.client.put(&format!("{base}/*"), body).await, "/filter");
        let preview = json!({"event_type": "*", "filter": filter});
        refused(tenant.client.post(&format!("{base}/preview"), preview).await, "/filter");
    }
    Stored::read(&mut app.sql().await).await.assert_same(&before, "wrong filters");
    app.stop().await;
}

#[tokio::test]
async fn the_filters_of_a_location_are_limited() {
    let mut app = spawn().await;
    let tenant = app.tenant_with(json!({"allow_unknown_event_types": true})).await;
    let set = |count: usize, filter: Value| {
        (0..count).map(|n| subscription(&format!("t{n}"), filter.clone())).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let endpoint = tenant.endpoint(URL, json!({})).await;
        tenant.client.put(&path(&endpoint), json!(set(100, json!("live_mode")))).await.expect(200);
        tenant.client.put(&format!("{}/more", path(&endpoint)), json!({})).await.problem(409);
    }
    let endpoint = tenant.endpoint(URL, json!({})).await;
    tenant.client.put(&path(&endpoint), json!(set(1, json!("live_mode")))).await.problem(409);
    tenant.client.put(&path(&endpoint), json!(set(100, json!(null)))).await.expect(200);
    let elsewhere = tenant.client.post("/v1/locations", json!({"name": "Other"})).await.expect(201);
    let body = json!({"name": "E", "url": URL, "event_types": ["a"], "location_id": elsewhere["id"]});
    let endpoint = tenant.client.post("/v1/endpoints", body).await.expect(201);
    tenant.client.put(&path(&endpoint), json!(set(1, json!("live_mode")))).await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn a_filter_is_tried_on_the_latest_events() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(URL, json!({"event_types": ["contact.created"]})).await;
    let preview = format!("{}/preview", path(&endpoint));
    let body = json!({"event_type": "message.*", "filter": "data.n > 1"});
    assert_eq!(tenant.client.post(&preview, body.clone()).await.expect(200)["data"], json!([]));
    tenant.publish_batch("message.sent", 22).await;
    tenant.publish("contact.created", json!({"n": 7})).await;
    let odd = tenant.publish("message.read", json!({"m": 1})).await;
    let tried = tenant.client.post(&preview, body).await.expect(200);
    let tried = array(&tried, "data");
    assert_eq!(tried.len(), 20);
    assert_eq!((&tried[0]["event_id"], &tried[0]["matches"]), (&odd["id"], &json!(false)));
    assert!(text(&tried[0], "error").contains('n') && tried[0]["type"] == "message.read");
    assert!(tried[1..].iter().all(|one| one["type"] == "message.sent" && one["error"].is_null()));
    assert!(tried[1..].iter().all(|one| one["matches"] == true), "the latest ones");
    for (body, pointers) in [
        (json!({"event_type": "a b", "filter": "true"}), vec!["/event_type"]),
        (json!({"event_type": "*"}), vec!["/filter"]),
        (json!({"filter": "true"}), vec!["/event_type"]),
        (json!({"event_type": "", "filter": ""}), vec!["/event_type", "/filter"]),
    ] {
        assert_eq!(tenant.client.post(&preview, body.clone()).await.pointers(), pointers, "{body}");
    }
    app.stop().await;
}

#[tokio::test]
async fn an_event_says_why_other_endpoints_did_not_get_it() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let gets = tenant.endpoint(URL, json!({})).await;
    let other_type = tenant.endpoint(URL, json!({"event_types": ["contact.*", "posthaste.*"]})).await;
    let no = filtered(&tenant, "message.*", "data.n > 1").await;
    let fails = filtered(&tenant, "*", "data.missing == 1").await;
    let changed = filtered(&tenant, "*", "false").await;
    let elsewhere = tenant.client.post("/v1/locations", json!({"name": "Other"})).await.expect(201);
    let body = json!({"name": "E", "url": URL, "event_types": ["*"], "location_id": elsewhere["id"]});
    tenant.client.post("/v1/endpoints", body).await.expect(201);
    let event = tenant.publish("message.sent", json!({"n": 1})).await;
    assert_eq!(reached(&event), [text(&gets, "id")]);
    let later = tenant.endpoint(URL, json!({})).await;
    tenant.client.put(&format!("{}/*", path(&changed)), json!({"filter": "true"})).await.expect(200);
    let whole = tenant.client.get(&format!("/v1/events/{}", text(&event, "id"))).await.expect(200);
    assert_eq!(array(&whole, "deliveries").len(), 1);
    let found: Vec<(&str, &str)> = array(&whole, "not_matched")
        .iter()
        .map(|one| (text(one, "endpoint_id"), text(one, "reason")))
        .collect();
    let expected = [
        (&other_type, "event_type"),
        (&no, "filter"),
        (&fails, "filter_failed"),
        (&changed, "changed_later"),
        (&later, "created_later"),
    ];
    assert_eq!(found, expected.map(|(endpoint, reason)| (text(endpoint, "id"), reason)));
    assert!(text(&whole["not_matched"][0], "detail").contains("message.sent"));
    assert!(text(&whole["not_matched"][2], "detail").contains("missing"));
    app.stop().await;
}
