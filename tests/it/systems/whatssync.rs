//! WhatsSync: Webhooks Configuration with a URL for each event type, signatures, retries, Webhook History.

use std::str::from_utf8;

use serde_json::{Value, json};

use super::{hmac_hex, path, text};
use crate::helpers::{Answer, Receiver, TestApp, app::Tenant, receiver::Seen, spawn};

/// The page's `process.env.WEBHOOK_SECRET`: one for all URLs.
const SECRET: &str = "one-secret-for-all-four";
const URLS: [(&str, &str); 4] = [
    ("message.incoming", "/webhooks/incoming"),
    ("message.status", "/webhooks/status"),
    ("contact.update", "/webhooks/contacts"),
    ("media.upload", "/webhooks/media"),
];
const AT: &str = "2026-11-20T14:22:33.981Z";
const AT_S: &str = "2026-11-20T14:22:33Z";

/// What the page's handler says. It verifies `JSON.stringify(req.body)`, which is what was sent, as
/// [`the_body_is_what_writing_it_again_gives`] shows.
fn handler(seen: &Seen) -> Answer {
    if believes(seen) {
        Answer::status(200).body("OK")
    } else {
        Answer::status(401).body("Invalid signature")
    }
}

fn believes(seen: &Seen) -> bool {
    hmac_hex(SECRET, &seen.body) == seen.header("x-whatsync-signature")
}

async fn start() -> (TestApp, Receiver, Tenant) {
    let app = spawn().await;
    let receiver = Receiver::start().await;
    receiver.decide(|seen| Some(handler(seen)));
    let tenant = app.tenant_with(json!({"preset": "whatssync"})).await;
    (app, receiver, tenant)
}

async fn publish(tenant: &Tenant, event_type: &str, data: &Value) -> Value {
    tenant.try_publish(json!({"type": event_type, "timestamp": AT, "data": data})).await.expect(202)
}

#[tokio::test]
async fn each_event_type_has_a_url_and_one_secret_serves_them_all() {
    let (mut app, mut receiver, tenant) = start().await;
    let mut endpoints = Vec::new();
    for (event_type, hook) in URLS {
        let fields = json!({"name": event_type, "event_types": [event_type], "secret": SECRET});
        endpoints.push(tenant.endpoint(&receiver.url(hook), fields).await);
    }
    for ((event_type, hook), endpoint) in URLS.into_iter().zip(&endpoints) {
        let known = tenant.client.get(&format!("/v1/event-types/{event_type}")).await.expect(200);
        let event = publish(&tenant, event_type, &known["example"]).await;
        let seen = receiver.next().await;
        assert_eq!((&seen.method[..], &seen.path[..]), ("POST", hook));
        let (id, data) = (text(&event, "id"), &known["example"]);
        let expected =
            format!(r#"{{"event":"{event_type}","id":"{id}","timestamp":"{AT_S}","data":{data}}}"#);
        assert_eq!(from_utf8(&seen.body).unwrap(), expected);
        let signatures = seen.headers.keys().filter(|name| name.as_str().contains("signature"));
        assert_eq!(signatures.collect::<Vec<_>>(), ["x-whatsync-signature"]);
        let taken = tenant.delivery_when(&event, endpoint, |one| one["status"] == "succeeded").await;
        assert_eq!(taken["attempts"][0]["response"]["body"], "OK");
    }
    app.stop().await;
    assert!(receiver.rest().is_empty(), "nobody else's events");
}

/// `DATA`, published so, is what Node.js makes of it.
#[tokio::test]
async fn the_body_is_what_writing_it_again_gives() {
    const DATA: &str = r#"{ "price":1.50,"n":[-0,1E3,1e+21,5e-324,0.000001,1e-7,100000000000000000000,123456789.125],
        "9":{"b":[[],[{}, [null ,true]]],"2":"two","10":"ten","01":"kept","-1":"kept"},
        "t":"\u00e9\/\"\\\b\f\n\r\t\u0000\u001f\u007f\ud83d\ude00 Grüße \u2028<\/script>","4294967294":1,"4294967295":2,"a":1,"a":2}"#;
    let written = [
        r#"{"9":{"2":"two","10":"ten","b":[[],[{},[null,true]]],"01":"kept","-1":"kept"},"4294967294":1,"price":1.5,"#,
        r#""n":[0,1000,1e+21,5e-324,0.000001,1e-7,100000000000000000000,123456789.125],"#,
        r#""t":"é/\"\\\b\f\n\r\t\u0000\u001f"#,
        "\u{7f}😀 Grüße \u{2028}</script>\",",
        r#""4294967295":2,"a":2}"#,
    ]
    .concat();
    let (mut app, mut receiver, tenant) = start().await;
    let endpoint = tenant.endpoint(&receiver.url("/webhook"), json!({"secret": SECRET})).await;
    let event = tenant.publish_raw(DATA).await.expect(202);
    let seen = receiver.next().await;
    let (id, at) = (text(&event, "id"), text(&seen.json(), "timestamp").to_owned());
    let expected =
        format!(r#"{{"event":"message.incoming","id":"{id}","timestamp":"{at}","data":{written}}}"#);
    assert_eq!(from_utf8(&seen.body).unwrap(), expected);
    assert_eq!(at.len(), AT_S.len(), "whole seconds");
    tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    let tampered = Seen { body: expected.replace("Grüße", "grüße").into(), ..seen };
    assert!(!believes(&tampered));
    app.stop().await;
}

#[tokio::test]
async fn the_history_tells_what_is_wrong_and_what_was_missed_is_sent_again() {
    let (mut app, mut receiver, tenant) = start().await;
    // Its secret is not the one that the receiver knows.
    let fields = json!({"event_types": ["message.status"], "retry_schedule_s": [1, 1]});
    let endpoint = tenant.endpoint(&receiver.url("/webhooks/status"), fields).await;
    let data = json!({"messageId": "msg_77", "status": "read", "timestamp": AT_S});
    let event = publish(&tenant, "message.status", &data).await;
    let record = tenant.delivery_when(&event, &endpoint, |one| one["status"] == "failed").await;
    let mut seen = receiver.take(3).await;

    let history =
        tenant.client.get(&format!("{}/deliveries?status=failed", path(&endpoint))).await.expect(200);
    let row = &history["data"][0];
    assert_eq!((&row["event_id"], &row["event_type"]), (&event["id"], &json!("message.status")));
    assert_eq!((&row["attempt_count"], &row["last_response_status"]), (&json!(3), &json!(401)));
    let attempt = &record["attempts"][2];
    assert_eq!(attempt["response"]["body"], "Invalid signature");
    assert!(text(attempt, "diagnosis").contains("401"), "{attempt}");
    assert_eq!(record["request"]["body"], from_utf8(&seen[0].body).unwrap());

    let rotate = format!("{}/secret/rotate", path(&endpoint));
    tenant.client.post(&rotate, json!({"secret": SECRET})).await.expect(200);
    tenant.tell_delivery(&event, &endpoint, "retry").await.expect(202);
    tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    seen.push(receiver.next().await);
    // A receiver that keeps ids does nothing twice.
    assert!(seen.iter().all(|one| one.body == seen[0].body && one.json()["id"] == event["id"]));
    let numbers: Vec<&str> = seen.iter().map(|one| one.header("x-posthaste-attempt")).collect();
    assert_eq!(numbers, ["1", "2", "3", "4"]);
    app.stop().await;
}
