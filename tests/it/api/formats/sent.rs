//! What is sent in a wire format, and when.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha512;
use tokio::sync::Notify;

use super::{create, format, hmac_hex, of, signature, text};
use crate::helpers::{Answer, Receiver, receiver::Seen, spawn};

fn body(seen: &Seen) -> &str {
    std::str::from_utf8(&seen.body).unwrap()
}

#[tokio::test]
async fn a_receiver_verifies_every_signature_that_its_format_lists() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let mut signatures = json!([
        {"header": "X-Hub-Signature-256", "algorithm": "hmac-sha256", "key": "text", "content": "{{body}}",
            "encoding": "hex", "value": "sha256={{signature}}"},
        {"header": "X-Own-Timed", "algorithm": "hmac-sha512", "key": "base64", "content": "v0:{{timestamp}}:{{id}}:{{body}}",
            "encoding": "base64", "value": "v0={{signature}}", "multiple": true},
        {"header": "webhook-signature", "algorithm": "hmac-sha256", "key": "base64",
            "content": "{{id}}.{{timestamp}}.{{body}}", "encoding": "base64", "value": "v1,{{signature}}", "multiple": true},
    ]);
    // As many as may be.
    let more = signatures.as_array_mut().unwrap();
    more.extend((3..8).map(|number| signature(json!({"header": format!("x-{number}")}))));
    create(&tenant, json!({"signatures": signatures})).await.expect(201);
    let endpoint = tenant.endpoint(&receiver.url("/"), json!({"format": "own"})).await;
    assert_eq!(endpoint["format"], "own");
    tenant.publish("message.sent", json!({"n": 1.0, "text": "☺"})).await;
    let seen = receiver.next().await;
    assert_eq!(body(&seen), r#"{"event":"message.sent","payload":{"n":1,"text":"☺"}}"#);
    let secret = text(&endpoint, "secret");
    let hex = hmac_hex(secret.as_bytes(), &[&seen.body]);
    assert_eq!(seen.header("x-hub-signature-256"), format!("sha256={hex}"));
    for number in 3..8 {
        assert_eq!(seen.header(&format!("x-{number}")), hex);
    }
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
    let mut mac = Hmac::<Sha512>::new_from_slice(&key).unwrap();
    let (at, id) = (seen.header("webhook-timestamp"), seen.header("webhook-id"));
    mac.update(format!("v0:{at}:{id}:{}", body(&seen)).as_bytes());
    let expected = STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(seen.header("x-own-timed"), format!("v0={expected}"));
    standardwebhooks::Webhook::new(secret).unwrap().verify(&seen.body, &seen.headers).unwrap();
    app.stop().await;
}

#[tokio::test]
async fn an_edit_is_for_new_deliveries_and_those_under_way_keep_what_they_were_made_with() {
    let mut app = spawn().await;
    let mut other = app.another(posthaste::app::Roles { api: true, worker: false }).await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let old = json!({"envelope": {"v": 1, "data": "{{data}}"}, "retry_schedule_s": [1, 1, 1]});
    let before = create(&tenant, old).await.expect(201);
    let endpoint = tenant.endpoint(&receiver.url("/"), json!({"format": "own"})).await;
    receiver.script("/", [Answer::status(500), Answer::status(500), Answer::status(200)]);
    let first = tenant.publish("message.sent", json!({"n": 1})).await;
    let sent = receiver.next().await;
    assert_eq!(body(&sent), r#"{"v":1,"data":{"n":1}}"#);

    let new = format(json!({"envelope": {"v": 2, "data": "{{data}}"},
        "signatures": [signature(json!({"header": "X-New", "value": "new={{signature}}"}))]}));
    let after = other.with_key(&tenant.key).put("/v1/formats/own", new).await.expect(200);
    assert!(after["version"].as_i64() > before["version"].as_i64());
    assert_eq!(after["created_at"], before["created_at"]);
    for number in ["2", "3"] {
        let again = receiver.next().await;
        assert_eq!((again.header("x-posthaste-attempt"), &again.body), (number, &sent.body));
        assert_eq!(again.header("x-own-signature"), sent.header("x-own-signature"));
        assert_eq!(again.header("x-new"), "");
    }
    let done = tenant.delivery_when(&first, &endpoint, |one| one["status"] == "succeeded").await;
    assert_eq!(done["request"]["body"], body(&sent), "and so history shows it");

    // What both programs remember of the location is outdated.
    for program in [&app, &other] {
        let path = format!("/v1/locations/{}/events", tenant.location_id);
        let event = json!({"type": "message.sent", "data": {"n": 2}});
        program.with_key(&tenant.key).post(&path, event).await.expect(202);
        let seen = receiver.next().await;
        assert_eq!(body(&seen), r#"{"v":2,"data":{"n":2}}"#);
        let hex = hmac_hex(text(&endpoint, "secret").as_bytes(), &[&seen.body]);
        assert_eq!(seen.header("x-new"), format!("new={hex}"));
    }

    // A delivery that is sent again long after keeps it, too, even where the format is gone by then.
    tenant.client.delete("/v1/formats/own").await.problem(409);
    let path = format!("/v1/endpoints/{}", text(&endpoint, "id"));
    tenant.client.patch(&path, json!({"format": null})).await.expect(200);
    tenant.client.delete("/v1/formats/own").await.expect(204);
    tenant.client.get("/v1/formats/own").await.problem(404);
    tenant.tell_delivery(&first, &endpoint, "retry").await.expect(202);
    let again = receiver.next().await;
    assert_eq!((again.header("x-posthaste-attempt"), &again.body), ("4", &sent.body));
    other.stop().await;
    app.stop().await;
}

#[tokio::test]
async fn schedule_timeout_and_success_are_the_formats_unless_the_endpoint_says_otherwise() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    create(&tenant, json!({"success": [202], "retry_schedule_s": []})).await.expect(201);
    let once = tenant.endpoint(&receiver.url("/once"), json!({"format": "own"})).await;
    let again = json!({"format": "own", "retry_schedule_s": [1]});
    let again = tenant.endpoint(&receiver.url("/again"), again).await;
    receiver.script("/again", [Answer::status(200), Answer::status(202)]);
    let event = tenant.publish("message.sent", json!({})).await;
    let failed = tenant.delivery_when(&event, &once, |one| one["status"] != "pending").await;
    assert_eq!((&failed["status"], &failed["attempt_count"]), (&json!("failed"), &json!(1)));
    assert_eq!(failed["last_response_status"], 200, "which is not this format's success");
    let healed = tenant.delivery_when(&event, &again, |one| one["status"] != "pending").await;
    assert_eq!((&healed["status"], &healed["attempt_count"]), (&json!("succeeded"), &json!(2)));
    receiver.take(3).await;
    tenant.client.delete(&of(&once)).await.expect(204);
    tenant.client.delete(&of(&again)).await.expect(204);

    // Both receivers hang: the format's second ends the one attempt, the endpoint's own time lets the other be answered.
    let hasty = json!({"name": "hasty", "timeout_ms": 1_000, "retry_schedule_s": []});
    create(&tenant, hasty).await.expect(201);
    let gate = Arc::new(Notify::new());
    receiver.script("/hangs", [Answer::never()]);
    receiver.script("/waits", [Answer::status(200).behind(&gate)]);
    let hangs = tenant.endpoint(&receiver.url("/hangs"), json!({"format": "hasty"})).await;
    let waits = json!({"format": "hasty", "timeout_ms": 30_000});
    let waits = tenant.endpoint(&receiver.url("/waits"), waits).await;
    let event = tenant.publish("message.sent", json!({})).await;
    receiver.take(2).await;
    let cut = tenant.delivery_when(&event, &hangs, |one| one["status"] == "failed").await;
    assert_eq!(cut["attempts"][0]["error"], "timeout");
    gate.notify_one();
    tenant.delivery_when(&event, &waits, |one| one["status"] == "succeeded").await;
    app.stop().await;
}
