//! Tenants are strangers to each other, and keys do what their scopes say: held for every route there is.

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::routes::{Household, Ids, ROUTES, Route, Who, household};
use crate::helpers::{
    Receiver, Stored, TestApp,
    client::{Client, Reply},
    spawn,
};

const TENANT_HEADER: &str = "posthaste-tenant";
const ALL_SCOPES: [&str; 4] = ["read", "write", "publish", "secrets"];

async fn scene() -> (TestApp, Household, Receiver) {
    let app = spawn().await;
    let mut receiver = Receiver::start().await;
    let house = household(&app, &mut receiver).await;
    (app, house, receiver)
}

fn of_tenants() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| matches!(route.who, Who::Scope(_)))
}

fn closed() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.who != Who::Everyone)
}

/// Without what differs from request to request.
fn plain(reply: Reply, status: u16) -> Value {
    let mut problem = reply.problem(status);
    problem.as_object_mut().unwrap().remove("request_id");
    problem
}

#[tokio::test]
async fn another_tenants_ids_name_nothing() {
    let (mut app, house, mut receiver) = scene().await;
    let stranger = app.tenant().await;
    let in_its_name = app.operator().with(TENANT_HEADER, &stranger.id);
    let mut db = app.sql().await;
    let before = Stored::read(&mut db).await;
    for client in [&stranger.client, &in_its_name] {
        for route in of_tenants().filter(|route| route.has_ids()) {
            let theirs = plain(route.call(client, &house.ids).await, 404);
            let nothing = plain(route.call(client, &Ids::of_nothing()).await, 404);
            assert_eq!(theirs, nothing, "{}: indistinguishable", route.told());
            Stored::read(&mut db).await.assert_same(&before, &route.told());
        }
    }
    assert!(receiver.rest().is_empty(), "nothing was sent");
    app.stop().await;
}

#[tokio::test]
async fn another_tenants_ids_are_of_no_use_in_bodies_and_lists() {
    let (mut app, house, _receiver) = scene().await;
    let stranger = app.tenant().await;
    let mut db = app.sql().await;
    let before = Stored::read(&mut db).await;
    let location = &house.tenant.location_id;
    let body =
        json!({"location_id": location, "name": "E", "url": "https://e.example.com/", "event_types": ["*"]});
    assert_eq!(stranger.client.post("/v1/endpoints", body).await.pointers(), ["/location_id"]);
    let event = json!({"location_id": location, "type": "message.sent", "data": {}});
    let body = json!({"events": [event]});
    assert_eq!(stranger.client.post("/v1/events/batch", body).await.pointers(), ["/events/0/location_id"]);
    for route in of_tenants().filter(|route| route.method == "GET" && !route.has_ids()) {
        let reply = stranger.client.get(route.path).await;
        for id in house.ids.all() {
            assert!(!reply.text.contains(id), "{} shows {id}", route.told());
        }
        reply.expect(200);
    }
    Stored::read(&mut db).await.assert_same(&before, "bodies and lists");
    app.stop().await;
}

#[tokio::test]
async fn the_operators_routes_are_no_tenants() {
    let (mut app, house, _receiver) = scene().await;
    let mut db = app.sql().await;
    let before = Stored::read(&mut db).await;
    for route in ROUTES.iter().filter(|route| route.who == Who::Operator) {
        let problem = route.call(&house.tenant.client, &house.ids).await.problem(403);
        assert_eq!(problem["type"], "urn:posthaste:problem:forbidden", "{}", route.told());
    }
    Stored::read(&mut db).await.assert_same(&before, "the operator's routes");
    app.stop().await;
}

/// Keys that open nothing, and what they are.
async fn dead_keys(app: &TestApp, house: &Household) -> Vec<(&'static str, Client)> {
    let tenant = &house.tenant.id;
    let scheme = |value: &str| app.anonymous().with("authorization", value);
    let revoked = app.with_key(&app.key(tenant, &ALL_SCOPES).await);
    let expired = app.with_key(&app.key(tenant, &ALL_SCOPES).await);
    // Used while it lives: what a node remembers of a key for publishing must not outlive it.
    let path = format!("/v1/locations/{}/events", house.tenant.location_id);
    revoked.post(&path, json!({"type": "contact.created", "data": {}})).await.expect(202);
    let mut ids = Vec::new();
    for client in [&revoked, &expired] {
        ids.push(client.get("/v1/me").await.expect(200)["key_id"].as_str().unwrap().to_owned());
    }
    app.operator().delete(&format!("/v1/tenants/{tenant}/keys/{}", ids[0])).await.expect(204);
    let end = "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = $1::uuid";
    let ended = sqlx::query(end).bind(ids[1].trim_start_matches("key_")).execute(&mut app.sql().await).await;
    assert_eq!(ended.unwrap().rows_affected(), 1);
    let mut mistyped = house.tenant.key.clone();
    let last = if mistyped.ends_with('a') { "b" } else { "a" };
    mistyped.replace_range(mistyped.len() - 1.., last);
    let unknown = posthaste::auth::ApiKey::generate().reveal().to_owned();
    vec![
        ("none", app.anonymous()),
        ("no scheme", scheme(&house.tenant.key)),
        ("another scheme", scheme(&format!("Basic {}", house.tenant.key))),
        ("empty", scheme("Bearer ")),
        ("not of our form", scheme("Bearer letmein")),
        ("mistyped", app.with_key(&mistyped)),
        ("with more behind", app.with_key(&format!("{}0", house.tenant.key))),
        ("unknown", app.with_key(&unknown)),
        ("revoked", revoked),
        ("expired", expired),
    ]
}

#[tokio::test]
async fn without_a_live_key_nothing_opens() {
    let (mut app, house, _receiver) = scene().await;
    let keys = dead_keys(&app, &house).await;
    let mut db = app.sql().await;
    let before = Stored::read(&mut db).await;
    for (n, (what, client)) in (2..).zip(&keys) {
        // Each from an address of its own: too many failures from one are answered with 429.
        let client = client.calling_from([127, 0, 0, n]);
        for route in closed() {
            let reply = route.call(&client, &house.ids).await;
            let challenge = reply.headers.get(header::WWW_AUTHENTICATE).cloned();
            assert_eq!(reply.status, 401, "{what}, {}: {}", route.told(), reply.text);
            assert_eq!(challenge.unwrap(), "Bearer");
            reply.problem(401);
        }
        Stored::read(&mut db).await.assert_same(&before, what);
    }
    for route in ROUTES.iter().filter(|route| route.who == Who::Everyone) {
        let reply = route.call(&app.anonymous(), &house.ids).await;
        assert_eq!(reply.status, 200, "{}", route.told());
    }
    app.stop().await;
}

#[tokio::test]
async fn a_key_without_the_scope_is_refused() {
    let (mut app, house, _receiver) = scene().await;
    let mut clients = Vec::new();
    for without in ALL_SCOPES {
        let rest: Vec<&str> = ALL_SCOPES.into_iter().filter(|scope| *scope != without).collect();
        clients.push((without, app.with_key(&app.key(&house.tenant.id, &rest).await)));
    }
    let mut db = app.sql().await;
    let before = Stored::read(&mut db).await;
    for (without, client) in &clients {
        for route in of_tenants().filter(|route| route.who == Who::Scope(without)) {
            let problem = route.call(client, &house.ids).await.problem(403);
            assert!(problem["detail"].as_str().unwrap().contains(without), "{}: {problem}", route.told());
            let nothing = route.call(client, &Ids::of_nothing()).await;
            assert_eq!(nothing.status, 403, "{}: before anything is looked up", route.told());
        }
        client.get("/v1/me").await.expect(200);
    }
    Stored::read(&mut db).await.assert_same(&before, "keys without the scope");
    app.stop().await;
}

#[tokio::test]
async fn the_operator_names_a_tenant() {
    let (mut app, house, _receiver) = scene().await;
    let mut db = app.sql().await;
    let before = Stored::read(&mut db).await;
    let uuid = house.tenant.id.trim_start_matches("ten_");
    let nobody = Ids::of_nothing().fill("{tenant_id}");
    let cases = [
        (app.operator(), 400),
        (app.operator().with(TENANT_HEADER, ""), 400),
        (app.operator().with(TENANT_HEADER, uuid), 400),
        (app.operator().with(TENANT_HEADER, &house.tenant.location_id), 400),
        (app.operator().with(TENANT_HEADER, &format!("{}, {}", house.tenant.id, house.tenant.id)), 400),
        (app.operator().with(TENANT_HEADER, "ten_é"), 400),
        (app.operator().with(TENANT_HEADER, &nobody), 404),
    ];
    for (client, status) in &cases {
        for route in of_tenants() {
            let reply = route.call(client, &house.ids).await;
            assert_eq!(reply.status, *status, "{}: {}", route.told(), reply.text);
            reply.problem(*status);
        }
    }
    for (client, _) in &cases[1..6] {
        client.get("/v1/me").await.problem(400);
    }
    cases[6].0.get("/v1/me").await.problem(404);
    Stored::read(&mut db).await.assert_same(&before, "an operator without a tenant");

    let named = app.operator().with(TENANT_HEADER, &house.tenant.id);
    for route in of_tenants().filter(|route| route.method == "GET") {
        let reply = route.call(&named, &house.ids).await;
        assert_eq!(reply.status, 200, "{}: {}", route.told(), reply.text);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_tenants_key_names_no_other_tenant() {
    let (mut app, house, _receiver) = scene().await;
    let stranger = app.tenant().await;
    let mut db = app.sql().await;
    let before = Stored::read(&mut db).await;
    let posing = stranger.client.with(TENANT_HEADER, &house.tenant.id);
    let garbled = stranger.client.with(TENANT_HEADER, "house");
    for route in closed().filter(|route| route.who != Who::Operator) {
        let reply = route.call(&posing, &house.ids).await;
        assert_eq!(reply.status, 403, "{}: {}", route.told(), reply.text);
        reply.problem(403);
        let reply = route.call(&garbled, &house.ids).await;
        assert_eq!(reply.status, 400, "{}: {}", route.told(), reply.text);
        reply.problem(400);
    }
    Stored::read(&mut db).await.assert_same(&before, "another tenant's name");
    stranger.client.with(TENANT_HEADER, &stranger.id).get("/v1/endpoints").await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn a_method_that_is_not_there_is_told() {
    let mut app = spawn().await;
    let client = app.tenant().await.client;
    for path in ["/v1/tenants", "/v1/endpoints", "/v1/events/batch", "/v1/me", "/healthz"] {
        let reply = client.send(Method::PUT, path, Some("{}".to_owned())).await;
        let allowed = reply.headers.get(header::ALLOW).map(|value| value.to_str().unwrap().to_owned());
        reply.problem(405);
        let mut allowed: Vec<_> =
            allowed.expect("Allow").split(',').map(|one| one.trim().to_owned()).collect();
        allowed.retain(|method| method != "HEAD");
        allowed.sort();
        let mut known: Vec<_> =
            ROUTES.iter().filter(|route| route.path == path).map(|route| route.method).collect();
        known.sort_unstable();
        assert_eq!(allowed, known, "{path}");
    }
    for path in ["/", "/v1", "/v1/nothing", "/v1/endpoints/", "/v2/endpoints", "/v1/%ff"] {
        client.get(path).await.problem(404);
    }
    app.stop().await;
}
