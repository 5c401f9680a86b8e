//! The three routes: what they answer, to whom, and what they refuse.

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::{ACCOUNT, CREATE, DELETE, GET, account, delete_path, make};
use crate::helpers::{
    Receiver, Stored,
    client::Client,
    cluster::{give_back, take_away},
    spawn, spawn_with,
};
use crate::systems::sample;

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
