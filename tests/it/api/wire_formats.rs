//! Each preset end to end: a receiver that was written from the system's own page understands what it gets.

use hmac::{Hmac, KeyInit, Mac};
use posthaste::types::ecma_json::normalise;
use serde_json::{Value, json};
use sha2::Sha256;

use super::text;
use crate::helpers::{Receiver, TestApp, app::Tenant, receiver::Seen, spawn};

const AT: &str = "2026-05-29T10:30:00.250Z";
const AT_S: &str = "2026-05-29T10:30:00Z";
const AT_UNIX_S: u64 = 1_780_050_600;

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

    fn keys(&self) -> Vec<String> {
        self.seen.json().as_object().unwrap().keys().cloned().collect()
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
async fn standard_is_standard_webhooks() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let sent = send(&app, &mut receiver, "standard", "message.incoming", json!({})).await;
    sent.check(&["webhook-signature", "x-webhook-signature"]);
    let (id, location) = (text(&sent.event, "id"), &sent.tenant.location_id);
    let expected = format!(
        r#"{{"id":"{id}","type":"message.incoming","timestamp":"{AT}","location_id":"{location}","data":{DATA}}}"#
    );
    assert_eq!(std::str::from_utf8(&sent.seen.body).unwrap(), expected);
    let library = standardwebhooks::Webhook::new(sent.secret()).unwrap();
    library.verify(&sent.seen.body, &sent.seen.headers).unwrap();
    let mut tampered = sent.seen.body.to_vec();
    tampered[10] ^= 1;
    assert!(library.verify(&tampered, &sent.seen.headers).is_err());
    assert_eq!(sent.seen.header("x-webhook-signature"), hmac_hex(sent.secret(), &sent.seen.body));
    app.stop().await;
}

#[tokio::test]
async fn whatssync_signs_in_the_header_that_its_page_reads() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let sent = send(&app, &mut receiver, "whatssync", "contact.update", json!({})).await;
    sent.check(&["x-whatsync-signature"]);
    let id = text(&sent.event, "id");
    let expected = format!(r#"{{"event":"contact.update","id":"{id}","timestamp":"{AT_S}","data":{DATA}}}"#);
    assert_eq!(std::str::from_utf8(&sent.seen.body).unwrap(), expected);
    // The page's code signs JSON.stringify(req.body).
    let parsed_and_written = normalise(std::str::from_utf8(&sent.seen.body).unwrap()).unwrap();
    let expected = hmac_hex(sent.secret(), parsed_and_written.as_bytes());
    assert_eq!(sent.seen.header("x-whatsync-signature"), expected);
    app.stop().await;
}

#[tokio::test]
async fn whatsapp_platform_has_its_object_mode_and_version() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    for (more, live, version) in [
        (json!({}), true, "2026-02-04"),
        (json!({"live_mode": false, "api_version": "2027-01-01"}), false, "2027-01-01"),
    ] {
        let sent = send(&app, &mut receiver, "whatsapp_platform", "form.submitted", more).await;
        sent.check(&["x-webhook-signature"]);
        assert_eq!(sent.keys(), ["id", "type", "api_version", "created_at", "liveMode", "data"]);
        let id = text(&sent.event, "id");
        let expected = format!(
            r#"{{"id":"{id}","type":"form.submitted","api_version":"{version}","created_at":{AT_UNIX_S},"liveMode":{live},"data":{{"object":{DATA}}}}}"#
        );
        assert_eq!(std::str::from_utf8(&sent.seen.body).unwrap(), expected);
        assert_eq!(sent.seen.header("x-webhook-signature"), hmac_hex(sent.secret(), &sent.seen.body));
    }
    app.stop().await;
}
