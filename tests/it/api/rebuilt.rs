//! A request is shown as it was sent, though an attempt stores only version numbers.

use std::collections::HashMap;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{array, text};
use crate::helpers::{Answer, Receiver, receiver::Seen, spawn};

/// What the HTTP client adds by itself.
const OF_THE_CONNECTION: [&str; 3] = ["host", "content-length", "accept"];

/// Everything that was received is in the attempt, and nothing else.
#[track_caller]
fn assert_shown(attempt: &Value, seen: &Seen, url: &str) {
    let request = &attempt["request"];
    assert_eq!(request["url"], url);
    let shown = request["headers"].as_object().unwrap();
    for (name, value) in shown {
        assert_eq!(value, seen.header(name), "{name} of attempt {}", attempt["number"]);
    }
    for name in seen.headers.keys() {
        let name = name.as_str();
        assert!(shown.contains_key(name) || OF_THE_CONNECTION.contains(&name), "{name} is not shown");
    }
    let hash: String = sha256_hex(&seen.body);
    assert_eq!(request["body_sha256"], hash);
}

fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn every_attempt_is_shown_as_it_was_sent_whatever_changed_since() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/one", [Answer::status(500)]);
    receiver.script("/two", [Answer::status(200)]);
    let tenant = app.tenant().await;
    let fields =
        json!({"retry_schedule_s": [3600], "headers": {"X-Team": "one", "Authorization": "Bearer a"}});
    let endpoint = tenant.endpoint(&receiver.url("/one"), fields).await;
    let path = format!("/v1/endpoints/{}", text(&endpoint, "id"));
    let event = tenant.publish("message.sent", json!({"z": 1.0, "ü": "\u{0}"})).await;
    let delivery = format!("/v1/events/{}/deliveries/{}", text(&event, "id"), text(&endpoint, "id"));
    let attempts =
        async |count: usize| tenant.client.get_until(&delivery, |one| one["attempt_count"] == count).await;
    let retry = async || {
        tenant.client.poke(&format!("{delivery}/retry")).await.expect(202);
    };
    let rotate = async |grace_s: u32| {
        let body = json!({"grace_period_s": grace_s});
        tenant.client.post(&format!("{path}/secret/rotate"), body).await.expect(200);
    };
    attempts(1).await;
    rotate(3_600).await;
    retry().await;
    attempts(2).await;
    let patch = json!({"url": receiver.url("/two"), "headers": {"X-Team": "two", "Authorization": null}});
    tenant.client.patch(&path, patch).await.expect(200);
    tenant.client.poke(&format!("{path}/pause")).await.expect(200);
    tenant.client.poke(&format!("{path}/resume")).await.expect(200);
    retry().await;
    attempts(3).await;
    rotate(0).await;
    retry().await;
    attempts(4).await;
    tenant.client.patch(&path, json!({"url": receiver.url("/three"), "format": "aisoule"})).await.expect(200);

    let shown = attempts(4).await;
    let seen = receiver.take(4).await;
    let signatures: Vec<usize> =
        seen.iter().map(|one| one.header("webhook-signature").split(' ').count()).collect();
    assert_eq!(signatures, [1, 2, 2, 1]);
    for (attempt, seen) in array(&shown, "attempts").iter().zip(&seen) {
        assert_shown(attempt, seen, &receiver.url(&seen.path));
        assert_eq!(text(&shown["request"], "body").as_bytes(), seen.body);
    }
    assert_eq!(shown["request"]["url"], receiver.url("/two"));
    assert_eq!(shown["request"]["headers"], shown["attempts"][3]["request"]["headers"]);
    assert_eq!([&seen[0], &seen[3]].map(|one| one.header("authorization")), ["Bearer a", ""]);
    assert_eq!([&seen[0], &seen[3]].map(|one| one.header("x-team")), ["one", "two"]);
    app.stop().await;
}

#[tokio::test]
async fn one_that_waits_shows_what_will_be_sent() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"headers": {"x-a": "b"}})).await;
    let path = format!("/v1/endpoints/{}", text(&endpoint, "id"));
    tenant.client.poke(&format!("{path}/pause")).await.expect(200);
    let event = tenant.publish("message.sent", json!({"a": 1})).await;
    let delivery = format!("/v1/events/{}/deliveries/{}", text(&event, "id"), text(&endpoint, "id"));
    let shown = tenant.client.get(&delivery).await.expect(200);
    assert_eq!((&shown["status"], &shown["attempts"]), (&json!("held"), &json!([])));
    tenant.client.poke(&format!("{path}/resume")).await.expect(200);
    let seen = receiver.next().await;
    assert_eq!(text(&shown["request"], "body").as_bytes(), seen.body);
    assert_eq!(shown["request"]["url"], receiver.url("/hook"));
    for name in
        ["webhook-id", "x-posthaste-attempt", "x-webhook-signature", "content-type", "x-a", "user-agent"]
    {
        assert_eq!(shown["request"]["headers"][name], seen.header(name), "{name}");
    }
    app.stop().await;
}

#[tokio::test]
async fn attempts_in_the_middle_of_a_rotation_are_shown_as_they_were_signed() {
    const ROTATIONS: usize = 12;
    const EVENTS: usize = 300;
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let rotating = async {
        for turn in 0..ROTATIONS {
            let body = json!({"grace_period_s": if turn % 2 == 0 { 3_600 } else { 0 }});
            let path = format!("/v1/endpoints/{}/secret/rotate", text(&endpoint, "id"));
            tenant.client.post(&path, body).await.expect(200);
        }
    };
    let publishing = async {
        for _ in 0..EVENTS / 10 {
            join_all((0..10).map(|n| tenant.publish("message.sent", json!(n)))).await;
        }
    };
    tokio::join!(rotating, publishing);
    let seen: HashMap<String, Seen> = receiver
        .take(EVENTS)
        .await
        .into_iter()
        .map(|seen| (seen.header("webhook-id").to_owned(), seen))
        .collect();
    assert_eq!(seen.len(), EVENTS);
    for (event, seen) in &seen {
        let path = format!("/v1/events/{event}/deliveries/{}", text(&endpoint, "id"));
        let shown = tenant.client.get_until(&path, |one| one["status"] == "succeeded").await;
        assert_shown(&shown["attempts"][0], seen, &receiver.url("/hook"));
    }
    app.stop().await;
}
