//! The main job, end to end.

use posthaste::{signing, types::secret::SigningSecret};
use serde_json::json;

use crate::helpers::{Answer, Receiver, spawn};

fn now_s() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

#[tokio::test]
async fn an_event_arrives_signed_and_its_history_is_kept() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let data = json!({"text": "grüß dich ☺", "n": 1.5});
    let published = tenant.publish("message.incoming", data.clone()).await;
    assert_eq!(published["deliveries"][0]["endpoint_id"], endpoint["id"]);
    assert_eq!(published["deliveries"][0]["status"], "pending");

    let seen = receiver.next().await;
    assert_eq!(seen.header("webhook-id"), published["id"]);
    assert_eq!(seen.header("x-posthaste-attempt"), "1");
    assert_eq!(seen.header("content-type"), "application/json");
    assert!(seen.header("user-agent").starts_with("Posthaste/"));
    let body = seen.json();
    assert_eq!(body["id"], published["id"]);
    assert_eq!(body["type"], "message.incoming");
    assert_eq!(body["location_id"], tenant.location_id.as_str());
    assert_eq!(body["data"], data);
    let secret = SigningSecret::parse(endpoint["secret"].as_str().unwrap()).unwrap();
    signing::verify(&secret, &seen.headers, &seen.body, now_s()).unwrap();
    signing::verify_hex(&secret, seen.header("x-webhook-signature"), &seen.body).unwrap();

    let delivery =
        tenant.delivery_when(&published, &endpoint, |delivery| delivery["status"] == "succeeded").await;
    assert_eq!(delivery["attempt_count"], 1);
    assert_eq!(delivery["request"]["body"].as_str().unwrap().as_bytes(), &seen.body[..]);
    let attempt = &delivery["attempts"][0];
    assert_eq!(attempt["outcome"], "succeeded");
    assert_eq!(attempt["response"]["status"], 200);
    assert_eq!(attempt["response"]["body"], "ok");
    for name in ["webhook-timestamp", "webhook-signature", "x-webhook-signature", "webhook-id", "user-agent"]
    {
        assert_eq!(
            attempt["request"]["headers"][name],
            seen.header(name),
            "{name}, rebuilt from what it was sent with"
        );
    }
    app.stop().await;
}

#[tokio::test]
async fn a_failure_is_retried_with_the_same_bytes_until_it_succeeds() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(500).body("no"), Answer::status(302), Answer::status(204)]);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": [1, 1, 1]})).await;
    let published = tenant.publish("message.sent", json!({"b": 1, "a": 2})).await;
    let seen = receiver.take(3).await;
    assert!(seen.iter().all(|one| one.body == seen[0].body));
    let numbers: Vec<&str> = seen.iter().map(|one| one.header("x-posthaste-attempt")).collect();
    assert_eq!(numbers, ["1", "2", "3"]);
    for pair in seen.windows(2) {
        assert!((pair[1].at - pair[0].at).as_secs() >= 1, "never early");
    }
    let delivery =
        tenant.delivery_when(&published, &endpoint, |delivery| delivery["status"] == "succeeded").await;
    let errors: Vec<_> =
        delivery["attempts"].as_array().unwrap().iter().map(|one| one["error"].clone()).collect();
    assert_eq!(errors, [json!("response_status"), json!("response_status"), json!(null)]);
    assert_eq!(delivery["attempts"][0]["response"]["body"], "no");
    app.stop().await;
}
