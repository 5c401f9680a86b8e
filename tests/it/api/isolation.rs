//! Nobody gets at what is another tenant's: every route there is, with every kind of key that must not open it.
//!
//! The routes are read out of the sources. One that is added without saying here who may use it fails the test.

use std::{collections::BTreeSet, fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::helpers::{Receiver, TestApp, app::Tenant, client::Client, spawn};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Anybody,
    /// With any live key.
    KeyHolder,
    Operator,
    Scope(&'static str),
}

use Who::{Anybody, KeyHolder, Operator, Scope};

/// Method, path, who may, and a body that is good.
fn routes() -> Vec<(&'static str, &'static str, Who, Option<Value>)> {
    let endpoint = json!({"name": "x", "url": "http://127.0.0.1:9999/", "event_types": ["*"]});
    let (read, write, publish, secrets) = (Scope("read"), Scope("write"), Scope("publish"), Scope("secrets"));
    vec![
        ("GET", "/healthz", Anybody, None),
        ("GET", "/readyz", Anybody, None),
        ("GET", "/v1/me", KeyHolder, None),
        ("GET", "/v1/presets", KeyHolder, None),
        ("GET", "/v1/presets/{name}", KeyHolder, None),
        ("POST", "/v1/tenants", Operator, Some(json!({"name": "x"}))),
        ("GET", "/v1/tenants", Operator, None),
        ("GET", "/v1/tenants/{tenant_id}", Operator, None),
        ("PATCH", "/v1/tenants/{tenant_id}", Operator, Some(json!({"name": "x"}))),
        ("POST", "/v1/tenants/{tenant_id}/keys", Operator, Some(json!({"name": "x", "scopes": ["read"]}))),
        ("GET", "/v1/tenants/{tenant_id}/keys", Operator, None),
        ("DELETE", "/v1/tenants/{tenant_id}/keys/{key_id}", Operator, None),
        ("POST", "/v1/keys", write, Some(json!({"name": "x", "scopes": ["write"]}))),
        ("GET", "/v1/keys", read, None),
        ("DELETE", "/v1/keys/{key_id}", write, None),
        ("POST", "/v1/locations", write, Some(json!({"name": "x"}))),
        ("GET", "/v1/locations", read, None),
        ("GET", "/v1/locations/{location_id}", read, None),
        ("PATCH", "/v1/locations/{location_id}", write, Some(json!({"name": "x"}))),
        ("DELETE", "/v1/locations/{location_id}", write, None),
        ("POST", "/v1/locations/{location_id}/endpoints", write, Some(endpoint.clone())),
        ("GET", "/v1/locations/{location_id}/endpoints", read, None),
        ("POST", "/v1/endpoints", write, Some(endpoint)),
        ("GET", "/v1/endpoints", read, None),
        ("GET", "/v1/endpoints/{endpoint_id}", read, None),
        ("PATCH", "/v1/endpoints/{endpoint_id}", write, Some(json!({"name": "x"}))),
        ("DELETE", "/v1/endpoints/{endpoint_id}", write, None),
        ("POST", "/v1/endpoints/{endpoint_id}/pause", write, None),
        ("POST", "/v1/endpoints/{endpoint_id}/resume", write, None),
        ("GET", "/v1/endpoints/{endpoint_id}/subscriptions", read, None),
        ("PUT", "/v1/endpoints/{endpoint_id}/subscriptions", write, Some(json!([{"event_type": "*"}]))),
        ("GET", "/v1/endpoints/{endpoint_id}/secret", secrets, None),
        ("POST", "/v1/endpoints/{endpoint_id}/secret/rotate", secrets, None),
        ("GET", "/v1/endpoints/{endpoint_id}/deliveries", read, None),
        ("GET", "/v1/event-types", read, None),
        ("POST", "/v1/event-types", write, Some(json!({"name": "a.b", "description": "d"}))),
        ("GET", "/v1/event-types/{name}", read, None),
        ("PATCH", "/v1/event-types/{name}", write, Some(json!({"group": "x"}))),
        ("DELETE", "/v1/event-types/{name}", write, None),
        (
            "POST",
            "/v1/locations/{location_id}/events",
            publish,
            Some(json!({"type": "message.sent", "data": 1})),
        ),
        ("GET", "/v1/locations/{location_id}/events", read, None),
        (
            "POST",
            "/v1/events/batch",
            publish,
            Some(json!({"events": [{"location_id": "default", "type": "message.sent", "data": 1}]})),
        ),
        ("GET", "/v1/events/{event_id}", read, None),
        ("GET", "/v1/events/{event_id}/deliveries/{endpoint_id}", read, None),
        ("POST", "/v1/events/{event_id}/deliveries/{endpoint_id}/retry", write, None),
        ("POST", "/v1/events/{event_id}/deliveries/{endpoint_id}/cancel", write, None),
        ("GET", "/v1/audit", read, None),
    ]
}

/// `.route("path", get(…).post(…))`, wherever it stands below `src/`.
fn routes_in_sources(directory: &Path, found: &mut BTreeSet<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            routes_in_sources(&path, found);
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        // The demo's receiver is no part of the API.
        if path.extension().is_none_or(|extension| extension != "rs")
            || path.ends_with("cli/demo/receiver.rs")
        {
            continue;
        }
        for (at, _) in source.match_indices(".route(") {
            let call = &source[at + ".route(".len()..];
            let end = call.find("\n        .").or_else(|| call.find(";\n")).unwrap_or(call.len());
            let (call, path) = (&call[..end], call.split('"').nth(1).expect("a path"));
            let methods = ["get", "post", "put", "patch", "delete"];
            let named: Vec<_> =
                methods.iter().filter(|method| call.contains(&format!("{method}("))).collect();
            // A method router made beforehand is the batch's, a POST.
            let named = if named.is_empty() { vec![&"post"] } else { named };
            found.extend(named.into_iter().map(|method| (method.to_uppercase(), path.to_owned())));
        }
    }
}

#[test]
fn every_route_is_in_the_table() {
    let mut found = BTreeSet::new();
    routes_in_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let table: BTreeSet<_> =
        routes().into_iter().map(|(method, path, ..)| (method.to_owned(), path.to_owned())).collect();
    let missing: Vec<_> = found.difference(&table).collect();
    let gone: Vec<_> = table.difference(&found).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not in the table: {missing:?}; not in the sources: {gone:?}"
    );
}

/// A tenant with one of everything.
struct Owner {
    tenant: Tenant,
    endpoint_id: String,
    event_id: String,
    key_id: String,
}

async fn owner(app: &TestApp, receiver: &Receiver) -> Owner {
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    tenant.client.post("/v1/event-types", json!({"name": "own.type", "description": "d"})).await.expect(201);
    let event = tenant.publish("message.incoming", json!({"n": 1})).await;
    tenant.delivery_when(&event, &endpoint, |delivery| delivery["status"] == "succeeded").await;
    let keys = tenant.client.get("/v1/keys").await.expect(200);
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    Owner { endpoint_id: id(&endpoint), event_id: id(&event), key_id: id(&keys["data"][0]), tenant }
}

impl Owner {
    fn path(&self, template: &str) -> String {
        template
            .replace("{tenant_id}", &self.tenant.id)
            .replace("{location_id}", &self.tenant.location_id)
            .replace("{endpoint_id}", &self.endpoint_id)
            .replace("{event_id}", &self.event_id)
            .replace("{key_id}", &self.key_id)
            .replace("{name}", "own.type")
    }
}

async fn call(
    client: &Client,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> crate::helpers::client::Reply {
    client.send(Method::from_bytes(method.as_bytes()).unwrap(), path, body.map(Value::to_string)).await
}

/// A digest of every table, but for what moves by itself: beats, when a key was last used, an endpoint's health
/// a second later.
async fn everything(sql: &mut PgConnection) -> Vec<(String, String)> {
    let tables = sqlx::query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1");
    let mut digests = Vec::new();
    for table in tables.fetch_all(&mut *sql).await.unwrap() {
        let table: String = table.get(0);
        let row = match table.as_str() {
            "nodes" | "endpoint_health" => continue,
            "api_keys" => "(t.id, t.revoked_at)::text",
            _ => "t::text",
        };
        let digest =
            format!("SELECT coalesce(md5(string_agg({row}, ',' ORDER BY {row})), '') FROM {table} t");
        let digest: String = sqlx::query_scalar(AssertSqlSafe(digest)).fetch_one(&mut *sql).await.unwrap();
        digests.push((table, digest));
    }
    digests
}

#[tokio::test]
async fn another_tenants_ids_do_not_exist() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let (owner, stranger) = (owner(&app, &receiver).await, app.tenant().await);
    let mut sql = app.sql().await;
    let before = everything(&mut sql).await;
    for (method, template, who, body) in routes() {
        if !matches!(who, Scope(_)) || !template.contains('{') {
            continue;
        }
        let reply = call(&stranger.client, method, &owner.path(template), body.as_ref()).await;
        let nothing = template.replace("{name}", "no.such.type");
        let made_up = "01a1fa00-0000-7000-8000-000000000000";
        let nothing = ["location", "endpoint", "event", "key"].iter().fold(nothing, |path, kind| {
            let prefix = match *kind {
                "location" => "loc_",
                "endpoint" => "ep_",
                "event" => "evt_",
                _ => "key_",
            };
            path.replace(&format!("{{{kind}_id}}"), &format!("{prefix}{made_up}"))
        });
        let unknown = call(&stranger.client, method, &nothing, body.as_ref()).await;
        let (mut one, mut other) = (reply.problem(404), unknown.problem(404));
        for problem in [&mut one, &mut other] {
            problem.as_object_mut().unwrap().remove("request_id");
        }
        assert_eq!(one, other, "{method} {template}: another's and nobody's must look the same");
    }
    assert_eq!(everything(&mut sql).await, before);
    app.stop().await;
}

#[tokio::test]
async fn without_a_live_key_nothing_opens() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let owner = owner(&app, &receiver).await;
    let revoked = app.key(&owner.tenant.id, &["read", "write", "publish", "secrets"]).await;
    let keys = owner.tenant.client.get("/v1/keys").await.expect(200);
    let revoked_id = keys["data"][0]["id"].as_str().unwrap().to_owned();
    // Used before it is revoked, so that it is remembered wherever keys are remembered.
    let path = format!("/v1/locations/{}/events", owner.tenant.location_id);
    app.with_key(&revoked).post(&path, json!({"type": "message.sent", "data": 1})).await.expect(202);
    owner.tenant.client.delete(&format!("/v1/keys/{revoked_id}")).await.expect(204);
    let expired = app.key(&owner.tenant.id, &["read", "write", "publish", "secrets"]).await;
    let mut sql = app.sql().await;
    sqlx::query("UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = (SELECT max(id::text)::uuid FROM api_keys)")
        .execute(&mut sql)
        .await
        .unwrap();

    let unknown = posthaste::auth::ApiKey::generate();
    let mistyped = format!("{}x", &revoked[..revoked.len() - 1]);
    let before = everything(&mut sql).await;
    let clients = [
        app.anonymous(),
        app.anonymous().with("authorization", "Basic dXNlcjpwdw=="),
        app.anonymous().with("authorization", "Bearer"),
        app.with_key(unknown.reveal()),
        app.with_key(&mistyped),
        app.with_key(&revoked),
        app.with_key(&expired),
    ];
    for (method, template, who, body) in routes() {
        if who == Anybody {
            continue;
        }
        for client in &clients {
            let reply = call(client, method, &owner.path(template), body.as_ref()).await;
            assert_eq!(reply.status, 401, "{method} {template}: {}", reply.text);
            assert!(reply.headers.contains_key("www-authenticate"));
            reply.problem(401);
        }
    }
    assert_eq!(everything(&mut sql).await, before);
    app.stop().await;
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_and_no_more() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let owner = owner(&app, &receiver).await;
    let scopes = ["read", "write", "publish", "secrets"];
    let mut without = Vec::new();
    for missing in scopes {
        let held: Vec<&str> = scopes.into_iter().filter(|scope| *scope != missing).collect();
        without.push((missing, app.with_key(&app.key(&owner.tenant.id, &held).await)));
    }
    let mut sql = app.sql().await;
    let before = everything(&mut sql).await;
    for (method, template, who, body) in routes() {
        for (missing, client) in &without {
            if who == Operator || who == Scope(missing) {
                let reply = call(client, method, &owner.path(template), body.as_ref()).await;
                assert_eq!(reply.status, 403, "{method} {template} without {missing}: {}", reply.text);
                reply.problem(403);
            }
        }
        // The operator must say for whom.
        if matches!(who, Scope(_)) {
            let reply = call(&app.operator(), method, &owner.path(template), body.as_ref()).await;
            assert_eq!(reply.status, 400, "{method} {template}: {}", reply.text);
            let wrong = app.operator().with("posthaste-tenant", "bakery");
            call(&wrong, method, &owner.path(template), body.as_ref()).await.problem(400);
            let nobody = app.operator().with("posthaste-tenant", "ten_01a1fa00-0000-7000-8000-000000000000");
            call(&nobody, method, &owner.path(template), body.as_ref()).await.problem(404);
            let stranger =
                owner.tenant.client.with("posthaste-tenant", "ten_01a1fa00-0000-7000-8000-000000000000");
            call(&stranger, method, &owner.path(template), body.as_ref()).await.problem(403);
        }
    }
    assert_eq!(everything(&mut sql).await, before);
    let acting = app.operator().with("posthaste-tenant", &owner.tenant.id);
    acting.get(&format!("/v1/endpoints/{}", owner.endpoint_id)).await.expect(200);
    app.stop().await;
}
