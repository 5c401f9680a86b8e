//! Posthaste's own preset: Standard Webhooks, believed by their library.

use std::str::from_utf8;

use serde_json::{Value, json};

use super::{hmac_hex, text};
use crate::helpers::{Receiver, spawn};

const AT: &str = "2026-05-29T10:30:00.250Z";

#[tokio::test]
async fn each_event_of_ones_own_catalogue_is_a_standard_webhook() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant_with(json!({"validate_payloads": true})).await;
    let endpoint = tenant.endpoint(&receiver.url("/webhook"), json!({"event_types": ["*"]})).await;
    let secret = text(&endpoint, "secret");
    let library = standardwebhooks::Webhook::new(secret).unwrap();
    let preset = tenant.client.get("/v1/presets/standard").await.expect(200);
    let types = preset["event_types"].as_array().unwrap();
    assert_eq!(types.len(), 12);
    for known in types {
        let (event_type, data): (&str, &Value) = (text(known, "name"), &known["example"]);
        let body = json!({"type": event_type, "timestamp": AT, "data": data});
        let event = tenant.try_publish(body).await.expect(202);
        let seen = receiver.next().await;
        let (id, location) = (text(&event, "id"), &tenant.location_id);
        let expected = format!(
            r#"{{"id":"{id}","type":"{event_type}","timestamp":"{AT}","location_id":"{location}","data":{data}}}"#
        );
        assert_eq!(from_utf8(&seen.body).unwrap(), expected);
        assert_eq!((seen.method.as_str(), seen.header("content-type")), ("POST", "application/json"));
        assert_eq!((seen.header("webhook-id"), seen.header("x-posthaste-attempt")), (id, "1"));
        library.verify(&seen.body, &seen.headers).unwrap();
        assert_eq!(seen.header("x-webhook-signature"), hmac_hex(secret, &seen.body));
        let tampered = expected.replace("data", "Data");
        assert!(library.verify(tampered.as_bytes(), &seen.headers).is_err());
        assert_ne!(seen.header("x-webhook-signature"), hmac_hex(secret, tampered.as_bytes()));
    }
    app.stop().await;
}
