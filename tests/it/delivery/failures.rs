//! Receivers that fail, each in its own way.

use posthaste::types::Timestamp;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use crate::helpers::{
    Answer, Receiver,
    app::{Tenant, start},
    spawn,
};
use posthaste::app::Roles;

const HOUR_US: i64 = 3_600_000_000;

fn at(value: &Value) -> i64 {
    Timestamp::parse(value.as_str().unwrap()).unwrap().unix_us()
}

/// An endpoint on this path with one attempt for each delivery, and what came of a first event.
async fn one_attempt(tenant: &Tenant, receiver: &Receiver, path: &str, timeout_ms: u32) -> Value {
    let fields = json!({"retry_schedule_s": [], "timeout_ms": timeout_ms});
    let endpoint = tenant.endpoint(&receiver.url(path), fields).await;
    let published = tenant.publish("message.sent", json!({})).await;
    tenant.delivery_when(&published, &endpoint, |delivery| delivery["attempt_count"] == 1).await
}

#[tokio::test]
async fn a_ladder_that_ends_fails_the_delivery_and_a_retry_by_hand_starts_it_again() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let answers = [500, 500, 500, 200].map(Answer::status);
    receiver.script("/hook", answers);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": [1]})).await;
    let published = tenant.publish("message.sent", json!({})).await;
    let failed = tenant.delivery_when(&published, &endpoint, |delivery| delivery["status"] == "failed").await;
    assert_eq!(failed["attempt_count"], 2);
    assert_eq!(failed["last_response_status"], 500);
    assert_eq!(failed["next_attempt_at"], Value::Null);
    let failing = tenant.endpoint_when(&endpoint, |endpoint| endpoint["status"] == "failing").await;
    assert!(failing["failing_since"].is_string() && failing["last_failure_at"].is_string());
    assert!(failing["last_error"].as_str().unwrap().contains("500"));

    tenant.tell_delivery(&published, &endpoint, "retry").await.expect(202);
    let seen = receiver.take(4).await;
    let numbers: Vec<&str> = seen.iter().map(|one| one.header("x-posthaste-attempt")).collect();
    assert_eq!(numbers, ["1", "2", "3", "4"], "numbers go on");
    assert!((seen[3].at - seen[2].at).as_secs() >= 1, "and so does the ladder, from its first step");
    let done =
        tenant.delivery_when(&published, &endpoint, |delivery| delivery["status"] == "succeeded").await;
    let triggers: Vec<_> =
        done["attempts"].as_array().unwrap().iter().map(|one| one["trigger"].clone()).collect();
    assert_eq!(triggers, ["scheduled", "scheduled", "manual", "scheduled"]);
    let active = tenant.endpoint_when(&endpoint, |endpoint| endpoint["status"] == "active").await;
    assert_eq!(active["failing_since"], Value::Null);
    assert!(active["last_success_at"].is_string());
    app.stop().await;
}

#[tokio::test]
async fn a_retry_by_hand_of_what_is_pending_means_now() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [500, 200].map(Answer::status));
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": [86_400]})).await;
    let published = tenant.publish("message.sent", json!({})).await;
    let waiting = |delivery: &Value| delivery["attempt_count"] == 1 && delivery["status"] == "pending";
    let delivery = tenant.delivery_when(&published, &endpoint, waiting).await;
    assert!(at(&delivery["next_attempt_at"]) - at(&delivery["last_attempt_at"]) >= 24 * HOUR_US);
    tenant.tell_delivery(&published, &endpoint, "retry").await.expect(202);
    assert_eq!(receiver.take(2).await[1].header("x-posthaste-attempt"), "2");
    tenant.delivery_when(&published, &endpoint, |delivery| delivery["status"] == "succeeded").await;
    app.stop().await;
}

#[tokio::test]
async fn receivers_may_ask_for_more_time() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let date = OffsetDateTime::now_utc() + time::Duration::hours(2);
    let date_text = date.format(&Rfc2822).unwrap().replace("+0000", "GMT");
    for (status, retry_after, least_us) in [
        (429, "3600", HOUR_US),
        (503, "3600", HOUR_US),
        (503, date_text.as_str(), 2 * HOUR_US - 60_000_000),
        (429, "9999999", 24 * HOUR_US),
        (429, "soon", 10_000_000),
        (500, "3600", 10_000_000),
    ] {
        receiver.script("/hook", [Answer::status(status).header("retry-after", retry_after)]);
        let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
        let published = tenant.publish("message.sent", json!({})).await;
        let delivery =
            tenant.delivery_when(&published, &endpoint, |delivery| delivery["attempt_count"] == 1).await;
        let wait_us = at(&delivery["next_attempt_at"]) - at(&delivery["last_attempt_at"]);
        let (least_us, most_us) = (least_us - 1_000, least_us + 120_000_000);
        assert!((least_us..most_us).contains(&wait_us), "{status} {retry_after}: {wait_us} µs");
        tenant
            .client
            .delete(&format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap()))
            .await
            .expect(204);
    }
    app.stop().await;
}

#[tokio::test]
async fn gone_disables_the_endpoint_and_holds_what_waits() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [410, 200].map(Answer::status));
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"max_in_flight": 1})).await;
    let events = tenant.publish_batch("message.sent", 5).await;
    let disabled = tenant.endpoint_when(&endpoint, |endpoint| endpoint["status"] == "disabled").await;
    assert!(disabled["status_reason"].as_str().unwrap().contains("410"));
    let gone = receiver.next().await;
    let mut statuses = Vec::new();
    for event in &events {
        let delivery = tenant.delivery_when(&json!({"id": event}), &endpoint, |_| true).await;
        let expected = if gone.header("webhook-id") == event { "failed" } else { "held" };
        assert_eq!(delivery["status"], expected);
        statuses.push(delivery["status"].clone());
    }
    assert_eq!(statuses.iter().filter(|status| **status == "failed").count(), 1);
    let held = tenant.publish("message.sent", json!({})).await;
    assert_eq!(held["deliveries"][0]["status"], "held");
    assert!(receiver.rest().is_empty(), "nothing more is sent");

    assert_eq!(tenant.tell(&endpoint, "resume").await["status"], "active");
    let sent = receiver.take(5).await;
    assert!(sent.iter().all(|one| one.header("webhook-id") != gone.header("webhook-id")));
    tenant.endpoint_when(&endpoint, |endpoint| endpoint["pending_count"] == 0).await;
    app.stop().await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    for status in [301, 302, 303, 307, 308] {
        receiver.script("/hook", [Answer::status(status).header("location", receiver.url("/elsewhere"))]);
        let delivery = one_attempt(&tenant, &receiver, "/hook", 10_000).await;
        assert_eq!(
            (&delivery["status"], &delivery["last_response_status"]),
            (&json!("failed"), &json!(status))
        );
        let attempt = &delivery["attempts"][0];
        assert_eq!(attempt["error"], "response_status");
        assert!(attempt["diagnosis"].as_str().unwrap().contains("redirect"));
        let endpoint = delivery["endpoint_id"].as_str().unwrap();
        tenant.client.delete(&format!("/v1/endpoints/{endpoint}")).await.expect(204);
    }
    assert!(receiver.rest().iter().all(|one| one.path == "/hook"));
    app.stop().await;
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up_in_time() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::never()]);
    let tenant = app.tenant().await;
    let delivery = one_attempt(&tenant, &receiver, "/hook", 1_000).await;
    assert_eq!(delivery["status"], "failed");
    let attempt = &delivery["attempts"][0];
    assert_eq!((&attempt["error"], &attempt["response"]), (&json!("timeout"), &Value::Null));
    assert!(attempt["duration_ms"].as_i64().unwrap() >= 1_000);
    app.stop().await;
}

#[tokio::test]
async fn a_body_that_stalls_after_a_200_is_a_success() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(200).body("half of").stalling()]);
    let tenant = app.tenant().await;
    let delivery = one_attempt(&tenant, &receiver, "/hook", 1_000).await;
    assert_eq!(delivery["status"], "succeeded");
    let response = &delivery["attempts"][0]["response"];
    assert_eq!((&response["body"], &response["truncated"]), (&json!("half of"), &json!(true)));
    app.stop().await;
}

#[tokio::test]
async fn a_response_is_kept_up_to_its_limit() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let limit = 16 * 1024;
    for (size, truncated) in [(limit, false), (limit + 1, true), (10 * limit, true)] {
        let answer = Answer::status(500).header("x-why", "because").body("x".repeat(size));
        receiver.script("/hook", [answer]);
        let delivery = one_attempt(&tenant, &receiver, "/hook", 10_000).await;
        let response = &delivery["attempts"][0]["response"];
        assert_eq!(response["body"].as_str().unwrap().len(), size.min(limit));
        assert_eq!(
            (&response["truncated"], &response["headers"]["x-why"]),
            (&json!(truncated), &json!("because"))
        );
        let endpoint = delivery["endpoint_id"].as_str().unwrap();
        tenant.client.delete(&format!("/v1/endpoints/{endpoint}")).await.expect(204);
    }
    app.stop().await;
}

#[tokio::test]
async fn bytes_that_no_text_may_hold_are_kept_all_the_same() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(500).body(b"\0\xff\xfe nul".to_vec())]);
    let tenant = app.tenant().await;
    let delivery = one_attempt(&tenant, &receiver, "/hook", 10_000).await;
    assert!(delivery["attempts"][0]["response"]["body"].as_str().unwrap().ends_with(" nul"));
    app.stop().await;
}

#[tokio::test]
async fn a_target_that_is_refused_when_sending_is_retried() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint =
        tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": [1, 1, 1, 1, 1, 1, 1, 1]})).await;
    let (loose, database) = (app.settings.clone(), app.database.clone());
    app.stop().await;

    let mut strict = loose.clone();
    strict.allow_targets.clear();
    let mut app = start(strict, database.clone(), Roles { api: true, worker: true }).await;
    let here = |base: &str| Tenant {
        client: crate::helpers::client::Client::new(base, Some(&tenant.key)),
        id: tenant.id.clone(),
        key: tenant.key.clone(),
        location_id: tenant.location_id.clone(),
    };
    let strictly = here(&app.base);
    let published = strictly.publish("message.sent", json!({})).await;
    let delivery =
        strictly.delivery_when(&published, &endpoint, |delivery| delivery["attempt_count"] != 0).await;
    assert_eq!(
        (&delivery["status"], &delivery["attempts"][0]["error"]),
        (&json!("pending"), &json!("refused_target"))
    );
    app.stop().await;
    assert!(receiver.rest().is_empty());

    let mut app = start(loose, database, Roles { api: true, worker: true }).await;
    assert_eq!(receiver.next().await.header("webhook-id"), published["id"]);
    let loosely = here(&app.base);
    loosely.delivery_when(&published, &endpoint, |delivery| delivery["status"] == "succeeded").await;
    app.stop().await;
}
