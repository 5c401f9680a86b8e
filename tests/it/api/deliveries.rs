//! What happened to an event, and what a person can do about it.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{array, text};
use crate::helpers::{Answer, Receiver, app::Tenant, spawn};

const LONG_S: u32 = 3_600;

fn path(event: &Value, endpoint: &Value) -> String {
    format!("/v1/events/{}/deliveries/{}", text(event, "id"), text(endpoint, "id"))
}

async fn ended(tenant: &Tenant, event: &Value, endpoint: &Value, status: &str) -> Value {
    tenant.delivery_when(event, endpoint, |one| one["status"] == status).await
}

#[tokio::test]
async fn the_message_history_is_paged_newest_first_both_ways() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(200), Answer::status(200), Answer::status(500)]);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": []})).await;
    let mut expected = Vec::new();
    for status in ["succeeded", "succeeded", "failed", "failed"] {
        let event = tenant.publish("message.sent", json!({})).await;
        ended(&tenant, &event, &endpoint, status).await;
        expected.insert(0, (text(&event, "id").to_owned(), status.to_owned()));
    }
    let endpoint_path = format!("/v1/endpoints/{}", text(&endpoint, "id"));
    tenant.client.poke(&format!("{endpoint_path}/pause")).await.expect(200);
    for status in ["canceled", "held", "held"] {
        let event = tenant.publish("message.read", json!({})).await;
        if status == "canceled" {
            tenant.client.poke(&format!("{}/cancel", path(&event, &endpoint))).await.expect(200);
        }
        expected.insert(0, (text(&event, "id").to_owned(), status.to_owned()));
    }

    let history = format!("{endpoint_path}/deliveries");
    let rows = |page: &Value| -> Vec<(String, String)> {
        let row = |one: &Value| (text(one, "event_id").to_owned(), text(one, "status").to_owned());
        array(page, "data").iter().map(row).collect()
    };
    let whole = tenant.client.get(&history).await.expect(200);
    assert_eq!(rows(&whole), expected);
    assert_eq!((&whole["next_cursor"], &whole["prev_cursor"]), (&Value::Null, &Value::Null));

    let page =
        async |cursor: &str| tenant.client.get(&format!("{history}?limit=3{cursor}")).await.expect(200);
    let first = page("").await;
    assert_eq!((rows(&first), &first["prev_cursor"]), (expected[..3].to_vec(), &Value::Null));
    let second = page(&format!("&cursor={}", text(&first, "next_cursor"))).await;
    assert_eq!(rows(&second), expected[3..6]);
    let third = page(&format!("&cursor={}", text(&second, "next_cursor"))).await;
    assert_eq!((rows(&third), &third["next_cursor"]), (expected[6..].to_vec(), &Value::Null));
    let second_again = page(&format!("&cursor={}", text(&third, "prev_cursor"))).await;
    assert_eq!(rows(&second_again), expected[3..6]);
    let first_again = page(&format!("&cursor={}", text(&second_again, "prev_cursor"))).await;
    assert_eq!((rows(&first_again), &first_again["prev_cursor"]), (expected[..3].to_vec(), &Value::Null));
    // What arrives meanwhile does not move a page.
    tenant.publish("message.read", json!({})).await;
    let second_later = page(&format!("&cursor={}", text(&first, "next_cursor"))).await;
    assert_eq!(rows(&second_later), expected[3..6]);

    let failed = array(&whole, "data").iter().find(|one| one["status"] == "failed").unwrap();
    for (field, value) in [
        ("endpoint_id", endpoint["id"].clone()),
        ("location_id", json!(tenant.location_id)),
        ("event_type", json!("message.sent")),
        ("attempt_count", json!(1)),
        ("last_response_status", json!(500)),
        ("next_attempt_at", Value::Null),
    ] {
        assert_eq!(failed[field], value, "{field}");
    }
    assert!(failed["last_error"].is_string() && failed["last_attempt_at"].is_string());
    for bad in ["limit=0", "limit=251", "limit=x", "cursor=x", "page=2"] {
        tenant.client.get(&format!("{history}?{bad}")).await.problem(400);
    }
    let elsewhere = tenant.endpoint(&receiver.url("/x"), json!({})).await;
    let stolen =
        format!("/v1/endpoints/{}/deliveries?cursor={}", text(&elsewhere, "id"), text(&first, "next_cursor"));
    tenant.client.get(&stolen).await.problem(400);
    app.stop().await;
}

#[tokio::test]
async fn what_ended_is_sent_again_by_hand_and_the_numbers_go_on() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script(
        "/hook",
        [Answer::status(500), Answer::status(503), Answer::status(500), Answer::status(200)],
    );
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": [1]})).await;
    let event = tenant.publish("message.sent", json!({"a": 1})).await;
    let failed = ended(&tenant, &event, &endpoint, "failed").await;
    assert_eq!(failed["attempt_count"], 2);
    let retry = format!("{}/retry", path(&event, &endpoint));
    // The ladder starts again: the first retry fails too, and is followed by one more.
    let answer = tenant.client.poke(&retry).await.expect(202);
    assert!(["pending", "succeeded"].contains(&text(&answer, "status")), "{answer}");
    let succeeded = ended(&tenant, &event, &endpoint, "succeeded").await;
    let attempt = |one: &Value| {
        (one["number"].as_i64().unwrap(), text(one, "trigger").to_owned(), text(one, "outcome").to_owned())
    };
    let all: Vec<_> = array(&succeeded, "attempts").iter().map(attempt).collect();
    let expected = [
        (1, "scheduled", "failed"),
        (2, "scheduled", "failed"),
        (3, "manual", "failed"),
        (4, "scheduled", "succeeded"),
    ];
    assert_eq!(
        all,
        expected.map(|(number, trigger, outcome)| (number, trigger.to_owned(), outcome.to_owned()))
    );

    tenant.client.poke(&retry).await.expect(202);
    let again = tenant
        .delivery_when(&event, &endpoint, |one| one["attempt_count"] == 5 && one["status"] == "succeeded")
        .await;
    assert_eq!(attempt(&again["attempts"][4]), (5, "manual".to_owned(), "succeeded".to_owned()));
    let seen = receiver.take(5).await;
    let numbers: Vec<&str> = seen.iter().map(|one| one.header("x-posthaste-attempt")).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5"]);
    assert!(
        seen.iter().all(|one| one.body == seen[0].body && one.header("webhook-id") == text(&event, "id"))
    );
    let audit = tenant.client.get("/v1/audit").await.expect(200);
    let retries = array(&audit, "data").iter().filter(|one| one["action"] == "delivery.retry").count();
    assert_eq!(retries, 2);
    app.stop().await;
}

#[tokio::test]
async fn a_pending_one_is_hastened_or_canceled_and_an_ended_one_is_not() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(500), Answer::status(500), Answer::status(200)]);
    let tenant = app.tenant().await;
    let fields = json!({"retry_schedule_s": [LONG_S, LONG_S, LONG_S]});
    let endpoint = tenant.endpoint(&receiver.url("/hook"), fields).await;
    let event = tenant.publish("message.sent", json!({})).await;
    let (retry, cancel) =
        (format!("{}/retry", path(&event, &endpoint)), format!("{}/cancel", path(&event, &endpoint)));
    let waits = tenant.delivery_when(&event, &endpoint, |one| one["attempt_count"] == 1).await;
    assert_eq!(waits["status"], "pending");
    assert!(text(&waits, "next_attempt_at") > text(&waits, "last_attempt_at"));
    tenant.client.poke(&retry).await.expect(202);
    let waits = tenant.delivery_when(&event, &endpoint, |one| one["attempt_count"] == 2).await;
    assert_eq!((&waits["status"], &waits["attempts"][1]["trigger"]), (&json!("pending"), &json!("manual")));

    let canceled = tenant.client.poke(&cancel).await.expect(200);
    assert_eq!((&canceled["status"], &canceled["next_attempt_at"]), (&json!("canceled"), &Value::Null));
    tenant.client.poke(&cancel).await.problem(409);
    assert_eq!(receiver.take(2).await.len(), 2);
    tenant.client.poke(&retry).await.expect(202);
    let succeeded = ended(&tenant, &event, &endpoint, "succeeded").await;
    assert_eq!(succeeded["attempt_count"], 3);
    tenant.client.poke(&cancel).await.problem(409);
    let resting = ended(&tenant, &event, &endpoint, "succeeded").await;
    assert_eq!(resting["attempt_count"], 3);
    app.stop().await;
}

#[tokio::test]
async fn a_cancel_meets_an_attempt_in_flight() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let gate = Arc::new(Notify::new());
    receiver.script("/hook", [Answer::status(500).behind(&gate)]);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": [1]})).await;
    let event = tenant.publish("message.sent", json!({})).await;
    receiver.next().await;
    let cancel = format!("{}/cancel", path(&event, &endpoint));
    let open = async {
        tenant.delivery_when(&event, &endpoint, |one| one["status"] == "canceled").await;
        gate.notify_one();
    };
    let (reply, ()) = tokio::join!(tenant.client.poke(&cancel), open);
    assert!([200, 202].contains(&reply.status), "{}", reply.text);
    let delivery = tenant.delivery_when(&event, &endpoint, |one| one["attempt_count"] == 1).await;
    assert_eq!(delivery["status"], "canceled", "its failure changes nothing");
    assert_eq!(app.stored().await.1, 0);
    app.stop().await;
}

#[tokio::test]
async fn a_held_one_stays_held_when_retried_and_can_be_canceled() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let endpoint_path = format!("/v1/endpoints/{}", text(&endpoint, "id"));
    tenant.client.poke(&format!("{endpoint_path}/pause")).await.expect(200);
    let (kept, gone) =
        (tenant.publish("message.sent", json!(1)).await, tenant.publish("message.sent", json!(2)).await);
    for event in [&kept, &gone] {
        let held = tenant.client.poke(&format!("{}/retry", path(event, &endpoint))).await.expect(202);
        assert_eq!((&held["status"], &held["attempt_count"]), (&json!("held"), &json!(0)));
    }
    tenant.client.poke(&format!("{}/cancel", path(&gone, &endpoint))).await.expect(200);
    assert!(receiver.rest().is_empty());
    tenant.client.poke(&format!("{endpoint_path}/resume")).await.expect(200);
    ended(&tenant, &kept, &endpoint, "succeeded").await;
    assert_eq!(receiver.next().await.header("webhook-id"), text(&kept, "id"));
    assert!(receiver.rest().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let unrelated = tenant.endpoint(&receiver.url("/x"), json!({"event_types": ["contact.*"]})).await;
    let foreign = other.endpoint(&receiver.url("/y"), json!({})).await;
    let event = tenant.publish("message.sent", json!({})).await;
    let foreign_event = other.publish("message.sent", json!({})).await;
    ended(&tenant, &event, &endpoint, "succeeded").await;
    ended(&other, &foreign_event, &foreign, "succeeded").await;
    let unknown = |prefix: &str| json!({"id": format!("{prefix}_0193aaaa-0000-7000-8000-000000000000")});
    for (event, endpoint) in [
        (&event, &unrelated),
        (&event, &foreign),
        (&foreign_event, &endpoint),
        (&foreign_event, &foreign),
        (&unknown("evt"), &endpoint),
        (&event, &unknown("ep")),
        (&json!({"id": "evt_1"}), &endpoint),
        (&event, &json!({"id": event["id"]})),
    ] {
        let path = path(event, endpoint);
        tenant.client.get(&path).await.problem(404);
        tenant.client.poke(&format!("{path}/retry")).await.problem(404);
        tenant.client.poke(&format!("{path}/cancel")).await.problem(404);
    }
    for path in [
        format!("/v1/events/{}", text(&foreign_event, "id")),
        "/v1/events/evt_1".to_owned(),
        format!("/v1/endpoints/{}/deliveries", text(&foreign, "id")),
        "/v1/endpoints/ep_1/deliveries".to_owned(),
    ] {
        tenant.client.get(&path).await.problem(404);
    }
    assert_eq!(app.stored().await, (2, 0, 0));
    let seen = other.client.get(&path(&foreign_event, &foreign)).await.expect(200);
    assert_eq!(seen["attempt_count"], 1);
    app.stop().await;
}

#[tokio::test]
async fn whatever_a_receiver_answers_is_shown_and_harms_nothing() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": []})).await;
    let large = vec![b'x'; 16 * 1024 + 1];
    for (status, body, shown, truncated) in [
        (200, b"a\0b\xff\xfe\xc3(\x01".to_vec(), "a\0b\u{fffd}\u{fffd}\u{fffd}(\u{1}".to_owned(), false),
        (500, b"\0".to_vec(), "\0".to_owned(), false),
        (200, Vec::new(), String::new(), false),
        (404, large, "x".repeat(16 * 1024), true),
        (200, vec![b'y'; 16 * 1024], "y".repeat(16 * 1024), false),
    ] {
        receiver.script(
            "/hook",
            [Answer::status(status)
                .body(body)
                .header("x-bytes", b"caf\xc3\xa9 \xff")
                .header("x-two", "a")
                .header("x-two", "b")],
        );
        let event = tenant.publish("message.sent", json!({})).await;
        let outcome = if status == 200 { "succeeded" } else { "failed" };
        let delivery = ended(&tenant, &event, &endpoint, outcome).await;
        let response = &delivery["attempts"][0]["response"];
        assert_eq!(response["status"], status);
        assert_eq!(text(response, "body"), shown);
        assert_eq!(response["truncated"], truncated, "{status}");
        assert_eq!(response["headers"]["x-bytes"], "café \u{fffd}");
        assert_eq!(response["headers"]["x-two"], "a, b");
    }
    let history =
        tenant.client.get(&format!("/v1/endpoints/{}/deliveries", text(&endpoint, "id"))).await.expect(200);
    assert_eq!(array(&history, "data").len(), 5);
    app.stop().await;
}
