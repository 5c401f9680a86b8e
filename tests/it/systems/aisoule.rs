//! AIsoule: Settings → Webhooks, nine events, signatures, exactly 200, the ladder and what is failing after it.

use std::str::from_utf8;

use posthaste::types::ecma_json::normalise;
use serde_json::{Value, json};

use super::{hmac_hex, path, sample, text, waits_s};
use crate::helpers::{Answer, Receiver, TestApp, app::Tenant, receiver::Seen, spawn, spawn_with};

const EVENTS: [&str; 9] = [
    "message.incoming",
    "message.sent",
    "message.delivered",
    "message.read",
    "message.failed",
    "contact.created",
    "contact.updated",
    "campaign.completed",
    "transfer.created",
];
const AT: &str = "2026-05-29T10:30:00.250Z";
const AT_S: &str = "2026-05-29T10:30:00Z";

/// The page's payload.
const INCOMING: &str = r#"{
  "event": "message.incoming",
  "timestamp": "2026-05-29T10:30:00Z",
  "data": {
    "message_id": "wamid.xxx",
    "from": "+919876543210",
    "contact_name": "John Doe",
    "type": "text",
    "text": "Hello, I need help with my order",
    "whatsapp_account_id": "uuid"
  }
}"#;

async fn start() -> (TestApp, Receiver, Tenant) {
    let app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant_with(json!({"preset": "aisoule", "validate_payloads": true})).await;
    (app, receiver, tenant)
}

/// The page's `verify_signature`.
fn verifies(seen: &Seen, secret: &str) -> bool {
    hmac_hex(secret, &seen.body) == seen.header("x-webhook-signature")
}

async fn publish(tenant: &Tenant, event_type: &str, data: &Value) -> Value {
    tenant.try_publish(json!({"type": event_type, "timestamp": AT, "data": data})).await.expect(202)
}

#[tokio::test]
async fn a_webhook_has_a_name_an_https_url_events_and_a_secret() {
    let mut app = spawn_with(&["--allow-http", "false"]).await;
    let client = app.tenant_with(json!({"preset": "aisoule"})).await.client;
    let good = json!({"name": "CRM Sync", "url": "https://crm.example.com/hook", "event_types": EVENTS});
    for (field, wrong) in [
        ("name", Value::Null),
        ("url", json!("http://crm.example.com/hook")),
        ("url", json!("https://192.168.0.7/hook")),
        ("event_types", json!([])),
        ("event_types", json!(["message.status"])),
    ] {
        let mut body = good.clone();
        match wrong {
            Value::Null => drop(body.as_object_mut().unwrap().shift_remove(field)),
            wrong => body[field] = wrong,
        }
        let pointers = client.post("/v1/endpoints", body).await.pointers();
        assert!(pointers[0].starts_with(&format!("/{field}")), "{pointers:?}");
    }
    let made = client.post("/v1/endpoints", good.clone()).await.expect(201);
    assert_eq!((&made["name"], &made["url"]), (&good["name"], &good["url"]));
    let mut events = EVENTS;
    events.sort_unstable();
    assert_eq!(made["event_types"], json!(events));
    let shown = client.get(&format!("{}/secret", path(&made))).await.expect(200);
    assert_eq!(shown["secret"], made["secret"]);
    assert!(text(&made, "secret").starts_with("whsec_"));
    app.stop().await;
}

#[tokio::test]
async fn each_event_arrives_as_the_page_shows_it_and_verifies() {
    let (mut app, mut receiver, tenant) = start().await;
    let endpoint = tenant.endpoint(&receiver.url("/webhook"), json!({"event_types": EVENTS})).await;
    let secret = text(&endpoint, "secret");
    let mut cases = vec![("message.incoming", normalise(INCOMING).unwrap())];
    for event_type in EVENTS {
        let data = sample(&tenant, event_type).await;
        cases.push((event_type, format!(r#"{{"event":"{event_type}","timestamp":"{AT_S}","data":{data}}}"#)));
    }
    for (event_type, expected) in cases {
        let data = &serde_json::from_str::<Value>(&expected).unwrap()["data"];
        let event = publish(&tenant, event_type, data).await;
        let seen = receiver.next().await;
        assert_eq!((seen.method.as_str(), seen.header("content-type")), ("POST", "application/json"));
        assert_eq!(from_utf8(&seen.body).unwrap(), expected);
        assert!(verifies(&seen, secret));
        let signatures = seen.headers.keys().filter(|name| name.as_str().contains("signature"));
        assert_eq!(signatures.collect::<Vec<_>>(), ["x-webhook-signature"]);
        let tampered = Seen { body: expected.replace("data", "Data").into(), ..seen };
        assert!(!verifies(&tampered, secret));
        tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    }
    // Without what the page tells duplicates by.
    let reply = tenant.try_publish(json!({"type": "message.read", "data": {"to": "+919800555027"}})).await;
    assert_eq!(reply.pointers(), ["/data"]);
    app.stop().await;
}

#[tokio::test]
async fn nothing_but_200_is_a_success() {
    let (mut app, receiver, tenant) = start().await;
    let data = sample(&tenant, "message.sent").await;
    for status in [201, 202, 204, 299, 302, 400, 410, 429, 500, 503, 200] {
        let hook = format!("/{status}");
        receiver.script(&hook, [Answer::status(status).header("retry-after", "3600")]);
        let endpoint = tenant.endpoint(&receiver.url(&hook), json!({})).await;
        let event = publish(&tenant, "message.sent", &data).await;
        let delivery = tenant.delivery_when(&event, &endpoint, |one| one["attempt_count"] == 1).await;
        let after = tenant.client.get(&path(&endpoint)).await.expect(200);
        assert_eq!(after["status"], "active", "{status} is nothing special");
        if status == 200 {
            assert_eq!(delivery["status"], "succeeded");
        } else {
            assert_eq!(
                (&delivery["status"], &delivery["last_response_status"]),
                (&json!("pending"), &json!(status))
            );
            assert_eq!(delivery["attempts"][0]["error"], "response_status");
            assert!(waits_s(&delivery, 10), "{status}: {delivery}");
        }
        tenant.client.delete(&path(&endpoint)).await.expect(204);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_receiver_that_takes_longer_than_5_s_has_not_answered() {
    let (mut app, mut receiver, tenant) = start().await;
    receiver.script("/webhook", [Answer::never()]);
    let endpoint = tenant.endpoint(&receiver.url("/webhook"), json!({})).await;
    let event = publish(&tenant, "message.sent", &sample(&tenant, "message.sent").await).await;
    let delivery = tenant.delivery_when(&event, &endpoint, |one| one["attempt_count"] == 1).await;
    let attempt = &delivery["attempts"][0];
    assert_eq!((&delivery["status"], &attempt["error"]), (&json!("pending"), &json!("timeout")));
    assert_eq!(attempt["diagnosis"], "the endpoint did not answer within the time-out of 5000 ms");
    receiver.next().await;
    app.stop().await;
}

#[tokio::test]
async fn after_three_retries_the_webhook_is_failing_until_it_is_mended() {
    let (mut app, mut receiver, tenant) = start().await;
    receiver.script("/webhook", [204, 500, 500, 500, 200].map(Answer::status));
    let endpoint = tenant.endpoint(&receiver.url("/webhook"), json!({})).await;
    let event = publish(&tenant, "message.incoming", &sample(&tenant, "message.incoming").await).await;
    for (count, seconds) in [(1, 10), (2, 60), (3, 300)] {
        let delivery = tenant.delivery_when(&event, &endpoint, |one| one["attempt_count"] == count).await;
        assert_eq!(delivery["status"], "pending");
        assert!(waits_s(&delivery, seconds), "{delivery}");
        assert_eq!(tenant.client.get(&path(&endpoint)).await.expect(200)["status"], "active");
        // Now, rather than then: the ladder goes on as if it had waited.
        tenant.tell_delivery(&event, &endpoint, "retry").await.expect(202);
    }
    let failed = tenant.delivery_when(&event, &endpoint, |one| one["status"] == "failed").await;
    assert_eq!((&failed["attempt_count"], &failed["next_attempt_at"]), (&json!(4), &Value::Null));

    // "Check webhook status in Settings → Webhooks."
    let failing = tenant.endpoint_when(&endpoint, |one| one["status"] == "failing").await;
    assert!(text(&failing, "last_error").contains("500") && failing["failing_since"].is_string());
    let list = tenant.client.get("/v1/endpoints?status=failing").await.expect(200);
    assert_eq!(list["data"][0]["id"], endpoint["id"]);
    let history =
        tenant.client.get(&format!("{}/deliveries?status=failed", path(&endpoint))).await.expect(200);
    assert_eq!(history["data"][0]["event_id"], event["id"]);

    // Mended, what was missed is sent again. One that keeps `message_id` does nothing twice.
    let recover = json!({"since": "2026-01-01T00:00:00Z"});
    let job = tenant.client.post(&format!("{}/recover", path(&endpoint)), recover).await.expect(202);
    assert_eq!(tenant.job_ended(&job).await["done"], 1);
    tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    let seen = receiver.take(5).await;
    assert!(seen.iter().all(|one| one.body == seen[0].body && verifies(one, text(&endpoint, "secret"))));
    let healed = tenant.endpoint_when(&endpoint, |one| one["status"] == "active").await;
    assert_eq!(healed["failing_since"], Value::Null);
    app.stop().await;
}

#[tokio::test]
async fn it_is_tried_out_gets_a_new_secret_and_is_deleted() {
    let (mut app, mut receiver, tenant) = start().await;
    let client = &tenant.client;
    let endpoint = tenant.endpoint(&receiver.url("/webhook"), json!({"event_types": ["contact.*"]})).await;
    let old = text(&endpoint, "secret");
    let attempt = client.poke(&format!("{}/test", path(&endpoint))).await.expect(200);
    let seen = receiver.next().await;
    assert_eq!(
        (&seen.json()["event"], &attempt["outcome"]),
        (&json!("contact.created"), &json!("succeeded"))
    );
    assert!(verifies(&seen, old));

    // The header has room for one signature.
    let rotated = client.poke(&format!("{}/secret/rotate", path(&endpoint))).await.expect(200);
    let event = publish(&tenant, "contact.updated", &sample(&tenant, "contact.updated").await).await;
    let seen = receiver.next().await;
    assert!(verifies(&seen, text(&rotated, "secret")) && !verifies(&seen, old));
    let record = tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    assert_eq!(record["request"]["body"], from_utf8(&seen.body).unwrap());
    assert_eq!(record["request"]["headers"]["x-webhook-signature"], seen.header("x-webhook-signature"));

    client.delete(&path(&endpoint)).await.expect(204);
    assert_eq!(
        publish(&tenant, "contact.created", &sample(&tenant, "contact.created").await).await["deliveries"],
        json!([])
    );
    client.get(&path(&endpoint)).await.problem(404);
    app.stop().await;
    assert!(receiver.rest().is_empty());
}
