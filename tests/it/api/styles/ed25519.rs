//! Signatures that a public key verifies: a format of a tenant's own, and the key wherever the secret is shown.

use serde_json::{Value, json};

use super::{Python, rotate, sent, tampered, text, verifies_preview, with_header};
use crate::helpers::{Receiver, app::Tenant, spawn};

/// Standard Webhooks, asymmetric.
async fn make_format(tenant: &Tenant, name: &str) {
    let format = json!({
        "name": name,
        "envelope": {"id": "{{id}}", "type": "{{type}}", "data": "{{data}}"},
        "signatures": [{"header": "webhook-signature", "algorithm": "ed25519", "key": "base64",
            "content": "{{id}}.{{timestamp}}.{{body}}", "encoding": "base64", "value": "v1a,{{signature}}", "multiple": true}],
    });
    let made = tenant.client.post("/v1/formats", format).await.expect(201);
    assert_eq!(made["signatures"][0]["algorithm"], "ed25519");
    assert_eq!(made["signatures"][0]["timestamp_header"], "webhook-timestamp");
}

async fn shown(tenant: &Tenant, endpoint: &Value) -> Value {
    tenant.client.get(&format!("/v1/endpoints/{}/secret", text(endpoint, "id"))).await.expect(200)
}

#[tokio::test]
async fn a_public_key_verifies_what_is_sent_also_while_the_secret_changes() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let mut python = Python::start();
    make_format(&tenant, "asymmetric").await;
    let preview = json!({"format": "asymmetric", "event": {"type": "message.sent", "data": {"n": 1}}});
    let preview = tenant.client.post("/v1/formats/preview", preview).await.expect(200);
    verifies_preview(&mut python, "ed25519", text(&preview["signed_with"], "public_key"), &preview);
    let endpoint = tenant.endpoint(&receiver.url("/"), json!({"format": "asymmetric"})).await;
    let old = text(&endpoint, "public_key");
    assert_eq!(shown(&tenant, &endpoint).await["public_key"], old);
    let (event, seen) = sent(&tenant, &mut receiver).await;
    python.accepts("ed25519", old, &seen);
    python.refuses("ed25519", old, &tampered(&seen));
    python.refuses("ed25519", old, &with_header(&seen, "webhook-id", "evt_other"));
    python.refuses_when_stale("ed25519", old, &seen);
    let done = tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    let told = &done["attempts"][0]["request"]["headers"];
    assert_eq!(told["webhook-signature"], seen.header("webhook-signature"), "history signs the same");

    let rotated = rotate(&tenant, &endpoint, json!({})).await;
    let new = text(&rotated, "public_key");
    assert_ne!(new, old);
    assert_eq!(shown(&tenant, &endpoint).await, rotated);
    let (_, during) = sent(&tenant, &mut receiver).await;
    assert_eq!(during.header("webhook-signature").split(' ').count(), 2);
    for key in [old, new] {
        python.accepts("ed25519", key, &during);
        python.refuses("ed25519", key, &tampered(&during));
    }
    python.refuses("ed25519", new, &seen);
    app.stop().await;
}

#[tokio::test]
async fn a_key_pair_is_there_for_formats_that_need_one_and_for_secrets_that_nobody_can_guess() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    make_format(&tenant, "asymmetric").await;
    let url = "http://127.0.0.1:9999/";
    let foreign = json!({"name": "E", "url": url, "event_types": ["*"], "format": "asymmetric", "secret": "correct horse".replace(' ', "-") + "-battery"});
    assert_eq!(tenant.client.post("/v1/endpoints", foreign).await.pointers(), ["/secret"]);
    let endpoint = tenant.endpoint(url, json!({"format": "standard"})).await;
    assert_eq!(endpoint.get("public_key"), None);
    assert_eq!(shown(&tenant, &endpoint).await["public_key"], Value::Null);
    let path = format!("/v1/endpoints/{}", text(&endpoint, "id"));
    tenant.client.patch(&path, json!({"format": "asymmetric"})).await.expect(200);
    assert!(text(&shown(&tenant, &endpoint).await, "public_key").starts_with("whpk_"));
    let rotate = format!("{path}/secret/rotate");
    let foreign = json!({"secret": "correct-horse-battery"});
    assert_eq!(tenant.client.post(&rotate, foreign.clone()).await.pointers(), ["/secret"]);
    tenant.client.patch(&path, json!({"format": "github"})).await.expect(200);
    assert_eq!(tenant.client.post(&rotate, foreign).await.expect(200)["public_key"], Value::Null);
    assert_eq!(tenant.client.patch(&path, json!({"format": "asymmetric"})).await.pointers(), ["/format"]);
    app.stop().await;
}
