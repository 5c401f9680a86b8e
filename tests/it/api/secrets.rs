//! Signing secrets: shown once, revealed to who may, and in clear nowhere else.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

use super::{array, text};
use crate::helpers::{Receiver, TestApp, spawn};

const HEADER_VALUE: &str = "Bearer a-token-of-the-receivers";

/// Every row of every table as text; bytes as hex.
pub async fn dump(app: &TestApp) -> String {
    let mut sql = app.sql().await;
    let tables =
        "SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition";
    let names: Vec<String> =
        sqlx::query(tables).fetch_all(&mut sql).await.unwrap().iter().map(|row| row.get("name")).collect();
    assert!(names.len() > 10, "{names:?}");
    let mut all = String::new();
    for name in names {
        let query = format!("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {name} t");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut sql).await.unwrap();
        all.push_str(&rows);
        all.push('\n');
    }
    all
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The ways in which a text might be stored.
pub fn spellings(secret: &str) -> Vec<String> {
    let mut all = vec![secret.to_owned(), hex(secret.as_bytes()), STANDARD.encode(secret)];
    if let Some(base64) = secret.strip_prefix("whsec_") {
        let key = STANDARD.decode(base64).unwrap();
        all.extend([base64.to_owned(), hex(base64.as_bytes()), hex(&key)]);
    }
    all
}

#[tokio::test]
async fn secrets_and_header_values_are_in_clear_nowhere() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let fields = json!({"headers": {"Authorization": HEADER_VALUE}});
    let endpoint = tenant.endpoint(&receiver.url("/hook"), fields).await;
    let path = format!("/v1/endpoints/{}", text(&endpoint, "id"));
    let keyed = tenant.client.with("idempotency-key", "k");
    let event = keyed.post("/v1/locations/default/events", json!({"type": "message.sent", "data": {}}));
    let event = event.await.expect(202);
    assert_eq!(receiver.next().await.header("authorization"), HEADER_VALUE);
    let delivery = tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    let rotated = tenant.client.post(&format!("{path}/secret/rotate"), json!({})).await.expect(200);
    let revealed = tenant.client.get(&format!("{path}/secret")).await.expect(200);
    assert_eq!(revealed["secret"], rotated["secret"]);

    let mut answers = vec![delivery.to_string(), tenant.client.patch(&path, json!({"name": "N"})).await.text];
    tenant.client.poke(&format!("{path}/pause")).await.expect(200);
    for list in [
        path.clone(),
        format!("{path}/subscriptions"),
        format!("{path}/deliveries"),
        "/v1/endpoints".to_owned(),
        "/v1/locations/default/endpoints".to_owned(),
        "/v1/locations/default/events".to_owned(),
        format!("/v1/events/{}", text(&event, "id")),
        "/v1/audit".to_owned(),
        "/v1/me".to_owned(),
        "/v1/keys".to_owned(),
    ] {
        answers.push(tenant.client.get(&list).await.expect(200).to_string());
    }
    answers.push(tenant.client.poke(&format!("{path}/resume")).await.text);
    let dump = dump(&app).await;
    // That the dump would show it: the sealed secret is there, and so is the endpoint's URL.
    assert!(dump.contains(&receiver.url("/hook")) && dump.contains(&hex(b"{\"id\":\"evt_")));
    for secret in [text(&endpoint, "secret"), text(&rotated, "secret")] {
        for spelling in spellings(secret) {
            assert!(!dump.contains(&spelling), "in the database: {spelling}");
            assert!(answers.iter().all(|answer| !answer.contains(&spelling)), "in an answer: {spelling}");
        }
    }
    for spelling in spellings(HEADER_VALUE) {
        assert!(!dump.contains(&spelling), "in the database: {spelling}");
    }
    for spelling in spellings(&tenant.key).into_iter().chain(spellings(&app.operator_key)) {
        assert!(!dump.contains(&spelling), "in the database: {spelling}");
    }
    app.stop().await;
}

#[tokio::test]
async fn only_the_scope_secrets_reveals_and_the_audit_log_knows() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let path = format!("/v1/endpoints/{}/secret", text(&endpoint, "id"));
    let lesser = app.with_key(&app.key(&tenant.id, &["read", "write", "publish"]).await);
    lesser.get(&path).await.problem(403);
    lesser.poke(&format!("{path}/rotate")).await.problem(403);
    other.client.get(&path).await.problem(404);
    other.client.poke(&format!("{path}/rotate")).await.problem(404);
    app.anonymous().get(&path).await.problem(401);

    let only = app.with_key(&app.key(&tenant.id, &["secrets"]).await);
    for client in [only.clone(), app.operator().with("posthaste-tenant", &tenant.id)] {
        assert_eq!(client.get(&path).await.expect(200)["secret"], endpoint["secret"]);
    }
    only.with("x-request-id", "from-the-test").poke(&format!("{path}/rotate")).await.expect(200);
    let audit = tenant.client.get("/v1/audit").await.expect(200);
    let entries: Vec<&Value> = array(&audit, "data")
        .iter()
        .filter(|one| text(one, "action").starts_with("endpoint.secret"))
        .collect();
    let actions: Vec<&str> = entries.iter().map(|one| text(one, "action")).collect();
    assert_eq!(actions, ["endpoint.secret.rotate", "endpoint.secret.reveal", "endpoint.secret.reveal"]);
    assert!(entries.iter().all(|one| one["resource"] == endpoint["id"]));
    assert_eq!(entries[0]["request_id"], "from-the-test");
    assert_eq!(entries[0]["key_id"], entries[2]["key_id"]);
    assert_eq!(entries[1]["key_id"], Value::Null, "the operator");
    app.stop().await;
}
