//! Wire formats and the endpoints that have them.

use serde_json::{Value, json};

use super::{create, format, merge, of, signature, text, without_name};
use crate::helpers::{Receiver, spawn, spawn_with, sql::Sql};

#[tokio::test]
async fn endpoints_that_name_no_format_have_the_tenants() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let operator = app.operator();
    let tenant = app.tenant_with(json!({"format": "slack"})).await;
    let path = format!("/v1/tenants/{}", tenant.id);
    let patch = async |format: Value| operator.patch(&path, json!({"format": format})).await;
    let first = tenant.endpoint(&receiver.url("/"), json!({})).await;
    assert_eq!(first["format"], "slack");
    tenant.publish("message.sent", json!({})).await;
    assert!(receiver.next().await.header("x-slack-signature").starts_with("v0="));

    assert_eq!(patch(json!("own")).await.pointers(), ["/format"], "there is none yet");
    create(&app.tenant().await, json!({})).await.expect(201);
    assert_eq!(patch(json!("own")).await.pointers(), ["/format"], "it is another tenant's");
    create(&tenant, json!({})).await.expect(201);
    assert_eq!(patch(json!("own")).await.expect(200)["format"], "own");
    let second = tenant.endpoint(&receiver.url("/"), json!({})).await;
    let named = tenant.endpoint(&receiver.url("/"), json!({"format": "github"})).await;
    assert_eq!((&second["format"], &named["format"]), (&json!("own"), &json!("github")));
    assert_eq!(tenant.client.get(&of(&first)).await.expect(200)["format"], "slack", "it keeps its own");
    let back = tenant.client.patch(&of(&named), json!({"format": null})).await.expect(200);
    assert_eq!(back["format"], "own");

    for endpoint in [&second, &named] {
        tenant.client.patch(&of(endpoint), json!({"format": "shopify"})).await.expect(200);
    }
    let refusal = tenant.client.delete("/v1/formats/own").await.problem(409);
    assert!(text(&refusal, "detail").contains("name none"), "{refusal}");
    assert_eq!(patch(Value::Null).await.expect(200)["format"], Value::Null);
    assert_eq!(tenant.endpoint(&receiver.url("/"), json!({})).await["format"], "standard");
    tenant.client.delete("/v1/formats/own").await.expect(204);
    app.stop().await;
}

#[tokio::test]
async fn endpoints_are_held_to_their_format_and_formats_to_their_endpoints() {
    let mut app = spawn_with(&["--allow-http", "false"]).await;
    let tenant = app.tenant().await;
    let operator = app.operator().with("posthaste-tenant", &tenant.id);
    let client = &tenant.client;
    let endpoint = |fields: Value| {
        let mut body =
            json!({"name": "E", "url": "https://e.example.com/", "event_types": ["*"], "format": "own"});
        merge(&mut body, fields);
        body
    };
    let post = async |fields| client.post("/v1/endpoints", endpoint(fields)).await;
    assert_eq!(post(json!({})).await.pointers(), ["/format"], "there is none yet");
    let open = format(json!({"allow_http": true}));
    operator.post("/v1/formats", open).await.expect(201);
    let plain = post(json!({"url": "http://e.example.com/"})).await.expect(201);
    let foreign = post(json!({"secret": "0123456789abcdef"})).await.expect(201);
    let headed = post(json!({"headers": {"X-Mine": "1"}})).await.expect(201);
    assert_eq!(
        post(json!({"headers": {"x-own-signature": "1"}})).await.pointers(),
        ["/headers/x-own-signature"]
    );

    let put = async |fields| client.put("/v1/formats/own", format(fields)).await;
    let names = |problem: Value, endpoint: &Value| text(&problem, "detail").contains(text(endpoint, "id"));
    assert!(names(put(json!({})).await.problem(409), &plain), "http is in use");
    let base64 = json!({"allow_http": true, "signatures": [signature(json!({"key": "base64"}))]});
    assert!(names(put(base64.clone()).await.problem(409), &foreign));
    let header = json!({"allow_http": true, "signatures": [signature(json!({"header": "X-MINE"}))]});
    assert!(names(put(header).await.problem(409), &headed));
    // Open already, so it may stay open; closed, only the operator opens it again.
    put(json!({"allow_http": true, "timeout_ms": 2_000})).await.expect(200);
    client.delete(&format!("/v1/endpoints/{}", text(&plain, "id"))).await.expect(204);
    put(json!({})).await.expect(200);
    assert_eq!(put(json!({"allow_http": true})).await.pointers(), ["/allow_http"]);
    let path = format!("/v1/endpoints/{}", text(&foreign, "id"));
    assert_eq!(client.patch(&path, json!({"format": "standard"})).await.pointers(), ["/format"]);
    client.post(&format!("{path}/secret/rotate"), json!({})).await.expect(200);
    assert_eq!(client.patch(&path, json!({"format": "nope"})).await.pointers(), ["/format"]);

    // Another tenant's format is none, and the same name is free there.
    let other = app.tenant().await;
    let body = endpoint(json!({}));
    assert_eq!(other.client.post("/v1/endpoints", body).await.pointers(), ["/format"]);
    create(&other, json!({})).await.expect(201);
    app.stop().await;
}

#[tokio::test]
async fn however_edits_and_endpoints_meet_every_endpoint_has_the_version_that_its_format_is_at() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    create(&tenant, json!({})).await.expect(201);
    let others = json!({"name": "E", "url": "http://127.0.0.1:9999/", "event_types": ["*"]});
    let moving = tenant.client.post("/v1/endpoints", others.clone()).await.expect(201);
    let moving = format!("/v1/endpoints/{}", text(&moving, "id"));
    let mut calls = tokio::task::JoinSet::new();
    for round in 0..8 {
        let (client, moving, mut endpoint) = (tenant.client.clone(), moving.clone(), others.clone());
        endpoint["format"] = json!("own");
        calls.spawn(async move {
            let edit = without_name(format(json!({"timeout_ms": 1_000 + round})));
            let own = json!({"name": format!("own.type{round}"), "description": "d"});
            let format = if round % 2 == 0 { "own" } else { "standard" };
            let (edited, made, moved, typed) = tokio::join!(
                client.put("/v1/formats/own", edit),
                client.post("/v1/endpoints", endpoint),
                client.patch(&moving, json!({"format": format})),
                client.post("/v1/event-types", own),
            );
            [edited.status, made.status, moved.status, typed.status]
        });
    }
    while let Some(statuses) = calls.join_next().await {
        assert_eq!(statuses.unwrap(), [200, 201, 200, 201]);
    }
    let mut sql = Sql::open(&app.database).await;
    let outdated = "SELECT count(*) FROM endpoints e JOIN wire_formats f ON f.tenant_id = e.tenant_id AND f.name = e.format
                    WHERE e.format_version <> f.version";
    assert_eq!(sql.count(outdated).await, 0);
    assert_eq!(sql.count("SELECT count(*) FROM wire_format_versions").await, 9, "all are kept");
    app.stop().await;
}
