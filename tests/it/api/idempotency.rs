//! Publishing with an idempotency key: one effect, one answer, however often it is asked for.

use futures_util::future::join_all;
use posthaste::app::Roles;
use serde_json::{Value, json};

use super::{array, text};
use crate::helpers::{
    Receiver,
    client::{Client, Reply},
    spawn,
};

const EVENTS: &str = "/v1/locations/default/events";
const BATCH: &str = "/v1/events/batch";
const REPLAYED: &str = "idempotent-replayed";
const API: Roles = Roles { api: true, worker: false };

fn body() -> Value {
    json!({"type": "message.sent", "data": {"n": 1}})
}

fn keyed(client: &Client, key: &str) -> Client {
    client.with("idempotency-key", key)
}

#[track_caller]
fn assert_repeats(first: &Reply, repeat: &Reply) {
    assert_eq!((first.status, repeat.status), (202, 202), "{} {}", first.text, repeat.text);
    assert!(!first.headers.contains_key(REPLAYED));
    assert_eq!(repeat.headers[REPLAYED], "true");
    assert_eq!(first.text, repeat.text);
    assert_eq!(first.headers["content-type"], repeat.headers["content-type"]);
}

#[tokio::test]
async fn header_and_field_are_the_same_thing() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let mut in_body = body();
    in_body["idempotency_key"] = json!("k1");
    let first = tenant.client.post(EVENTS, in_body.clone()).await;
    // However the JSON is spaced and its data spelled.
    let spaced =
        r#" {"data": {"n": 1.0}, "type": "message.sent", "idempotency_key": "k1", "live_mode": true}"#;
    for repeat in [
        tenant.client.post(EVENTS, in_body.clone()).await,
        keyed(&tenant.client, "k1").post(EVENTS, body()).await,
        keyed(&tenant.client, "k1").post(EVENTS, in_body.clone()).await,
        tenant.client.send(reqwest::Method::POST, EVENTS, Some(spaced.to_owned())).await,
        keyed(&tenant.client, "k1")
            .post(&format!("/v1/locations/{}/events", tenant.location_id), body())
            .await,
        keyed(&app.operator().with("posthaste-tenant", &tenant.id), "k1").post(EVENTS, body()).await,
    ] {
        assert_repeats(&first, &repeat);
    }
    let unequal = keyed(&tenant.client, "k2").post(EVENTS, in_body.clone()).await;
    assert_eq!(unequal.pointers(), ["/idempotency_key"]);
    assert_eq!(app.stored().await, (1, 0, 1));
    app.stop().await;
}

#[tokio::test]
async fn another_request_with_the_key_is_refused() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let client = keyed(&tenant.client, "k");
    client.post(EVENTS, body()).await.expect(202);
    for (field, value) in [
        ("data", json!({"n": 2})),
        ("type", json!("message.read")),
        ("timestamp", json!("2026-11-20T10:00:00Z")),
        ("channel", json!("sms")),
        ("tags", json!({"a": "b"})),
        ("live_mode", json!(false)),
        ("api_version", json!("1")),
    ] {
        let mut other = body();
        other[field] = value;
        let problem = client.post(EVENTS, other).await.problem(422);
        assert_eq!(problem["type"], "urn:posthaste:problem:idempotency-key-reused", "{field}");
    }
    assert_eq!(app.stored().await, (1, 0, 1));
    app.stop().await;
}

#[tokio::test]
async fn a_key_is_of_one_location_and_tenant() {
    let mut app = spawn().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    tenant.client.post("/v1/locations", json!({"name": "B", "external_id": "b"})).await.expect(201);
    let events = json!({"events": [{"location_id": "default", "type": "message.sent", "data": {"n": 1}}]});
    let mut ids = Vec::new();
    for (client, path, body) in [
        (&tenant.client, EVENTS, body()),
        (&tenant.client, "/v1/locations/b/events", body()),
        (&other.client, EVENTS, body()),
    ] {
        let reply = keyed(client, "k").post(path, body).await;
        assert!(!reply.headers.contains_key(REPLAYED));
        ids.push(text(&reply.expect(202), "id").to_owned());
    }
    for client in [&tenant.client, &other.client] {
        let reply = keyed(client, "k").post(BATCH, events.clone()).await;
        assert!(!reply.headers.contains_key(REPLAYED));
        ids.push(text(&reply.expect(202)["data"][0], "id").to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), app.stored().await), (5, (5, 0, 5)));
    app.stop().await;
}

#[tokio::test]
async fn the_first_answer_stands_whatever_changed_since() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant_with(json!({"preset": "messagesync"})).await;
    let endpoint = tenant.endpoint(&receiver.url("/one"), json!({"event_types": ["*"]})).await;
    let body = json!({"type": "sms.message.inbound", "data": [1]});
    let batch = json!({"events": [{"location_id": "default", "type": "sms.message.inbound", "data": [1]}]});
    let client = keyed(&tenant.client, "k");
    let (first, first_batch) =
        (client.post(EVENTS, body.clone()).await, client.post(BATCH, batch.clone()).await);
    receiver.take(2).await;

    let elsewhere = app.another(API).await;
    let repeats = async || {
        for base in [&app, &elsewhere] {
            let client = keyed(&base.with_key(&tenant.key), "k");
            assert_repeats(&first, &client.post(EVENTS, body.clone()).await);
            assert_repeats(&first_batch, &client.post(BATCH, batch.clone()).await);
        }
    };
    tenant.endpoint(&receiver.url("/two"), json!({"event_types": ["*"]})).await;
    repeats().await;
    // Now new events of this kind are refused: 422 for the data, then 409 for the channel.
    let bare = json!({"event_types": ["*"], "format": "whatsable"});
    tenant.endpoint(&receiver.url("/three"), bare).await;
    assert_eq!(tenant.client.post(EVENTS, body.clone()).await.pointers(), ["/data"]);
    repeats().await;
    let channels = json!({"channels": ["whatsapp"]});
    tenant.client.patch("/v1/locations/default", channels).await.expect(200);
    tenant.client.post(EVENTS, body.clone()).await.problem(409);
    repeats().await;
    tenant.client.delete(&format!("/v1/endpoints/{}", text(&endpoint, "id"))).await.expect(204);
    repeats().await;
    let other = json!({"type": "sms.message.inbound", "data": [2]});
    assert_eq!(
        client.post(EVENTS, other).await.problem(422)["type"],
        "urn:posthaste:problem:idempotency-key-reused"
    );
    assert_eq!(app.stored().await, (2, 0, 2));
    assert!(receiver.rest().is_empty());
    let mut elsewhere = elsewhere;
    elsewhere.stop().await;
    app.stop().await;
}

#[tokio::test]
async fn twenty_at_once_on_two_programs_are_one_event_delivered_once() {
    let mut app = spawn().await;
    let mut other = app.another(API).await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let clients = [&app, &other].map(|app| keyed(&app.with_key(&tenant.key), "once"));
    let batch = json!({"events": [{"location_id": "default", "type": "message.read", "data": 1}]});
    for (path, body) in [(EVENTS, body()), (BATCH, batch)] {
        let mut waiting: Vec<usize> = (0..20).collect();
        let (mut answers, mut fresh) = (Vec::new(), 0);
        // One that is in flight is a 409, to be repeated.
        while !waiting.is_empty() {
            let sending = waiting.iter().map(|at| clients[at % 2].post(path, body.clone()));
            let replies = join_all(sending).await;
            let again = waiting.iter().zip(&replies).filter(|(_, reply)| reply.status == 409);
            let again = again.map(|(at, _)| *at).collect();
            for reply in replies.into_iter().filter(|reply| reply.status != 409) {
                fresh += usize::from(!reply.headers.contains_key(REPLAYED));
                answers.push(reply.expect(202).to_string());
            }
            waiting = again;
        }
        answers.dedup();
        assert_eq!((answers.len(), fresh), (1, 1), "{answers:?}");
        let answer: Value = serde_json::from_str(&answers[0]).unwrap();
        let event = if path == BATCH { &answer["data"][0] } else { &answer };
        let delivery = tenant.delivery_when(event, &endpoint, |one| one["status"] == "succeeded").await;
        assert_eq!(delivery["attempt_count"], 1);
        assert_eq!(receiver.next().await.header("webhook-id"), text(event, "id"));
    }
    assert_eq!(app.stored().await, (2, 0, 2));
    assert!(receiver.rest().is_empty());
    other.stop().await;
    app.stop().await;
}

#[tokio::test]
async fn a_batch_is_stored_once_by_its_header() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let event = |n: u32| json!({"location_id": "default", "type": "message.sent", "data": n});
    let client = keyed(&tenant.client, "batch");
    let first = client.post(BATCH, json!({"events": [event(1), event(2)]})).await;
    assert_repeats(&first, &client.post(BATCH, json!({"events": [event(1), event(2)]})).await);
    let by_id = json!({"location_id": tenant.location_id, "type": "message.sent", "data": 1.0});
    assert_repeats(&first, &client.post(BATCH, json!({"events": [by_id, event(2)]})).await);
    for other in [vec![event(2), event(1)], vec![event(1)], vec![event(1), event(2), event(3)]] {
        let problem = client.post(BATCH, json!({"events": other})).await.problem(422);
        assert_eq!(problem["type"], "urn:posthaste:problem:idempotency-key-reused");
    }
    assert_eq!(array(&first.json(), "data").len(), 2);
    assert_eq!(app.stored().await, (2, 0, 1));
    app.stop().await;
}

#[tokio::test]
async fn a_key_survives_a_restart() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let first = keyed(&tenant.client, "k").post(EVENTS, body()).await;
    app.stop().await;
    let mut app = app.another(Roles { api: true, worker: true }).await;
    let client = keyed(&app.with_key(&tenant.key), "k");
    assert_repeats(&first, &client.post(EVENTS, body()).await);
    let mut other = body();
    other["data"] = json!({"n": 2});
    client.post(EVENTS, other).await.problem(422);
    assert_eq!(app.stored().await, (1, 0, 1));
    app.stop().await;
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free_and_keys_have_a_form() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let client = keyed(&tenant.client, "k");
    let mut wrong = body();
    wrong["type"] = json!("nope");
    client.post(EVENTS, wrong).await.pointers();
    let longest = "k".repeat(255);
    for ill in ["", "a b", "k\t", "ü", &"k".repeat(256)] {
        let mut in_body = body();
        in_body["idempotency_key"] = json!(ill);
        assert_eq!(tenant.client.post(EVENTS, in_body).await.pointers(), ["/idempotency_key"], "{ill:?}");
        // White space at the end is no part of a header's value.
        if ill != "k\t" {
            keyed(&tenant.client, ill).post(EVENTS, body()).await.problem(400);
        }
    }
    for not_text in [json!(1), json!({}), json!(["k"])] {
        let mut in_body = body();
        in_body["idempotency_key"] = not_text;
        assert_eq!(tenant.client.post(EVENTS, in_body).await.pointers(), ["/idempotency_key"]);
    }
    assert_eq!(app.stored().await, (0, 0, 0));
    for good in ["k", &longest, "!~"] {
        let reply = keyed(&tenant.client, good).post(EVENTS, body()).await;
        assert!(!reply.headers.contains_key(REPLAYED));
        reply.expect(202);
    }
    app.stop().await;
}
