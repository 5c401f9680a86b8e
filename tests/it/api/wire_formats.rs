//! Each preset end to end: a receiver that was written from the system's own page understands what it gets.

use hmac::{Hmac, KeyInit, Mac};
use posthaste::types::ecma_json::normalise;
use serde_json::{Value, json};
use sha2::Sha256;

use super::text;
use crate::helpers::{Answer, Receiver, TestApp, app::Tenant, receiver::Seen, spawn};

const AT: &str = "2026-05-29T10:30:00.250Z";
const AT_S: &str = "2026-05-29T10:30:00Z";

/// `hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()`
fn hmac_hex(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Sent {
    event: Value,
    endpoint: Value,
    tenant: Tenant,
    seen: Seen,
}

impl Sent {
    fn secret(&self) -> &str {
        text(&self.endpoint, "secret")
    }

    /// What every format has, and none but these signatures.
    #[track_caller]
    fn check(&self, signatures: &[&str]) {
        assert_eq!(self.seen.method, "POST");
        assert_eq!(self.seen.header("content-type"), "application/json");
        assert_eq!(self.seen.header("webhook-id"), text(&self.event, "id"));
        assert_eq!(self.seen.header("x-posthaste-attempt"), "1");
        let mut signed: Vec<&str> = self
            .seen
            .headers
            .keys()
            .map(|name| name.as_str())
            .filter(|name| name.contains("signature"))
            .collect();
        signed.sort_unstable();
        assert_eq!(signed, signatures);
        let body = std::str::from_utf8(&self.seen.body).unwrap();
        assert_eq!(normalise(body).unwrap(), body, "survives JSON.stringify(JSON.parse(body))");
    }
}

/// A tenant of this preset, one event with this type's sample, and what its receiver got.
async fn send(app: &TestApp, receiver: &mut Receiver, preset: &str, event_type: &str, more: Value) -> Sent {
    let tenant = app.tenant_with(json!({"preset": preset})).await;
    let endpoint = tenant.endpoint(&receiver.url(&format!("/{preset}")), json!({"event_types": ["*"]})).await;
    let mut body = json!({"type": event_type, "timestamp": AT, "data": {"text": "grüß ☺", "n": 1.50, "2": [], "1": null}});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    let event = tenant.try_publish(body).await.expect(202);
    let seen = receiver.next().await;
    Sent { event, endpoint, tenant, seen }
}

const DATA: &str = r#"{"1":null,"2":[],"text":"grüß ☺","n":1.5}"#;

#[tokio::test]
async fn standard_and_messagesync_are_standard_webhooks() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    for (preset, event_type) in
        [("standard", "message.incoming"), ("messagesync", "whatsapp.message.inbound")]
    {
        let sent = send(&app, &mut receiver, preset, event_type, json!({})).await;
        sent.check(&["webhook-signature", "x-webhook-signature"]);
        let (id, location) = (text(&sent.event, "id"), &sent.tenant.location_id);
        let expected = format!(
            r#"{{"id":"{id}","type":"{event_type}","timestamp":"{AT}","location_id":"{location}","data":{DATA}}}"#
        );
        assert_eq!(std::str::from_utf8(&sent.seen.body).unwrap(), expected);
        let library = standardwebhooks::Webhook::new(sent.secret()).unwrap();
        library.verify(&sent.seen.body, &sent.seen.headers).unwrap();
        let mut tampered = sent.seen.body.to_vec();
        tampered[10] ^= 1;
        assert!(library.verify(&tampered, &sent.seen.headers).is_err());
        assert_eq!(sent.seen.header("x-webhook-signature"), hmac_hex(sent.secret(), &sent.seen.body));
    }
    app.stop().await;
}

#[tokio::test]
async fn whatsable_gets_the_bare_conversation() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let sent = send(&app, &mut receiver, "whatsable", "message.incoming", json!({})).await;
    sent.check(&["webhook-signature", "x-webhook-signature"]);
    assert_eq!(std::str::from_utf8(&sent.seen.body).unwrap(), DATA);
    standardwebhooks::Webhook::new(sent.secret())
        .unwrap()
        .verify(&sent.seen.body, &sent.seen.headers)
        .unwrap();
    assert_eq!(sent.seen.header("x-webhook-signature"), hmac_hex(sent.secret(), &sent.seen.body));
    app.stop().await;
}

#[tokio::test]
async fn aisoule_takes_exactly_200() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script(
        "/aisoule",
        [Answer::status(200), Answer::status(204), Answer::status(410).header("retry-after", "3600")],
    );
    let sent = send(&app, &mut receiver, "aisoule", "contact.created", json!({})).await;
    sent.check(&["x-webhook-signature"]);
    let expected = format!(r#"{{"event":"contact.created","timestamp":"{AT_S}","data":{DATA}}}"#);
    assert_eq!(std::str::from_utf8(&sent.seen.body).unwrap(), expected);
    assert_eq!(sent.seen.header("x-webhook-signature"), hmac_hex(sent.secret(), &sent.seen.body));
    sent.tenant.delivery_when(&sent.event, &sent.endpoint, |one| one["status"] == "succeeded").await;
    // 204 is a failure, 410 and Retry-After are nothing special.
    for status in [204, 410] {
        let event = sent.tenant.publish("message.sent", json!({})).await;
        let delivery =
            sent.tenant.delivery_when(&event, &sent.endpoint, |one| one["attempt_count"] == 1).await;
        assert_eq!(
            (&delivery["status"], &delivery["last_response_status"]),
            (&json!("pending"), &json!(status))
        );
        assert_eq!(delivery["attempts"][0]["error"], "response_status");
    }
    let endpoint = sent.tenant.client.get(&format!("/v1/endpoints/{}", text(&sent.endpoint, "id"))).await;
    assert_eq!(endpoint.expect(200)["status"], "active");
    app.stop().await;
}
