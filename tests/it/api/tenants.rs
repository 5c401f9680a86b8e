//! Tenants and their keys.

use std::time::Duration;

use posthaste::types::Timestamp;
use serde_json::{Value, json};

use crate::helpers::{Receiver, Stored, TestApp, spawn, spawn_with};

const NOTHING: &str = "0193a1b2-c3d4-7e5f-8a6b-0123456789ab";

async fn audit(client: &crate::helpers::client::Client) -> Vec<(String, String, Value)> {
    let page = client.get("/v1/audit?limit=250").await.expect(200);
    let entry = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap().to_owned();
        (text("action"), text("resource"), entry["fields"].clone())
    };
    page["data"].as_array().unwrap().iter().map(entry).collect()
}

#[track_caller]
fn is_time(value: &Value) {
    let text = value.as_str().unwrap_or_default();
    assert!(Timestamp::parse(text).is_some_and(|at| at.to_string() == text), "{value}");
}

#[tokio::test]
async fn a_tenant_has_defaults_and_a_location() {
    let mut app = spawn().await;
    let operator = app.operator();
    let made = operator.post("/v1/tenants", json!({"name": "Zoë's Café ☺"})).await.expect(201);
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("ten_"));
    is_time(&made["created_at"]);
    let expected = json!({
        "id": id, "name": "Zoë's Café ☺", "preset": "standard", "format": null, "external_id": null, "allow_unknown_event_types": false,
        "validate_payloads": false, "retention_days": null, "failing_days": 5, "metadata": {},
        "created_at": made["created_at"], "updated_at": made["created_at"],
    });
    assert_eq!(made, expected);
    assert_eq!(operator.get(&format!("/v1/tenants/{id}")).await.expect(200), made);
    assert_eq!(operator.get("/v1/tenants").await.expect(200)["data"], json!([made]));
    let acting = operator.with("posthaste-tenant", id);
    let locations = acting.get("/v1/locations").await.expect(200);
    assert_eq!(locations["data"].as_array().unwrap().len(), 1);
    assert_eq!(locations["data"][0]["external_id"], "default");
    assert_eq!(audit(&acting).await, [("tenant.create".to_owned(), id.to_owned(), json!([]))]);
    app.stop().await;
}

#[tokio::test]
async fn a_tenant_is_found_by_its_external_id() {
    let mut app = spawn().await;
    let operator = app.operator();
    let made =
        operator.post("/v1/tenants", json!({"name": "A", "external_id": "acct/7:main"})).await.expect(201);
    let other =
        operator.post("/v1/tenants", json!({"name": "B", "external_id": "acct/70"})).await.expect(201);
    let found = async |query: &str| {
        let page = operator.get(&format!("/v1/tenants?external_id={query}")).await.expect(200);
        assert_eq!((&page["next_cursor"], &page["prev_cursor"]), (&Value::Null, &Value::Null));
        page["data"].clone()
    };
    assert_eq!(found("acct/7:main").await, json!([made]));
    assert_eq!(found("acct%2F70&limit=1").await, json!([other]));
    for nobody in ["acct", "ACCT/70"] {
        assert_eq!(found(nobody).await, json!([]), "{nobody}");
    }
    // What no tenant can have is a mistake of the caller's.
    for nonsense in ["", "a%20b", "%00", "ten_1", "%C3%97"] {
        operator.get(&format!("/v1/tenants?external_id={nonsense}")).await.problem(400);
    }
    let first = operator.get("/v1/tenants?limit=1").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    operator.get(&format!("/v1/tenants?limit=1&external_id=acct/70&cursor={cursor}")).await.problem(400);
    operator.delete(&format!("/v1/tenants/{}", made["id"].as_str().unwrap())).await.expect(202);
    assert_eq!(found("acct/7:main").await, json!([]));
    app.stop().await;
}

#[tokio::test]
async fn a_tenants_fields_are_kept_and_merged() {
    let mut app = spawn().await;
    let operator = app.operator();
    let fields = json!({
        "name": "A tenant", "preset": "messagesync", "format": "stripe", "external_id": "acct/7:main", "allow_unknown_event_types": true,
        "retention_days": 90, "failing_days": 30, "metadata": {"plan": "pro", "seats": {"used": 3, "all": 5}, "tags": [1]},
    });
    let mut expected = operator.post("/v1/tenants", fields.clone()).await.expect(201);
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&expected[name], value, "{name}");
    }
    let id = expected["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/tenants/{id}");
    let changes = [
        (json!({}), json!({})),
        (json!({"name": "Renamed"}), json!({"name": "Renamed"})),
        (json!({"external_id": null}), json!({"external_id": null})),
        (json!({"external_id": "new"}), json!({"external_id": "new"})),
        (json!({"external_id": "new"}), json!({"external_id": "new"})),
        (json!({"format": "slack"}), json!({"format": "slack"})),
        (json!({"format": null}), json!({"format": null})),
        (json!({"allow_unknown_event_types": false}), json!({"allow_unknown_event_types": false})),
        (json!({"retention_days": null}), json!({"retention_days": null})),
        (json!({"retention_days": 1}), json!({"retention_days": 1})),
        (json!({"failing_days": 1}), json!({"failing_days": 1})),
        (
            json!({"metadata": {"plan": null, "seats": {"used": 4}, "tags": [2, null]}}),
            json!({"metadata": {"seats": {"used": 4, "all": 5}, "tags": [2, null]}}),
        ),
        (json!({"metadata": null}), json!({"metadata": {}})),
    ];
    for (patch, told) in changes {
        let answer = operator.patch(&path, patch.clone()).await.expect(200);
        let before = expected.clone();
        for (name, value) in told.as_object().unwrap() {
            expected[name] = value.clone();
        }
        is_time(&answer["updated_at"]);
        assert!(answer["updated_at"].as_str() >= expected["updated_at"].as_str());
        if expected == before {
            assert_eq!(answer["updated_at"], before["updated_at"], "after {patch}");
        }
        expected["updated_at"] = answer["updated_at"].clone();
        assert_eq!(answer, expected, "after {patch}");
        assert_eq!(operator.get(&path).await.expect(200), expected);
    }
    let log = audit(&operator.with("posthaste-tenant", &id)).await;
    assert_eq!(log[0], ("tenant.update".to_owned(), id.clone(), json!(["metadata"])));
    // What changes nothing is not told.
    assert_eq!(log.len(), 12);
    let nobody = format!("/v1/tenants/ten_{NOTHING}");
    operator.get(&nobody).await.problem(404);
    operator.patch(&nobody, json!({})).await.problem(404);
    operator.get(&format!("{nobody}/keys")).await.problem(404);
    operator.post(&format!("{nobody}/keys"), json!({"name": "K", "scopes": ["read"]})).await.problem(404);
    operator.delete(&format!("{nobody}/keys/key_{NOTHING}")).await.problem(404);
    app.stop().await;
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_its_hash() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let body = json!({"name": "CI", "scopes": ["read", "write"], "expires_at": "2099-01-31T02:00:00+02:00"});
    let made = app.operator().post(&format!("/v1/tenants/{}/keys", tenant.id), body).await.expect(201);
    let key = made["key"].as_str().unwrap();
    assert!(posthaste::auth::ApiKey::parse(key).is_some(), "ph_, 32 digits, 6 that check them");
    is_time(&made["created_at"]);
    let expected = json!({
        "id": made["id"], "tenant_id": tenant.id, "name": "CI", "scopes": ["read", "write"],
        "expires_at": "2099-01-31T00:00:00.000Z", "last_used_at": null, "created_at": made["created_at"], "key": key,
    });
    assert_eq!(made, expected);

    app.with_key(key).get("/v1/me").await.expect(200);
    let stored = Stored::read(&mut app.sql().await).await;
    assert_eq!(stored.count("api_keys"), 2);
    for part in [key, &key[3..], &key[3..35]] {
        assert!(!stored.mentions(part), "the key itself is kept nowhere");
    }
    for path in ["/v1/keys".to_owned(), format!("/v1/tenants/{}/keys", tenant.id)] {
        let client = if path == "/v1/keys" { tenant.client.clone() } else { app.operator() };
        let listed = client.get(&path).await.expect(200);
        assert_eq!(listed["data"].as_array().unwrap().len(), 2);
        assert_eq!(listed["data"][0]["id"], made["id"], "newest first");
        is_time(&listed["data"][0]["last_used_at"]);
        assert!(!listed.to_string().contains("ph_"), "{listed}");
    }
    assert!(!tenant.client.get("/v1/audit").await.text.contains("ph_"));
    app.stop().await;
}

#[tokio::test]
async fn me_is_the_key_and_its_tenant() {
    let mut app = spawn_with(&["--egress-ips", "198.51.100.7,2001:db8::7"]).await;
    let tenant = app.tenant().await;
    let body = json!({"name": "reader", "scopes": ["read"], "expires_at": "2099-01-31T00:00:00Z"});
    let key = tenant.client.post("/v1/keys", body).await.expect(201);
    let me = app.with_key(key["key"].as_str().unwrap()).get("/v1/me").await.expect(200);
    let expected = json!({
        "key_id": key["id"], "key_name": "reader", "tenant_id": tenant.id, "scopes": ["read"],
        "expires_at": "2099-01-31T00:00:00.000Z", "egress_ips": ["198.51.100.7", "2001:db8::7"],
    });
    assert_eq!(me, expected);
    let me = app.operator().get("/v1/me").await.expect(200);
    assert_eq!((&me["key_id"], &me["tenant_id"]), (&Value::Null, &Value::Null));
    assert_eq!(me["scopes"], json!(["read", "write", "publish", "secrets", "operator"]));
    let me = app.operator().with("posthaste-tenant", &tenant.id).get("/v1/me").await.expect(200);
    assert_eq!(me["tenant_id"], tenant.id);
    app.stop().await;
}

#[tokio::test]
async fn a_key_hands_on_no_more_than_it_has() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let writer = app.with_key(&app.key(&tenant.id, &["write", "read"]).await);
    for beyond in ["publish", "secrets"] {
        let body = json!({"name": "K", "scopes": ["read", beyond]});
        let problem = writer.post("/v1/keys", body).await.problem(403);
        assert!(problem["detail"].as_str().unwrap().contains(beyond));
    }
    let body = json!({"name": "K", "scopes": ["read"]});
    writer.post("/v1/keys", body.clone()).await.expect(201);
    // The operator may hand out everything, in the tenant's name too.
    let all = json!({"name": "K", "scopes": ["read", "write", "publish", "secrets"]});
    app.operator().with("posthaste-tenant", &tenant.id).post("/v1/keys", all).await.expect(201);
    let other = app.tenant().await;
    let listed = tenant.client.get("/v1/keys").await.expect(200);
    let id = listed["data"][0]["id"].as_str().unwrap();
    app.operator().delete(&format!("/v1/tenants/{}/keys/{id}", other.id)).await.problem(404);
    app.stop().await;
}

/// Publishes with a key, that the node remembers it, then has it revoked.
async fn revoked_after_use(app: &TestApp, by_operator: bool) {
    let tenant = app.tenant().await;
    let key = json!({"name": "short-lived", "scopes": ["read", "publish"]});
    let made = tenant.client.post("/v1/keys", key).await.expect(201);
    let id = made["id"].as_str().unwrap();
    let client = app.with_key(made["key"].as_str().unwrap());
    let path = format!("/v1/locations/{}/events", tenant.location_id);
    let event = json!({"type": "message.sent", "data": {}});
    let batch = json!({"events": [{"location_id": "default", "type": "message.sent", "data": {}}]});
    client.post(&path, event.clone()).await.expect(202);
    client.post("/v1/events/batch", batch.clone()).await.expect(202);

    let (revoker, revoke) = if by_operator {
        (app.operator(), format!("/v1/tenants/{}/keys/{id}", tenant.id))
    } else {
        (tenant.client.clone(), format!("/v1/keys/{id}"))
    };
    revoker.delete(&revoke).await.expect(204);
    let before = Stored::read(&mut app.sql().await).await;
    client.post(&path, event).await.problem(401);
    client.post("/v1/events/batch", batch).await.problem(401);
    client.get("/v1/endpoints").await.problem(401);
    client.get("/v1/me").await.problem(401);
    revoker.delete(&revoke).await.problem(404);
    Stored::read(&mut app.sql().await).await.assert_same(&before, "a revoked key");
    assert!(!tenant.client.get("/v1/keys").await.text.contains(id));
    let log = audit(&tenant.client).await;
    assert_eq!((log[0].0.as_str(), log[0].1.as_str()), ("key.revoke", id));
    assert_eq!((log[1].0.as_str(), log[1].1.as_str()), ("key.create", id));
}

#[tokio::test]
async fn a_revoked_key_stops_at_once() {
    let mut app = spawn().await;
    revoked_after_use(&app, true).await;
    revoked_after_use(&app, false).await;
    app.stop().await;
}

#[tokio::test]
async fn a_key_stops_at_its_end() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let now = sqlx::query_scalar::<_, time::OffsetDateTime>("SELECT clock_timestamp()");
    let now = Timestamp::from(now.fetch_one(&mut app.sql().await).await.unwrap());
    let expires_at = now.plus(Duration::from_secs(3)).to_string();
    let body = json!({"name": "K", "scopes": ["read", "publish"], "expires_at": expires_at});
    let made = tenant.client.post("/v1/keys", body).await.expect(201);
    assert_eq!(made["expires_at"], expires_at);
    let client = app.with_key(made["key"].as_str().unwrap());
    let path = format!("/v1/locations/{}/events", tenant.location_id);
    let event = json!({"type": "message.sent", "data": {}});
    client.post(&path, event.clone()).await.expect(202);
    let ended = async {
        loop {
            let reply = client.post(&path, event.clone()).await;
            if reply.status != 202 {
                return reply;
            }
        }
    };
    let reply = tokio::time::timeout(crate::helpers::client::PATIENCE, ended).await.expect("it ends");
    reply.problem(401);
    client.get("/v1/me").await.problem(401);
    let listed = tenant.client.get("/v1/keys").await.expect(200);
    assert_eq!(listed["data"][0]["expires_at"], expires_at, "shown until it is revoked");
    app.stop().await;
}
