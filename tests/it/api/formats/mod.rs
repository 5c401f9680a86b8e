//! Wire formats of a tenant's own: what may be one, who may use it, and what an edit changes.

mod endpoints;
mod refused;
mod sent;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{array, text};
use crate::helpers::{app::Tenant, client::Reply, spawn};

/// A format that is right, with these fields in place of its own.
fn format(fields: Value) -> Value {
    let mut format = json!({
        "name": "own",
        "envelope": {"event": "{{type}}", "payload": "{{data}}"},
        "signatures": [signature(json!({}))],
    });
    merge(&mut format, fields);
    format
}

fn merge(object: &mut Value, fields: Value) {
    let (Value::Object(object), Value::Object(fields)) = (object, fields) else { panic!("not objects") };
    object.extend(fields);
}

fn signature(fields: Value) -> Value {
    let mut signature = json!({"header": "X-Own-Signature", "algorithm": "hmac-sha256", "key": "text",
        "content": "{{body}}", "encoding": "hex"});
    merge(&mut signature, fields);
    signature
}

fn without_name(mut format: Value) -> Value {
    format.as_object_mut().unwrap().remove("name");
    format
}

fn of(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", text(endpoint, "id"))
}

async fn create(tenant: &Tenant, fields: Value) -> Reply {
    tenant.client.post("/v1/formats", format(fields)).await
}

fn hmac_hex(key: &[u8], parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn built_in_formats_are_listed_and_read_only() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let made = create(&tenant, json!({})).await.expect(201);
    assert_eq!((&made["built_in"], &made["name"]), (&json!(false), &json!("own")));
    assert!(made["version"].as_i64().unwrap() >= 1_000);
    let all = tenant.client.get("/v1/formats").await.expect(200);
    let names: Vec<&str> = array(&all, "data").iter().map(|one| text(one, "name")).collect();
    assert_eq!(
        names,
        [
            "standard",
            "messagesync",
            "whatsable",
            "aisoule",
            "whatssync",
            "whatsapp_platform",
            "stripe",
            "github",
            "shopify",
            "slack",
            "own"
        ]
    );
    for one in array(&all, "data") {
        let path = format!("/v1/formats/{}", text(one, "name"));
        assert_eq!(tenant.client.get(&path).await.expect(200), *one);
        create(&tenant, json!({"name": one["name"]})).await.problem(409);
        if one["built_in"] == true {
            assert_eq!(one["created_at"], Value::Null);
            tenant.client.put(&path, without_name(format(json!({})))).await.problem(409);
            tenant.client.delete(&path).await.problem(409);
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn a_format_is_shown_as_it_was_made_with_the_contracts_defaults() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let made = create(&tenant, json!({})).await.expect(201);
    for (field, value) in [
        ("success", json!("2xx")),
        ("timeout_ms", json!(10_000)),
        ("retry_schedule_s", json!([10, 60, 300])),
        ("allow_http", json!(false)),
        ("honor_retry_after", json!(true)),
        ("disable_on_410", json!(true)),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    assert_eq!(made["signatures"][0]["value"], "{{signature}}");
    let all = json!({
        "name": "all_fields",
        // The order of keys is the order on the wire.
        "envelope": {"z": "{{id}}", "a": ["{{created_at}}", 1.5, null], "m": {"object": "{{data}}"}},
        "signatures": [signature(json!({"value": "sha256={{signature}}", "multiple": true}))],
        "success": [200, 409], "timeout_ms": 30_000, "retry_schedule_s": vec![60; 15],
        "honor_retry_after": false, "disable_on_410": false,
    });
    let made = tenant.client.post("/v1/formats", all.clone()).await.expect(201);
    let read = tenant.client.get("/v1/formats/all_fields").await.expect(200);
    for (field, value) in all.as_object().unwrap() {
        if field != "signatures" {
            assert_eq!((&made[field], &read[field]), (value, value), "{field}");
        }
    }
    let keys: Vec<&String> = read["envelope"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["z", "a", "m"]);
    app.stop().await;
}

#[tokio::test]
async fn a_preview_is_the_exact_request() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let client = &tenant.client;
    create(&tenant, json!({})).await.expect(201);
    let event = json!({"type": "message.sent", "data": {"b": 1, "1": 1.0}, "channel": "sms"});
    for of in [json!("own"), format(json!({}))] {
        let preview = json!({"format": of, "event": event});
        let shown = client.post("/v1/formats/preview", preview).await.expect(200);
        assert_eq!(shown["method"], "POST");
        assert_eq!(shown["body"], r#"{"event":"message.sent","payload":{"1":1,"b":1}}"#);
        let secret = text(&shown["signed_with"], "secret");
        let hex = hmac_hex(secret.as_bytes(), &[text(&shown, "body").as_bytes()]);
        assert_eq!(shown["headers"]["x-own-signature"], hex);
        assert_eq!(shown["headers"]["content-type"], "application/json");
        assert!(text(&shown["headers"], "user-agent").starts_with("Posthaste/"));
    }
    let preview = json!({"format": "standard", "event": event});
    let shown = client.post("/v1/formats/preview", preview).await.expect(200);
    let headers = shown["headers"].as_object().unwrap();
    let at = shown["signed_with"]["at"].as_str().unwrap();
    assert!(text(&shown, "body").contains(at), "it happens when it is sent, unless it says otherwise");
    let (id, seconds) =
        (headers["webhook-id"].as_str().unwrap(), headers["webhook-timestamp"].as_str().unwrap());
    let signed = format!("{id}.{seconds}.{}", text(&shown, "body"));
    let library = standardwebhooks::Webhook::new(text(&shown["signed_with"], "secret")).unwrap();
    let expected = library.sign(id, seconds.parse().unwrap(), text(&shown, "body").as_bytes()).unwrap();
    assert_eq!(headers["webhook-signature"], expected, "{signed}");

    for (body, pointers) in [
        (json!({"format": "nope", "event": event}), vec!["/format"]),
        (json!({"format": 1, "event": event}), vec!["/format"]),
        (json!({"format": null, "event": event}), vec!["/format"]),
        (json!({"format": "whatsable", "event": {"type": "a", "data": 1}}), vec!["/event/data"]),
        (json!({"format": "standard", "event": {"type": "a b", "data": 1}}), vec!["/event/type"]),
        (json!({"format": "standard", "event": {"type": "a"}}), vec!["/event/data"]),
        (json!({"format": "nope", "event": {"type": "", "data": 1}}), vec!["/format", "/event/type"]),
        (json!({"event": event}), vec!["/format"]),
    ] {
        assert_eq!(client.post("/v1/formats/preview", body.clone()).await.pointers(), pointers, "{body}");
    }
    app.stop().await;
}

/// The names on each page from this path on, in the order in which the pages were read.
async fn names_by_page(tenant: &Tenant, list: &str, mut query: String, onwards: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    loop {
        let page = tenant.client.get(&format!("{list}?limit=4{query}")).await.expect(200);
        pages.push(array(&page, "data").iter().map(|one| text(one, "name").to_owned()).collect());
        match page[onwards].as_str() {
            Some(cursor) => query = format!("&cursor={cursor}"),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn catalogues_come_in_pages_that_stay_put() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    for name in ["c", "a_b", "a", "b"] {
        create(&tenant, json!({"name": name})).await.expect(201);
    }
    for list in ["/v1/formats", "/v1/presets", "/v1/event-types"] {
        let all = tenant.client.get(&format!("{list}?limit=250")).await.expect(200);
        assert_eq!((&all["next_cursor"], &all["prev_cursor"]), (&Value::Null, &Value::Null));
        let names: Vec<&str> = array(&all, "data").iter().map(|one| text(one, "name")).collect();
        let forth = names_by_page(&tenant, list, String::new(), "next_cursor").await;
        assert_eq!(forth.concat(), names, "{list}");
        assert!(forth.len() > 1 && forth.iter().all(|page| !page.is_empty()), "{list}");
    }

    let second = tenant.client.get("/v1/formats?limit=11").await.expect(200);
    assert_eq!(text(&array(&second, "data")[10], "name"), "a");
    let onwards = format!("&cursor={}", text(&second, "next_cursor"));
    // The entry at the edge goes, and one comes before it.
    tenant.client.delete("/v1/formats/a").await.expect(204);
    create(&tenant, json!({"name": "0"})).await.expect(201);
    let rest = names_by_page(&tenant, "/v1/formats", onwards.clone(), "next_cursor").await;
    assert_eq!(rest, [["a_b", "b", "c"]]);
    let page = tenant.client.get(&format!("/v1/formats?limit=4{onwards}")).await.expect(200);
    let back = format!("&cursor={}", text(&page, "prev_cursor"));
    let before = names_by_page(&tenant, "/v1/formats", back, "prev_cursor").await;
    assert_eq!(before[0], ["github", "shopify", "slack", "0"]);
    assert_eq!(before[1], ["aisoule", "whatssync", "whatsapp_platform", "stripe"]);
    assert_eq!(before[2..], [["standard", "messagesync", "whatsable"]]);
    app.stop().await;
}
