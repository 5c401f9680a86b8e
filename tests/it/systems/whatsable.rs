//! WhatsAble: its own three routes, as a dashboard uses them that was written from its page and nothing else; conversations, as its
//! handler reads them; its troubleshooting.

use std::str::from_utf8;

use posthaste::types::ecma_json::normalise;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{hmac_hex, sample, text, waits_s};
use crate::helpers::{
    Answer, Receiver, Stored, Tenant, TestApp,
    client::Client,
    cluster::{give_back, take_away},
    spawn, spawn_with,
};

const GET: &str = "/api/webhooks/get";
const CREATE: &str = "/api/webhooks/create";
const DELETE: &str = "/api/webhooks/delete";
const ACCOUNT: &str = "6fb11ff2-d9b2-4560-8437-0fe58ec9f4a6";

/// The page's media message.
const DOCUMENT: &str = r#"{
    "last_messages": [
      {"type": "user", "content": "", "timestamp": "2025-06-09T14:05:12.000Z", "content_type": "document",
        "media_url": "https://api.insightssystem.com/vault/contract_v2.pdf"},
      {"type": "bot", "content": "Please send the signed contract when ready.",
        "timestamp": "2025-06-09T14:03:20.000Z", "content_type": "text"}
    ],
    "conversation_paragraph": "User (2:05:12 PM): [Document] ; Bot (2:03:20 PM): Please send the signed contract when ready.",
    "phone_number": "14155552671",
    "recipient_name": "Alex Martinez",
    "user_id": "9232fcef-a570-4a2c-b46b-6cab53aec304",
    "last_message_of_user": "",
    "last_message_of_bot": "Please send the signed contract when ready.",
    "message_type": "document",
    "user_last_message_time": 1749472312,
    "bot_last_message_time": 1749472200,
    "attachment_url": "https://api.insightssystem.com/vault/contract_v2.pdf",
    "note": "",
    "note_automation": "",
    "labels": "contracts"
  }"#;

async fn account(app: &TestApp) -> Tenant {
    app.tenant_with(json!({"preset": "whatsable", "validate_payloads": true})).await
}

/// The one endpoint that there is, as `/v1` shows it, secret included.
async fn endpoint(tenant: &Tenant) -> Value {
    let mut one = tenant.client.get("/v1/endpoints").await.expect(200)["data"][0].clone();
    let secret = tenant.client.get(&format!("/v1/endpoints/{}/secret", text(&one, "id"))).await.expect(200);
    one["secret"] = secret["secret"].clone();
    one
}

async fn make(client: &Client, url: &str) -> Value {
    let answer = client.post(CREATE, json!({"webhook": url})).await.expect(200);
    let fields: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["data"]);
    answer["data"].clone()
}

fn delete_path(webhook: &Value) -> String {
    format!("{DELETE}?id={}", webhook["id"])
}

#[tokio::test]
async fn a_webhook_is_made_listed_sent_to_and_deleted() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant_with(json!({"preset": "whatsable", "external_id": ACCOUNT})).await;
    assert_eq!(tenant.client.get(GET).await.expect(200), json!([]));
    let url = receiver.url("/hook");
    let made = make(&tenant.client, &url).await;
    let fields: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["id", "created_at", "webhook", "user_id"]);
    assert!(made["id"].is_i64());
    assert_eq!((&made["webhook"], &made["user_id"]), (&json!(url), &json!(ACCOUNT)));
    let at = made["created_at"].as_str().unwrap();
    assert!(at.len() == 24 && at.ends_with('Z'), "{at}");

    // The same thing as an endpoint: in the default location, named after its host, for everything.
    let endpoints = tenant.client.get("/v1/endpoints").await.expect(200);
    let endpoint = &endpoints["data"][0];
    assert_eq!((&endpoint["name"], &endpoint["url"]), (&json!("127.0.0.1"), &json!(url)));
    assert_eq!(endpoint["event_types"], json!(["*"]));
    assert_eq!(endpoint["location_id"], tenant.location_id.as_str());

    let data = json!({"conversation_paragraph": "User: hello", "labels": "support", "last_messages": []});
    tenant.publish("message.incoming", data.clone()).await;
    assert_eq!(receiver.next().await.json(), data, "bare");

    // One that was made elsewhere has a number, too; newest first.
    tenant.endpoint(&receiver.url("/other"), json!({"event_types": ["message.incoming"]})).await;
    let list = tenant.client.get(GET).await.expect(200);
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[1], made);
    assert_eq!(list[0]["webhook"], receiver.url("/other"));
    assert!(list[0]["id"].as_i64() > made["id"].as_i64());

    assert_eq!(tenant.client.delete(&delete_path(&made)).await.expect(200), json!({"success": true}));
    tenant.publish("message.incoming", data).await;
    assert_eq!(receiver.next().await.path, "/other");
    assert!(receiver.rest().is_empty());
    tenant.client.delete(&delete_path(&made)).await.problem(404);
    assert_eq!(tenant.client.get(GET).await.expect(200).as_array().unwrap().len(), 1);
    app.stop().await;
}

#[tokio::test]
async fn the_account_is_the_tenants_external_id_or_else_its_own() {
    let mut app = spawn().await;
    for external_id in [None, Some("customer-7")] {
        let tenant = app.tenant_with(json!({"preset": "whatsable", "external_id": external_id})).await;
        let made = make(&tenant.client, "https://hooks.example.com/in").await;
        let own = tenant.id.trim_start_matches("ten_");
        assert_eq!(made["user_id"], own);
        assert!(Uuid::try_parse(own).is_ok());
    }
    app.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_a_400() {
    let mut app = spawn_with(&["--allow-targets", "192.0.2.1/32"]).await;
    let tenant = account(&app).await;
    let made = make(&tenant.client, "https://hooks.example.com/in").await;
    let before = Stored::read(&mut app.sql().await).await;
    for body in [
        json!({}),
        json!({"webhook": ""}),
        json!({"webhook": null}),
        json!({"webhook": 7}),
        json!({"webhook": "not a url"}),
        json!({"webhook": "ftp://hooks.example.com/"}),
        json!({"webhook": "https://user:password@hooks.example.com/"}),
        json!({"webhook": "https://localhost/"}),
        json!({"webhook": "http://10.0.0.1/"}),
        json!({"webhook": "http://169.254.169.254/latest/meta-data"}),
        json!({"webhook": "https://hooks.example.com/\u{0}"}),
        json!({"webhook": format!("https://hooks.example.com/{}", "x".repeat(4_000))}),
        json!({"webhook": "https://hooks.example.com/", "user_id": ACCOUNT}),
        json!([]),
    ] {
        let problem = tenant.client.post(CREATE, body.clone()).await.problem(400);
        if body.get("webhook").is_some() && body.get("user_id").is_none() {
            assert_eq!(problem["errors"][0]["pointer"], "/webhook", "{problem}");
        }
    }
    for (text, kind) in [("{", "application/json"), ("", "application/json"), ("webhook=x", "text/plain")] {
        let client = tenant.client.with("content-type", kind);
        client.send(Method::POST, CREATE, Some(text.to_owned())).await.problem(400);
    }
    for query in ["", "?id=", "?id=x", "?id=1.5", "?id=99999999999999999999", "?id=1&id=2", "?number=1"] {
        tenant.client.delete(&format!("{DELETE}{query}")).await.problem(400);
    }
    for nothing in [0, -1, made["id"].as_i64().unwrap() + 1] {
        tenant.client.delete(&format!("{DELETE}?id={nothing}")).await.problem(404);
    }
    Stored::read(&mut app.sql().await).await.assert_same(&before, "bad requests");
    app.stop().await;
}

#[tokio::test]
async fn who_may_do_what() {
    let mut app = spawn().await;
    let (one, two, standard) = (account(&app).await, account(&app).await, app.tenant().await);
    let made = make(&one.client, "https://hooks.example.com/in").await;
    let others = make(&two.client, "https://hooks.example.com/in").await;
    assert!(others["id"].as_i64() > made["id"].as_i64(), "one sequence for all");
    let calls = |client: Client| {
        let path = delete_path(&made);
        async move {
            let body = json!({"webhook": "https://a.example.com/"});
            [client.get(GET).await, client.post(CREATE, body).await, client.delete(&path).await]
        }
    };
    let before = Stored::read(&mut app.sql().await).await;
    // Another account's webhook exists: its page says so.
    two.client.delete(&delete_path(&made)).await.problem(403);
    for reply in calls(app.anonymous()).await {
        reply.problem(401);
    }
    for reply in calls(app.with_key("ph_nonsense")).await {
        reply.problem(401);
    }
    // Of a tenant of another preset there are no such routes.
    for reply in calls(standard.client.clone()).await {
        reply.problem(404);
    }
    let publisher = app.with_key(&app.key(&one.id, &["publish"]).await);
    for reply in calls(publisher).await {
        reply.problem(403);
    }
    let reader = app.with_key(&app.key(&one.id, &["read"]).await);
    let [list, create, delete] = calls(reader).await;
    assert_eq!(list.expect(200).as_array().unwrap().len(), 1);
    create.problem(403);
    delete.problem(403);
    for reply in calls(app.operator()).await {
        reply.problem(400);
    }
    let after = Stored::read(&mut app.sql().await).await;
    assert_eq!(after.count("endpoints"), before.count("endpoints"));
    // The operator in the account's name.
    let [list, create, delete] = calls(app.operator().with("posthaste-tenant", &one.id)).await;
    assert_eq!(list.expect(200), json!([made]));
    create.expect(200);
    delete.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn making_one_is_done_once_for_its_key() {
    let mut app = spawn().await;
    let tenant = account(&app).await;
    let client = tenant.client.with("idempotency-key", "k");
    let body = json!({"webhook": "https://hooks.example.com/in"});
    let first = client.post(CREATE, body.clone()).await;
    let repeat = client.post(CREATE, body).await;
    assert_eq!(repeat.headers["idempotent-replayed"], "true");
    assert_eq!(first.text, repeat.text);
    assert_eq!(tenant.client.get(GET).await.expect(200).as_array().unwrap().len(), 1);
    app.stop().await;
}

#[tokio::test]
async fn a_database_that_is_away_is_a_500_and_nothing_is_changed() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = account(&app).await;
    let made = make(&tenant.client, &receiver.url("/hook")).await;
    let client = &tenant.client;
    let body = json!({"webhook": "https://hooks.example.com/in"});
    take_away(&app.database).await;
    for reply in
        [client.get(GET).await, client.post(CREATE, body).await, client.delete(&delete_path(&made)).await]
    {
        // "Retry after a short delay."
        assert_eq!(reply.headers["retry-after"], "1");
        let problem = reply.problem(500);
        assert_eq!(problem["type"], "urn:posthaste:problem:unavailable");
        assert_eq!(problem["detail"], "Nothing was changed. Try again in a moment.");
    }
    // Everywhere else that is a 503.
    client.get("/v1/endpoints").await.problem(503);
    give_back(&app.database).await;
    client.get_until(GET, |list| *list == json!([made])).await;
    let data = sample(&tenant, "message.incoming").await;
    tenant.publish("message.incoming", data.clone()).await;
    assert_eq!(receiver.next().await.json(), data);
    assert_eq!(client.delete(&delete_path(&made)).await.expect(200), json!({"success": true}));
    app.stop().await;
}

#[tokio::test]
async fn conversations_arrive_bare_and_signed() {
    // An operator who wants https of everybody else.
    let mut app = spawn_with(&["--allow-http", "false"]).await;
    let mut receiver = Receiver::start().await;
    let tenant = account(&app).await;
    make(&tenant.client, &receiver.url("/webhook")).await;
    let secret = text(&endpoint(&tenant).await, "secret").to_owned();
    let own = sample(&tenant, "message.incoming").await.to_string();
    for data in [own.as_str(), DOCUMENT] {
        let event = tenant.publish_raw(data).await.expect(202);
        let seen = receiver.next().await;
        assert_eq!((seen.method.as_str(), seen.header("content-type")), ("POST", "application/json"));
        assert_eq!(seen.header("webhook-id"), text(&event, "id"));
        assert_eq!(from_utf8(&seen.body).unwrap(), normalise(data).unwrap());
        let library = standardwebhooks::Webhook::new(&secret).unwrap();
        library.verify(&seen.body, &seen.headers).unwrap();
        assert_eq!(seen.header("x-webhook-signature"), hmac_hex(&secret, &seen.body));
        let tampered = from_utf8(&seen.body).unwrap().replace("phone", "Phone");
        assert!(library.verify(tampered.as_bytes(), &seen.headers).is_err());
    }
    // What is no conversation is refused when it is published.
    let broken = DOCUMENT.replace(r#""message_type": "document""#, r#""message_type": "fax""#);
    assert_eq!(tenant.publish_raw(&broken).await.pointers(), ["/data/message_type"]);
    app.stop().await;
}

#[tokio::test]
async fn any_2xx_within_10_s_will_do_and_all_else_comes_again() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let answers = [200, 201, 204, 302, 500, 500, 299];
    receiver.script("/webhook", answers.map(Answer::status));
    let tenant = account(&app).await;
    make(&tenant.client, &receiver.url("/webhook")).await;
    let endpoint = endpoint(&tenant).await;
    let preset = tenant.client.get("/v1/presets/whatsable").await.expect(200);
    assert_eq!(preset["format"]["timeout_ms"], 10_000);
    assert_eq!((&endpoint["format"], &endpoint["timeout_ms"]), (&json!("whatsable"), &Value::Null));
    let data = sample(&tenant, "message.incoming").await;
    for _ in 0..3 {
        let event = tenant.publish("message.incoming", data.clone()).await;
        tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    }
    receiver.take(3).await;
    let event = tenant.publish("message.incoming", data).await;
    for (count, seconds) in [(1, 10), (2, 60), (3, 300)] {
        let delivery = tenant.delivery_when(&event, &endpoint, |one| one["attempt_count"] == count).await;
        assert_eq!(delivery["status"], "pending");
        assert!(waits_s(&delivery, seconds), "{delivery}");
        tenant.tell_delivery(&event, &endpoint, "retry").await.expect(202);
    }
    tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    // One that keeps `phone_number` and `user_last_message_time` does nothing twice.
    let seen = receiver.take(4).await;
    assert!(seen.iter().all(|one| one.body == seen[0].body));
    app.stop().await;
}

/// "Already tried everything and it still doesn't work."
#[tokio::test]
async fn stale_and_double_registrations_are_found_and_deleted() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = account(&app).await;
    let mut made = Vec::new();
    for url in ["/test/7f3a", "/production", "/production"] {
        made.push(make(&tenant.client, &receiver.url(url)).await);
    }
    let count = async || tenant.client.get("/v1/endpoints").await.expect(200)["active_count"].clone();
    assert_eq!(count().await, 3);
    let found = tenant.client.get("/v1/endpoints?q=production").await.expect(200);
    assert_eq!(found["data"].as_array().unwrap().len(), 2);
    let data = sample(&tenant, "message.incoming").await;
    tenant.publish("message.incoming", data.clone()).await;
    receiver.take(3).await;

    for stale in &made[..2] {
        tenant.client.delete(&delete_path(stale)).await.expect(200);
    }
    assert_eq!(tenant.client.get(GET).await.expect(200), json!([made[2]]));
    assert_eq!(count().await, 1);
    tenant.publish("message.incoming", data).await;
    assert_eq!(receiver.next().await.path, "/production");
    app.stop().await;
    assert!(receiver.rest().is_empty());
}
