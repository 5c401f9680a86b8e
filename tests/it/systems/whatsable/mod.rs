//! WhatsAble: its own three routes, as a dashboard uses them that was written from its page and nothing else; conversations, as its
//! handler reads them; its troubleshooting.

mod conversations;
mod routes;

use serde_json::{Value, json};

use super::text;
use crate::helpers::{Tenant, TestApp, client::Client};

const GET: &str = "/api/webhooks/get";
const CREATE: &str = "/api/webhooks/create";
const DELETE: &str = "/api/webhooks/delete";
const ACCOUNT: &str = "6fb11ff2-d9b2-4560-8437-0fe58ec9f4a6";

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
