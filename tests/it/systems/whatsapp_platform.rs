//! WhatsApp API Platform: Webhook Settings, the endpoint editor, Message History, the payload panel, the danger zone.

use std::{collections::VecDeque, str::from_utf8};

use serde_json::{Value, json};

use super::{hmac_hex, path, sample, text};
use crate::helpers::{Answer, Receiver, TestApp, app::Tenant, receiver::Seen, spawn};

const AT: &str = "2026-05-13T14:47:54.719Z";
const AT_UNIX_S: u64 = 1_778_683_674;
const TYPES: [&str; 3] = ["message.incoming", "message.report", "form.submitted"];

async fn start() -> (TestApp, Receiver, Tenant) {
    let app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant_with(json!({"preset": "whatsapp_platform"})).await;
    (app, receiver, tenant)
}

/// The page's `verify_signature`.
fn verifies(seen: &Seen, secret: &str) -> bool {
    hmac_hex(secret, &seen.body) == seen.header("x-webhook-signature")
}

#[tokio::test]
async fn an_endpoint_is_made_listed_and_edited() {
    let (mut app, receiver, tenant) = start().await;
    let client = &tenant.client;
    let url = receiver.url("/webhook");
    // The dialog: URL, Description, Rate Limit, Event Types.
    for (body, missing) in [
        (json!({"name": "CRM sync", "event_types": TYPES}), "/url"),
        (json!({"url": url, "event_types": TYPES}), "/name"),
        (json!({"url": url, "name": "CRM sync"}), "/event_types"),
        (json!({"url": url, "name": "CRM sync", "event_types": []}), "/event_types"),
        (
            json!({"url": url, "name": "CRM sync", "event_types": TYPES, "rate_limit_per_s": 0}),
            "/rate_limit_per_s",
        ),
    ] {
        assert_eq!(client.post("/v1/endpoints", body).await.pointers(), [missing]);
    }
    let blank =
        tenant.endpoint(&url, json!({"name": "Team alerts", "event_types": ["message.incoming"]})).await;
    assert_eq!(blank["rate_limit_per_s"], Value::Null, "no limit");
    let fields = json!({"name": "CRM sync", "rate_limit_per_s": 25, "event_types": ["message.incoming", "message.report"]});
    let made = tenant.endpoint(&url, fields).await;
    assert!(text(&made, "secret").starts_with("whsec_"));

    // The list, Previous and Next.
    let next = client.get("/v1/endpoints?limit=1").await.expect(200);
    let row = &next["data"][0];
    assert_eq!(
        (&row["name"], &row["status"], &row["url"]),
        (&json!("CRM sync"), &json!("active"), &json!(url))
    );
    assert_eq!(row["event_types"], json!(["message.incoming", "message.report"]));
    let turn =
        async |cursor: &str| client.get(&format!("/v1/endpoints?limit=1&cursor={cursor}")).await.expect(200);
    let last = turn(text(&next, "next_cursor")).await;
    assert_eq!((&last["data"][0]["id"], &last["next_cursor"]), (&blank["id"], &Value::Null));
    assert_eq!(turn(text(&last, "prev_cursor")).await["data"][0]["id"], made["id"]);

    // The editor: everything can be changed, but for the last event type. The secret is copied later, too.
    let change = json!({"url": receiver.url("/moved"), "name": "CRM", "rate_limit_per_s": null, "event_types": ["form.submitted"]});
    let changed = client.patch(&path(&made), change.clone()).await.expect(200);
    for (field, value) in change.as_object().unwrap() {
        assert_eq!(changed[field], *value, "{field}");
    }
    assert_eq!(client.patch(&path(&made), json!({"event_types": []})).await.pointers(), ["/event_types"]);
    let shown = client.get(&format!("{}/secret", path(&made))).await.expect(200);
    assert_eq!(shown["secret"], made["secret"]);
    app.stop().await;
}

#[tokio::test]
async fn the_envelope_is_the_pages_for_each_event_type_and_only_those_picked_arrive() {
    let (mut app, mut receiver, tenant) = start().await;
    for event_type in TYPES {
        let hook = format!("/{event_type}");
        let endpoint = tenant.endpoint(&receiver.url(&hook), json!({"event_types": [event_type]})).await;
        let data = sample(&tenant, event_type).await;
        for (more, live, version) in [
            (json!({}), true, "2026-02-04"),
            (json!({"live_mode": false, "api_version": "2027-01-01"}), false, "2027-01-01"),
        ] {
            let mut body = json!({"type": event_type, "timestamp": AT, "data": data});
            body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            let event = tenant.try_publish(body).await.expect(202);
            let seen = receiver.next().await;
            let id = text(&event, "id");
            let expected = format!(
                r#"{{"id":"{id}","type":"{event_type}","api_version":"{version}","created_at":{AT_UNIX_S},"liveMode":{live},"data":{{"object":{data}}}}}"#
            );
            assert_eq!((from_utf8(&seen.body).unwrap(), &seen.path), (&expected[..], &hook));
            assert!(verifies(&seen, text(&endpoint, "secret")));
            let tampered =
                expected.replace(&format!("\"liveMode\":{live}"), &format!("\"liveMode\":{}", !live));
            assert!(!verifies(&Seen { body: tampered.into(), ..seen }, text(&endpoint, "secret")));
        }
    }
    app.stop().await;
    assert!(receiver.rest().is_empty(), "nobody else's events");
}

#[tokio::test]
async fn regenerating_the_secret_ends_the_old_one_at_once() {
    let (mut app, mut receiver, tenant) = start().await;
    let endpoint = tenant.endpoint(&receiver.url("/webhook"), json!({})).await;
    let rotated = tenant.client.poke(&format!("{}/secret/rotate", path(&endpoint))).await.expect(200);
    let (old, new) = (text(&endpoint, "secret"), text(&rotated, "secret"));
    assert!(new.starts_with("whsec_") && new != old);
    tenant.publish("message.incoming", json!({"text": "hello"})).await;
    let seen = receiver.next().await;
    assert!(verifies(&seen, new) && !verifies(&seen, old));
    let live: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM endpoint_secrets WHERE expires_at IS NULL OR expires_at > now()",
    )
    .fetch_one(&mut app.sql().await)
    .await
    .unwrap();
    assert_eq!(live, 1);
    app.stop().await;
}

#[tokio::test]
async fn a_test_event_confirms_that_an_endpoint_is_wired_up() {
    let (mut app, mut receiver, tenant) = start().await;
    let endpoint = tenant.endpoint(&receiver.url("/webhook"), json!({"event_types": TYPES})).await;
    for event_type in TYPES {
        let test = json!({"event_type": event_type});
        let attempt = tenant.client.post(&format!("{}/test", path(&endpoint)), test).await.expect(200);
        let seen = receiver.next().await;
        assert!(verifies(&seen, text(&endpoint, "secret")));
        let body = seen.json();
        assert_eq!((&body["type"], &body["liveMode"]), (&json!(event_type), &json!(false)));
        assert_eq!(body["data"]["object"], sample(&tenant, event_type).await);
        assert_eq!(attempt["request"]["body"], from_utf8(&seen.body).unwrap());
        assert_eq!((&attempt["outcome"], &attempt["response"]["status"]), (&json!("succeeded"), &json!(200)));
    }
    let health = tenant.client.get(&path(&endpoint)).await.expect(200);
    assert_eq!(
        (&health["status"], &health["last_error"]),
        (&json!("active"), &Value::Null),
        "no recent errors"
    );
    app.stop().await;
}

#[tokio::test]
async fn the_history_counts_pages_shows_a_payload_and_ends_with_its_endpoint() {
    let (mut app, mut receiver, tenant) = start().await;
    let client = &tenant.client;
    let endpoint = tenant.endpoint(&receiver.url("/webhook"), json!({"retry_schedule_s": []})).await;
    receiver.script("/webhook", [200, 200, 500, 200].map(|status| Answer::status(status).body("seen")));
    let mut events = VecDeque::new();
    for status in ["succeeded", "succeeded", "failed", "succeeded"] {
        let body = json!({"type": "message.report", "data": sample(&tenant, "message.report").await,
            "tags": {"campaign": "été"}});
        let event = tenant.try_publish(body).await.expect(202);
        tenant.delivery_when(&event, &endpoint, |one| one["status"] == status).await;
        events.push_front(event);
    }
    // The cards.
    let cards = client.get(&format!("{}/stats", path(&endpoint))).await.expect(200);
    let shown = ["total", "succeeded", "failed", "success_rate"].map(|name| &cards[name]);
    assert_eq!(shown, [&json!(4), &json!(3), &json!(1), &json!(0.75)]);
    // The table, Previous and Next.
    let history = format!("{}/deliveries?limit=2", path(&endpoint));
    let first = client.get(&history).await.expect(200);
    let second = client.get(&format!("{history}&cursor={}", text(&first, "next_cursor"))).await.expect(200);
    let back = client.get(&format!("{history}&cursor={}", text(&second, "prev_cursor"))).await.expect(200);
    assert_eq!(back["data"], first["data"]);
    let rows: Vec<&Value> =
        [&first, &second].iter().flat_map(|page| page["data"].as_array().unwrap()).collect();
    let expected = [("succeeded", 200), ("failed", 500), ("succeeded", 200), ("succeeded", 200)];
    assert_eq!(rows.len(), expected.len());
    for ((row, event), (status, response)) in rows.iter().zip(&events).zip(expected) {
        assert_eq!((&row["event_id"], &row["event_type"]), (&event["id"], &json!("message.report")));
        assert_eq!((&row["status"], &row["last_response_status"]), (&json!(status), &json!(response)));
        assert!(row["last_attempt_at"].is_string());
    }
    // The panel: what was POSTed, what came back, id, time and tags.
    let failed = tenant.delivery_when(&events[1], &endpoint, |one| one["status"] == "failed").await;
    let seen = receiver.take(4).await;
    assert_eq!(failed["request"]["body"], from_utf8(&seen[2].body).unwrap());
    assert_eq!(failed["attempts"][0]["response"]["body"], "seen");
    assert!(failed["attempts"][0]["at"].is_string());
    let event = client.get(&format!("/v1/events/{}", text(&failed, "event_id"))).await.expect(200);
    assert_eq!(event["tags"], json!({"campaign": "été"}));
    // Mended, the one that failed is sent again.
    tenant.tell_delivery(&events[1], &endpoint, "retry").await.expect(202);
    assert_eq!(receiver.next().await.body, seen[2].body);
    tenant.delivery_when(&events[1], &endpoint, |one| one["status"] == "succeeded").await;

    // The danger zone.
    client.delete(&path(&endpoint)).await.expect(204);
    assert_eq!(tenant.publish("message.report", json!({})).await["deliveries"], json!([]));
    for gone in ["", "/deliveries", "/stats", "/attempts"] {
        client.get(&format!("{}{gone}", path(&endpoint))).await.problem(404);
    }
    tenant.tell_delivery(&events[0], &endpoint, "retry").await.problem(404);
    app.stop().await;
    assert!(receiver.rest().is_empty());
}
