//! What can't be a wire format.

use serde_json::{Value, json};

use super::{create, format, signature, without_name};
use crate::helpers::{Stored, spawn};

#[tokio::test]
async fn what_is_wrong_is_pointed_at_and_nothing_is_stored() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    create(&tenant, json!({"name": "mine"})).await.expect(201);
    let before = Stored::read(&mut app.sql().await).await;
    let with = |fields| json!({"signatures": [signature(fields)]});
    let timed = |mut fields: Value| {
        fields["content"] = json!("{{timestamp}}.{{body}}");
        json!({"signatures": [signature(fields)]})
    };
    let deep = (0..17).fold(json!(1), |inner, _| json!([inner]));
    let table = [
        (json!({"name": ""}), "/name"),
        (json!({"name": "Own"}), "/name"),
        (json!({"name": "preview"}), "/name"),
        (json!({"name": "a-b"}), "/name"),
        (json!({"name": "a".repeat(65)}), "/name"),
        (json!({"name": null}), "/name"),
        (json!({"name": 1}), "/name"),
        (json!({"version": 7}), "/version"),
        (json!({"envelope": null}), "/envelope"),
        (json!({"envelope": []}), "/envelope"),
        (json!({"envelope": "{{id}}"}), "/envelope"),
        (json!({"envelope": {"a": ["{{nope}}"]}}), "/envelope/a/0"),
        (json!({"envelope": {"a": "event {{id}}"}}), "/envelope/a"),
        (json!({"envelope": {"{{id}}": 1}}), "/envelope/{{id}}"),
        (json!({"envelope": {"a": "{{data}}", "b": "{{data}}"}}), "/envelope/b"),
        (json!({"envelope": {"a": vec!["{{id}}"; 65]}}), "/envelope/a/64"),
        (json!({"envelope": {"a": 9_007_199_254_740_993_u64}}), "/envelope/a"),
        (json!({"envelope": {"a": "x".repeat(17_000)}}), "/envelope/a"),
        (json!({"envelope": {"a": deep}}), "/envelope/a/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0"),
        (json!({"signatures": []}), "/signatures"),
        (json!({"signatures": vec![signature(json!({})); 9]}), "/signatures"),
        (json!({"signatures": [[]]}), "/signatures/0"),
        (
            json!({"signatures": [signature(json!({})), signature(json!({"header": "x-own-SIGNATURE"}))]}),
            "/signatures/1/header",
        ),
        (with(json!({"header": ""})), "/signatures/0/header"),
        (with(json!({"header": "a b"})), "/signatures/0/header"),
        (with(json!({"header": "x".repeat(65)})), "/signatures/0/header"),
        (with(json!({"header": "Content-Type"})), "/signatures/0/header"),
        (with(json!({"header": "host"})), "/signatures/0/header"),
        (with(json!({"header": "webhook-id"})), "/signatures/0/header"),
        (with(json!({"header": "webhook-timestamp"})), "/signatures/0/header"),
        (with(json!({"header": "x-posthaste-attempt"})), "/signatures/0/header"),
        (with(json!({"header": "X-Forwarded-For"})), "/signatures/0/header"),
        (with(json!({"header": "x-amz-target"})), "/signatures/0/header"),
        (with(json!({"header": "Metadata-Flavor"})), "/signatures/0/header"),
        (with(json!({"algorithm": "md5"})), "/signatures/0/algorithm"),
        (with(json!({"algorithm": null})), "/signatures/0/algorithm"),
        (with(json!({"key": "hex"})), "/signatures/0/key"),
        (with(json!({"encoding": "base32"})), "/signatures/0/encoding"),
        (with(json!({"content": "{{id}}"})), "/signatures/0/content"),
        (with(json!({"content": "{{body}}{{body}}"})), "/signatures/0/content"),
        (with(json!({"content": "{{body}}{{secret}}"})), "/signatures/0/content"),
        (with(json!({"content": "x".repeat(300) + "{{body}}"})), "/signatures/0/content"),
        (with(json!({"value": "sha256="})), "/signatures/0/value"),
        (with(json!({"value": "{{signature}}{{signature}}"})), "/signatures/0/value"),
        (with(json!({"value": " {{signature}}"})), "/signatures/0/value"),
        (with(json!({"value": "é{{signature}}"})), "/signatures/0/value"),
        (with(json!({"multiple": "yes"})), "/signatures/0/multiple"),
        (with(json!({"nonce": "v1"})), "/signatures/0/nonce"),
        (with(json!({"prefix": " t{{id}}"})), "/signatures/0/prefix"),
        (with(json!({"prefix": "{{body}}"})), "/signatures/0/prefix"),
        (with(json!({"prefix": "t={{timestamp}},"})), "/signatures/0/prefix"),
        (with(json!({"separator": ""})), "/signatures/0/separator"),
        (with(json!({"separator": "\r\n"})), "/signatures/0/separator"),
        (with(json!({"separator": "and"})), "/signatures/0/separator"),
        (with(json!({"timestamp_header": "X-Time"})), "/signatures/0/timestamp_header"),
        (timed(json!({"timestamp_header": "a b"})), "/signatures/0/timestamp_header"),
        (timed(json!({"timestamp_header": "Host"})), "/signatures/0/timestamp_header"),
        (timed(json!({"timestamp_header": "webhook-id"})), "/signatures/0/timestamp_header"),
        (timed(json!({"timestamp_header": "x-OWN-signature"})), "/signatures/0/timestamp_header"),
        (with(json!({"algorithm": "ed25519"})), "/signatures/0/key"),
        (with(json!({"algorithm": "Ed25519"})), "/signatures/0/algorithm"),
        (
            json!({"signatures": [signature(json!({"algorithm": "ed25519", "key": "base64"})), signature(json!({}))]}),
            "/signatures/1/header",
        ),
        (
            with(json!({"header": "te", "content": "x", "value": "y"})),
            "/signatures/0/header /signatures/0/content /signatures/0/value",
        ),
        (json!({"success": "3xx"}), "/success"),
        (json!({"success": []}), "/success"),
        (json!({"success": [302]}), "/success"),
        (json!({"success": vec![200; 17]}), "/success"),
        (json!({"timeout_ms": 999}), "/timeout_ms"),
        (json!({"timeout_ms": 30_001}), "/timeout_ms"),
        (json!({"timeout_ms": "1000"}), "/timeout_ms"),
        (json!({"retry_schedule_s": vec![1; 16]}), "/retry_schedule_s"),
        (json!({"retry_schedule_s": [604_800, 1]}), "/retry_schedule_s"),
        (json!({"retry_schedule_s": [0]}), "/retry_schedule_s"),
        (json!({"retry_schedule_s": [1, -1]}), "/retry_schedule_s/1"),
        (json!({"allow_http": true}), "/allow_http"),
        (json!({"allow_http": "no"}), "/allow_http"),
        (json!({"disable_on_410": 1}), "/disable_on_410"),
        (
            json!({"name": "A", "envelope": 1, "signatures": [], "timeout_ms": 1, "retry_schedule_s": [0]}),
            "/name /envelope /signatures /timeout_ms /retry_schedule_s",
        ),
    ];
    for (fields, pointers) in table {
        let reply = create(&tenant, fields.clone()).await;
        assert_eq!(reply.status, 422, "{fields}: {}", reply.text);
        assert_eq!(reply.pointers().join(" "), pointers, "{fields}");
        if fields.get("name").is_none() {
            let body = without_name(format(fields.clone()));
            let reply = tenant.client.put("/v1/formats/mine", body).await;
            assert_eq!(reply.pointers().join(" "), pointers, "PUT {fields}");
            let preview = json!({"format": format(fields.clone()), "event": {"type": "a", "data": 1}});
            let reply = tenant.client.post("/v1/formats/preview", preview).await;
            // A preview stores nothing, so it may be of what only the operator can make.
            if fields.get("allow_http").is_none_or(|allow| *allow != true) {
                let below: Vec<String> = pointers.split(' ').map(|one| format!("/format{one}")).collect();
                assert_eq!(reply.pointers(), below, "preview of {fields}");
            }
        }
    }
    for (raw, pointer) in [
        (r#""envelope":{"a":1,"b":{"c":1,"c":2}}"#, "/envelope/b/c"),
        (r#""envelope":{"a":1},"envelope":{"a":1}"#, "/envelope"),
        (r#""envelope":{"s":"\ud800"}"#, "/envelope/s"),
        (
            r#""envelope":{"a":1},"signatures":[{"header":"x-a","key":"text","key":"text"}]"#,
            "/signatures/0/key",
        ),
    ] {
        let mut body = format!(r#"{{"name":"own",{raw}"#);
        if !raw.contains("signatures") {
            body += &format!(r#","signatures":{}"#, json!([signature(json!({}))]));
        }
        body += "}";
        let reply = tenant.client.send(reqwest::Method::POST, "/v1/formats", Some(body)).await;
        assert_eq!(reply.pointers(), [pointer], "{raw}");
    }
    let other_name = tenant.client.put("/v1/formats/mine", format(json!({"name": "other"}))).await;
    assert_eq!(other_name.pointers(), ["/name"]);
    tenant.client.put("/v1/formats/nothing", without_name(format(json!({})))).await.problem(404);
    tenant.client.delete("/v1/formats/nothing").await.problem(404);
    Stored::read(&mut app.sql().await).await.assert_same(&before, "bad formats");
    app.stop().await;
}
