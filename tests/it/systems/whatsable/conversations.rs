//! What arrives, what counts as taken, and what to do when nothing arrives.

use std::str::from_utf8;

use posthaste::types::ecma_json::normalise;
use serde_json::{Value, json};

use super::{GET, account, delete_path, endpoint, make};
use crate::{
    helpers::{Answer, Receiver, Tenant, TestApp, spawn, spawn_with},
    systems::{hmac_hex, path, sample, text, waits_s},
};

/// The page's media message.
const DOCUMENT: &str = r#"{
    "last_messages": [
      {"type": "user", "content": "", "timestamp": "2025-06-09T14:05:12.000Z", "content_type": "document",
        "media_url": "https://api.insightssystem.com/vault/contract_v2.pdf"},
      {"type": "bot", "content": "Please send the signed contract when ready.",
        "timestamp": "2025-06-09T14:03:20.000Z", "content_type": "text"}
    ],
    "conversation_paragraph": "User (2:05:12 PM): [Document] ; Bot (2:03:20 PM): Please send the signed contract when ready.",
    "phone_number": "14155552671",
    "recipient_name": "Alex Martinez",
    "user_id": "9232fcef-a570-4a2c-b46b-6cab53aec304",
    "last_message_of_user": "",
    "last_message_of_bot": "Please send the signed contract when ready.",
    "message_type": "document",
    "user_last_message_time": 1749472312,
    "bot_last_message_time": 1749472200,
    "attachment_url": "https://api.insightssystem.com/vault/contract_v2.pdf",
    "note": "",
    "note_automation": "",
    "labels": "contracts"
  }"#;

/// An account with one webhook.
async fn start() -> (TestApp, Receiver, Tenant) {
    let app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = account(&app).await;
    make(&tenant.client, &receiver.url("/webhook")).await;
    (app, receiver, tenant)
}

#[tokio::test]
async fn conversations_arrive_bare_and_signed() {
    // An operator who wants https of everybody else.
    let mut app = spawn_with(&["--allow-http", "false"]).await;
    let mut receiver = Receiver::start().await;
    let tenant = account(&app).await;
    make(&tenant.client, &receiver.url("/webhook")).await;
    let secret = text(&endpoint(&tenant).await, "secret").to_owned();
    let own = sample(&tenant, "message.incoming").await.to_string();
    for data in [own.as_str(), DOCUMENT] {
        let event = tenant.publish_raw(data).await.expect(202);
        let seen = receiver.next().await;
        assert_eq!((seen.method.as_str(), seen.header("content-type")), ("POST", "application/json"));
        assert_eq!(seen.header("webhook-id"), text(&event, "id"));
        assert_eq!(from_utf8(&seen.body).unwrap(), normalise(data).unwrap());
        let library = standardwebhooks::Webhook::new(&secret).unwrap();
        library.verify(&seen.body, &seen.headers).unwrap();
        assert_eq!(seen.header("x-webhook-signature"), hmac_hex(&secret, &seen.body));
        let tampered = from_utf8(&seen.body).unwrap().replace("phone", "Phone");
        assert!(library.verify(tampered.as_bytes(), &seen.headers).is_err());
    }
    // What is no conversation is refused when it is published.
    let broken = DOCUMENT.replace(r#""message_type": "document""#, r#""message_type": "fax""#);
    assert_eq!(tenant.publish_raw(&broken).await.pointers(), ["/data/message_type"]);
    app.stop().await;
}

#[tokio::test]
async fn any_2xx_within_10_s_will_do_and_all_else_comes_again() {
    let (mut app, mut receiver, tenant) = start().await;
    let answers = [200, 201, 204, 302, 500, 500, 299];
    receiver.script("/webhook", answers.map(Answer::status));
    let endpoint = endpoint(&tenant).await;
    let preset = tenant.client.get("/v1/presets/whatsable").await.expect(200);
    assert_eq!(preset["format"]["timeout_ms"], 10_000);
    assert_eq!((&endpoint["format"], &endpoint["timeout_ms"]), (&json!("whatsable"), &Value::Null));
    let data = sample(&tenant, "message.incoming").await;
    for _ in 0..3 {
        let event = tenant.publish("message.incoming", data.clone()).await;
        tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    }
    receiver.take(3).await;
    let event = tenant.publish("message.incoming", data).await;
    for (count, seconds) in [(1, 10), (2, 60), (3, 300)] {
        let delivery = tenant.delivery_when(&event, &endpoint, |one| one["attempt_count"] == count).await;
        assert_eq!(delivery["status"], "pending");
        assert!(waits_s(&delivery, seconds), "{delivery}");
        tenant.tell_delivery(&event, &endpoint, "retry").await.expect(202);
    }
    tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    // One that keeps `phone_number` and `user_last_message_time` does nothing twice.
    let seen = receiver.take(4).await;
    assert!(seen.iter().all(|one| one.body == seen[0].body));
    app.stop().await;
}

/// "Already tried everything and it still doesn't work."
#[tokio::test]
async fn stale_and_double_registrations_are_found_and_deleted() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = account(&app).await;
    let mut made = Vec::new();
    for url in ["/test/7f3a", "/production", "/production"] {
        made.push(make(&tenant.client, &receiver.url(url)).await);
    }
    let count = async || tenant.client.get("/v1/endpoints").await.expect(200)["active_count"].clone();
    assert_eq!(count().await, 3);
    let found = tenant.client.get("/v1/endpoints?q=production").await.expect(200);
    assert_eq!(found["data"].as_array().unwrap().len(), 2);
    let data = sample(&tenant, "message.incoming").await;
    tenant.publish("message.incoming", data.clone()).await;
    receiver.take(3).await;

    for stale in &made[..2] {
        tenant.client.delete(&delete_path(stale)).await.expect(200);
    }
    assert_eq!(tenant.client.get(GET).await.expect(200), json!([made[2]]));
    assert_eq!(count().await, 1);
    tenant.publish("message.incoming", data).await;
    assert_eq!(receiver.next().await.path, "/production");
    app.stop().await;
    assert!(receiver.rest().is_empty());
}

/// "Ensure your server returns a 2xx response — otherwise deliveries may be dropped": they are kept.
#[tokio::test]
async fn what_a_broken_server_missed_is_kept_and_sent_again() {
    let (mut app, mut receiver, tenant) = start().await;
    receiver.script("/webhook", [500, 410, 200].map(Answer::status));
    let endpoint = endpoint(&tenant).await;
    tenant.client.patch(&path(&endpoint), json!({"retry_schedule_s": []})).await.expect(200);
    let data = sample(&tenant, "message.incoming").await;
    let failed = tenant.publish("message.incoming", data.clone()).await;
    tenant.delivery_when(&failed, &endpoint, |one| one["status"] == "failed").await;
    tenant.endpoint_when(&endpoint, |one| one["status"] == "failing").await;
    let gone = tenant.publish("message.incoming", data.clone()).await;
    tenant.endpoint_when(&endpoint, |one| one["status"] == "disabled").await;
    let held = tenant.publish("message.incoming", data).await;
    assert_eq!(held["deliveries"][0]["status"], "held");
    receiver.take(2).await;

    assert_eq!(tenant.tell(&endpoint, "resume").await["status"], "active");
    assert_eq!(receiver.next().await.header("webhook-id"), held["id"]);
    let recover = json!({"since": "2026-01-01T00:00:00Z"});
    let job = tenant.client.post(&format!("{}/recover", path(&endpoint)), recover).await.expect(202);
    assert_eq!(tenant.job_ended(&job).await["done"], 2);
    for event in [&failed, &gone] {
        tenant.delivery_when(event, &endpoint, |one| one["status"] == "succeeded").await;
    }
    receiver.take(2).await;
    app.stop().await;
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn it_is_tried_out_read_up_and_given_a_new_secret() {
    let (mut app, mut receiver, tenant) = start().await;
    receiver.script("/webhook", [Answer::status(200).body("OK")]);
    let endpoint = endpoint(&tenant).await;
    let attempt = tenant.client.poke(&format!("{}/test", path(&endpoint))).await.expect(200);
    let data = sample(&tenant, "message.incoming").await;
    assert_eq!(receiver.next().await.json(), data);
    assert_eq!((&attempt["outcome"], &attempt["response"]["body"]), (&json!("succeeded"), &json!("OK")));

    // Both secrets sign for a day, but where there is room for one.
    let rotated = tenant.client.poke(&format!("{}/secret/rotate", path(&endpoint))).await.expect(200);
    let event = tenant.publish("message.incoming", data).await;
    let seen = receiver.next().await;
    let secrets = [text(&endpoint, "secret"), text(&rotated, "secret")];
    for secret in secrets {
        standardwebhooks::Webhook::new(secret).unwrap().verify(&seen.body, &seen.headers).unwrap();
    }
    let simple = seen.header("x-webhook-signature");
    assert_eq!(secrets.map(|secret| simple == hmac_hex(secret, &seen.body)), [false, true]);

    // "Log everything": so do we.
    let record = tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    assert_eq!(record["request"]["body"], from_utf8(&seen.body).unwrap());
    assert_eq!(record["attempts"][0]["response"]["body"], "OK");
    let history = tenant.client.get(&format!("{}/deliveries", path(&endpoint))).await.expect(200);
    assert_eq!(history["data"][0]["event_id"], event["id"]);
    assert_eq!(history["data"].as_array().unwrap().len(), 1, "a test is no delivery");
    app.stop().await;
}
