//! The audit log: who did what, and never a value of it.

use serde_json::{Value, json};

use crate::helpers::spawn;

#[tokio::test]
async fn the_log_says_who_did_what() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let key_id = tenant.client.get("/v1/me").await.expect(200)["key_id"].clone();
    let endpoint =
        tenant.endpoint("https://e.example.com/private-path", json!({"headers": {"X-A": "hidden"}})).await;
    let id = endpoint["id"].as_str().unwrap();
    let path = format!("/v1/endpoints/{id}");
    let traced = tenant.client.with("x-request-id", "trace-7");
    traced.patch(&path, json!({"name": "Confidential", "headers": {"X-A": "veiled"}})).await.expect(200);
    traced.put(&format!("{path}/subscriptions"), json!([{"event_type": "contact.*"}])).await.expect(200);
    traced.get(&format!("{path}/secret")).await.expect(200);
    let rotated = traced.poke(&format!("{path}/secret/rotate")).await.expect(200);
    let operator = app.operator().with("posthaste-tenant", &tenant.id);
    operator.poke(&format!("{path}/pause")).await.expect(200);
    operator.delete(&path).await.expect(204);
    // What is refused is not done.
    tenant.client.patch(&path, json!({"name": "x"})).await.problem(404);

    let reply = tenant.client.get("/v1/audit").await;
    for hidden in
        ["private-path", "hidden", "veiled", "Confidential", "whsec_", rotated["secret"].as_str().unwrap()]
    {
        assert!(!reply.text.contains(hidden), "{hidden}");
    }
    let page = reply.expect(200);
    let entries = page["data"].as_array().unwrap();
    let told: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let expected = [
        "endpoint.delete",
        "endpoint.pause",
        "endpoint.secret.rotate",
        "endpoint.secret.reveal",
        "endpoint.subscribe",
        "endpoint.update",
        "endpoint.create",
        "key.create",
        "tenant.create",
    ];
    assert_eq!(told, expected);
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!(entry.as_object().unwrap().len(), 7, "{entry}");
        assert!(entry["id"].as_str().unwrap().starts_with("aud_"));
        assert!(entry["at"].as_str().unwrap().ends_with('Z'));
        assert_eq!(entry["key_id"], if (2..7).contains(&at) { key_id.clone() } else { Value::Null });
        assert_eq!(entry["request_id"] == "trace-7", (2..6).contains(&at), "{entry}");
        if at < 7 {
            assert_eq!(entry["resource"], id);
        }
    }
    let fields = entries[5]["fields"].as_array().unwrap();
    assert!(fields.len() == 2 && fields.contains(&json!("name")) && fields.contains(&json!("headers")));
    app.stop().await;
}
