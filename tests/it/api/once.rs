//! Every POST with an `Idempotency-Key`: one effect, one answer, however often it is asked for.

use posthaste::app::Roles;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::routes::{Household, ROUTES, Route, Takes, Who, household};
use crate::helpers::{
    Receiver, Stored, TestApp,
    client::{Client, Reply},
    spawn,
    sql::Sql,
};

const REPLAYED: &str = "idempotent-replayed";
const BOTH: Roles = Roles { api: true, worker: true };
/// Publishing has its keys in its own statement, and tests of its own.
const PUBLISHES: [&str; 2] = ["/v1/locations/{location_id}/events", "/v1/events/batch"];

fn posts() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.method == "POST" && !PUBLISHES.contains(&route.path))
}

fn caller(app: &TestApp, house: &Household, route: &Route) -> Client {
    if route.who == Who::Operator { app.operator() } else { house.tenant.client.clone() }
}

#[track_caller]
fn assert_repeats(first: &Reply, repeat: &Reply, what: &str) {
    assert!((200..300).contains(&first.status), "{what}: {}", first.text);
    assert_eq!((first.status, &first.text), (repeat.status, &repeat.text), "{what}");
    assert!(!first.headers.contains_key(REPLAYED), "{what}");
    assert_eq!(repeat.headers[REPLAYED], "true", "{what}");
    for header in ["content-type", "etag", "location"] {
        assert_eq!(first.headers.get(header), repeat.headers.get(header), "{what}: {header}");
    }
}

/// A body that is right and another one.
fn changed(route: &Route) -> Option<String> {
    let mut body: Value = serde_json::from_str(&route.body()?).unwrap();
    let fields = body.as_object_mut()?;
    let (name, value) = fields.iter().next().map(|(name, value)| (name.clone(), value.clone()))?;
    let other = match value {
        Value::String(text) => json!(format!("{text}.other")),
        Value::Number(number) => json!(number.as_u64()? + 1),
        _ => return None,
    };
    fields.insert(name, other);
    Some(body.to_string())
}

#[tokio::test]
async fn every_post_is_done_once() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    for route in posts() {
        let what = route.told();
        let house = household(&app, &mut receiver).await;
        // Held, so that nothing moves between the looks at what is stored.
        let pause = house.ids.fill("/v1/endpoints/{endpoint_id}/pause");
        house.tenant.client.poke(&pause).await.expect(200);
        let retry = house.ids.fill("/v1/events/{event_id}/deliveries/{endpoint_id}/retry");
        if route.path.ends_with("/cancel") {
            house.tenant.client.poke(&retry).await.expect(202);
        }
        let client = caller(&app, &house, route).with("idempotency-key", &what.replace(' ', "_"));
        let first = route.call(&client, &house.ids).await;
        let at_rest =
            |page: &Value| page["data"].as_array().unwrap().iter().all(|job| job["status"] != "running");
        house.tenant.client.get_until("/v1/jobs", at_rest).await;
        let before = Stored::read(&mut app.sql().await).await;
        let repeat = route.call(&client, &house.ids).await;
        assert_repeats(&first, &repeat, &what);
        if let Some(body) = changed(route) {
            let other = route.send(&client, &house.ids.fill(route.path), Some(body)).await;
            assert_eq!(other.problem(422)["type"], "urn:posthaste:problem:idempotency-key-reused", "{what}");
        }
        Stored::read(&mut app.sql().await).await.assert_same(&before, &what);
        // Without a key, or with another one, it is done again.
        let again = caller(&app, &house, route).with("idempotency-key", "another");
        assert!(!route.call(&again, &house.ids).await.headers.contains_key(REPLAYED), "{what}");
    }
    app.stop().await;
}

const ENDPOINT: &str = r#"{"name": "E", "url": "https://e.example.com/", "event_types": ["*"]}"#;

fn endpoint() -> Value {
    serde_json::from_str(ENDPOINT).unwrap()
}

#[tokio::test]
async fn answers_with_secrets_survive_a_restart_and_are_sealed() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let keyed = |app: &TestApp, key: &str| app.with_key(&tenant.key).with("idempotency-key", key);
    let client = keyed(&app, "e");
    let made = client.post("/v1/endpoints", endpoint()).await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let rotate = format!("/v1/endpoints/{id}/secret/rotate");
    let rotated = client.poke(&rotate).await;
    let key_body = json!({"name": "K", "scopes": ["read"]});
    let key = client.post("/v1/keys", key_body.clone()).await;
    let stored = Stored::read(&mut app.sql().await).await;
    for secret in [&made.json()["secret"], &rotated.json()["secret"], &key.json()["key"]] {
        let text = secret.as_str().unwrap();
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!stored.mentions(text) && !stored.mentions(&hex), "{text} is stored in plain text");
    }
    app.stop().await;
    let mut app = app.another(BOTH).await;
    let client = keyed(&app, "e");
    assert_repeats(&made, &client.post("/v1/endpoints", endpoint()).await, "create");
    assert_repeats(&rotated, &client.poke(&rotate).await, "rotate");
    assert_repeats(&key, &client.post("/v1/keys", key_body).await, "key");
    let list = tenant_list(&keyed(&app, "x")).await;
    assert_eq!(list, 1, "one endpoint");
    app.stop().await;
}

#[tokio::test]
async fn a_secret_is_repeated_only_to_who_saw_it_or_may() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let mut clients = Vec::new();
    for scopes in [&["read", "write"][..], &["read", "write"], &["write", "secrets", "read"]] {
        clients.push(app.with_key(&app.key(&tenant.id, scopes).await).with("idempotency-key", "s"));
    }
    let operator = app.operator().with("posthaste-tenant", &tenant.id).with("idempotency-key", "s");
    let key = json!({"name": "K", "scopes": ["read"]});
    for (path, body, field) in [("/v1/endpoints", endpoint(), "secret"), ("/v1/keys", key, "key")] {
        let first = clients[0].post(path, body.clone()).await;
        let mut bare = first.json();
        assert!(bare.as_object_mut().unwrap().remove(field).unwrap().is_string());
        for (client, sees) in
            [(&clients[0], true), (&clients[1], false), (&clients[2], true), (&operator, true)]
        {
            let repeat = client.post(path, body.clone()).await;
            assert_eq!(repeat.headers[REPLAYED], "true");
            assert_eq!(repeat.headers.get("etag"), first.headers.get("etag"));
            assert_eq!(repeat.expect(201), if sees { first.json() } else { bare.clone() }, "{path} {sees}");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn what_is_kept_of_a_request_confirms_no_guess() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let client = tenant.client.with("idempotency-key", "guess");
    let body = json!({"name": "N", "external_id": "4711"});
    client.post("/v1/locations", body.clone()).await.expect(201);
    let mut sorted = body;
    sorted.sort_all_objects();
    let guess = Sha256::new().chain_update([0]).chain_update(sorted.to_string()).finalize();
    let read = "SELECT fingerprint FROM idempotency WHERE key = 'guess'";
    let kept: Vec<u8> = sqlx::query_scalar(read).fetch_one(&mut app.sql().await).await.unwrap();
    assert_ne!(kept[..], guess[..]);
    let repeat = client.post("/v1/locations", sorted).await;
    assert_eq!(repeat.headers[REPLAYED], "true");
    client.post("/v1/locations", json!({"name": "N", "external_id": "4712"})).await.problem(422);
    app.stop().await;
}

async fn tenant_list(client: &Client) -> usize {
    client.get("/v1/endpoints").await.expect(200)["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn one_in_flight_is_a_conflict_and_then_a_repeat() {
    let mut app = spawn().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let client = tenant.client.with("idempotency-key", "k");
    let mut sql = Sql::open(&app.database).await;
    // Making an endpoint locks its tenant; whoever holds it makes the request wait.
    sql.run("BEGIN").await;
    let uuid = tenant.id.trim_start_matches("ten_");
    sql.run(&format!("SELECT 1 FROM tenants WHERE id = '{uuid}' FOR UPDATE")).await;
    let first = {
        let client = client.clone();
        tokio::spawn(async move { client.post("/v1/endpoints", endpoint()).await })
    };
    let waits = "SELECT least(count(*), 1) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    Sql::open(&app.database).await.until(waits, 1).await;
    let problem = client.post("/v1/endpoints", endpoint()).await.problem(409);
    assert_eq!(problem["type"], "urn:posthaste:problem:idempotency-in-flight");
    // Another tenant has nothing to do with it.
    other.client.with("idempotency-key", "k").post("/v1/endpoints", endpoint()).await.expect(201);
    sql.run("COMMIT").await;
    let first = first.await.unwrap();
    assert_repeats(&first, &client.post("/v1/endpoints", endpoint()).await, "after the first");
    assert_eq!(tenant_list(&client).await, 1);
    app.stop().await;
}

#[tokio::test]
async fn a_key_is_of_its_tenant_and_its_path_and_refusals_leave_it_free() {
    let mut app = spawn().await;
    let (one, other) = (app.tenant().await, app.tenant().await);
    let body = || json!({"name": "L", "external_id": "l"});
    let client = one.client.with("idempotency-key", "k");
    client.post("/v1/locations", json!({"name": ""})).await.problem(422);
    let made = client.post("/v1/locations", body()).await;
    // However its JSON is laid out.
    let laid_out = r#" { "external_id" : "l", "name" : "L" } "#.to_owned();
    let repeat = client.send(reqwest::Method::POST, "/v1/locations", Some(laid_out)).await;
    assert_repeats(&made, &repeat, "laid out");
    let in_its_name = app.operator().with("posthaste-tenant", &one.id).with("idempotency-key", "k");
    assert_repeats(&made, &in_its_name.post("/v1/locations", body()).await, "the operator");
    let others = other.client.with("idempotency-key", "k").post("/v1/locations", body()).await;
    assert!(!others.headers.contains_key(REPLAYED));
    assert_ne!(others.expect(201)["id"], made.json()["id"]);
    // A conflict changes nothing and is not kept either.
    let second = one.client.with("idempotency-key", "k2");
    second.post("/v1/locations", body()).await.problem(409);
    one.client.delete("/v1/locations/l").await.expect(204);
    second.post("/v1/locations", body()).await.expect(201);
    for ill in ["a b", "ü", &"k".repeat(256)] {
        let client = one.client.with("idempotency-key", ill);
        client.post("/v1/locations", json!({"name": "Ill"})).await.problem(400);
    }
    app.stop().await;
}

#[test]
fn the_list_has_what_takes_a_body_and_what_does_not() {
    assert!(posts().any(|route| route.takes == Takes::Nothing));
    assert!(posts().filter_map(changed).count() > 3);
}
