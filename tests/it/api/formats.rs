//! Wire formats of a tenant's own: what may be one, who may use it, and what an edit changes.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};
use tokio::sync::Notify;

use super::{array, text};
use crate::helpers::{
    Answer, Receiver, Stored, app::Tenant, client::Reply, receiver::Seen, spawn, spawn_with, sql::Sql,
};

/// A format that is right, with these fields in place of its own.
fn format(fields: Value) -> Value {
    let mut format = json!({
        "name": "own",
        "envelope": {"event": "{{type}}", "payload": "{{data}}"},
        "signatures": [signature(json!({}))],
    });
    merge(&mut format, fields);
    format
}

fn merge(object: &mut Value, fields: Value) {
    let (Value::Object(object), Value::Object(fields)) = (object, fields) else { panic!("not objects") };
    object.extend(fields);
}

fn signature(fields: Value) -> Value {
    let mut signature = json!({"header": "X-Own-Signature", "algorithm": "hmac-sha256", "key": "text",
        "content": "{{body}}", "encoding": "hex"});
    merge(&mut signature, fields);
    signature
}

fn without_name(mut format: Value) -> Value {
    format.as_object_mut().unwrap().remove("name");
    format
}

fn of(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", text(endpoint, "id"))
}

async fn create(tenant: &Tenant, fields: Value) -> Reply {
    tenant.client.post("/v1/formats", format(fields)).await
}

#[tokio::test]
async fn built_in_formats_are_listed_and_read_only() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let made = create(&tenant, json!({})).await.expect(201);
    assert_eq!((&made["built_in"], &made["name"]), (&json!(false), &json!("own")));
    assert!(made["version"].as_i64().unwrap() >= 1_000);
    let all = tenant.client.get("/v1/formats").await.expect(200);
    let names: Vec<&str> = array(&all, "data").iter().map(|one| text(one, "name")).collect();
    assert_eq!(
        names,
        [
            "standard",
            "messagesync",
            "whatsable",
            "aisoule",
            "whatssync",
            "whatsapp_platform",
            "stripe",
            "github",
            "shopify",
            "slack",
            "own"
        ]
    );
    for one in array(&all, "data") {
        let path = format!("/v1/formats/{}", text(one, "name"));
        assert_eq!(tenant.client.get(&path).await.expect(200), *one);
        create(&tenant, json!({"name": one["name"]})).await.problem(409);
        if one["built_in"] == true {
            assert_eq!(one["created_at"], Value::Null);
            tenant.client.put(&path, without_name(format(json!({})))).await.problem(409);
            tenant.client.delete(&path).await.problem(409);
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn a_format_is_shown_as_it_was_made_with_the_contracts_defaults() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let made = create(&tenant, json!({})).await.expect(201);
    for (field, value) in [
        ("success", json!("2xx")),
        ("timeout_ms", json!(10_000)),
        ("retry_schedule_s", json!([10, 60, 300])),
        ("allow_http", json!(false)),
        ("honor_retry_after", json!(true)),
        ("disable_on_410", json!(true)),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    assert_eq!(made["signatures"][0]["value"], "{{signature}}");
    let all = json!({
        "name": "all_fields",
        // The order of keys is the order on the wire.
        "envelope": {"z": "{{id}}", "a": ["{{created_at}}", 1.5, null], "m": {"object": "{{data}}"}},
        "signatures": [signature(json!({"value": "sha256={{signature}}", "multiple": true}))],
        "success": [200, 409], "timeout_ms": 30_000, "retry_schedule_s": vec![60; 15],
        "honor_retry_after": false, "disable_on_410": false,
    });
    let made = tenant.client.post("/v1/formats", all.clone()).await.expect(201);
    let read = tenant.client.get("/v1/formats/all_fields").await.expect(200);
    for (field, value) in all.as_object().unwrap() {
        if field != "signatures" {
            assert_eq!((&made[field], &read[field]), (value, value), "{field}");
        }
    }
    let keys: Vec<&String> = read["envelope"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["z", "a", "m"]);
    app.stop().await;
}

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
        (with(json!({"value": "a {{signature}}"})), "/signatures/0/value"),
        (with(json!({"value": "é{{signature}}"})), "/signatures/0/value"),
        (with(json!({"multiple": "yes"})), "/signatures/0/multiple"),
        (with(json!({"nonce": "v1"})), "/signatures/0/nonce"),
        (with(json!({"prefix": "t {{id}}"})), "/signatures/0/prefix"),
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

fn hmac_hex(key: &[u8], parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn body(seen: &Seen) -> &str {
    std::str::from_utf8(&seen.body).unwrap()
}

#[tokio::test]
async fn a_receiver_verifies_every_signature_that_its_format_lists() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let mut signatures = json!([
        {"header": "X-Hub-Signature-256", "algorithm": "hmac-sha256", "key": "text", "content": "{{body}}",
            "encoding": "hex", "value": "sha256={{signature}}"},
        {"header": "X-Own-Timed", "algorithm": "hmac-sha512", "key": "base64", "content": "v0:{{timestamp}}:{{id}}:{{body}}",
            "encoding": "base64", "value": "v0={{signature}}", "multiple": true},
        {"header": "webhook-signature", "algorithm": "hmac-sha256", "key": "base64",
            "content": "{{id}}.{{timestamp}}.{{body}}", "encoding": "base64", "value": "v1,{{signature}}", "multiple": true},
    ]);
    // As many as may be.
    let more = signatures.as_array_mut().unwrap();
    more.extend((3..8).map(|number| signature(json!({"header": format!("x-{number}")}))));
    create(&tenant, json!({"signatures": signatures})).await.expect(201);
    let endpoint = tenant.endpoint(&receiver.url("/"), json!({"format": "own"})).await;
    assert_eq!(endpoint["format"], "own");
    tenant.publish("message.sent", json!({"n": 1.0, "text": "☺"})).await;
    let seen = receiver.next().await;
    assert_eq!(body(&seen), r#"{"event":"message.sent","payload":{"n":1,"text":"☺"}}"#);
    let secret = text(&endpoint, "secret");
    let hex = hmac_hex(secret.as_bytes(), &[&seen.body]);
    assert_eq!(seen.header("x-hub-signature-256"), format!("sha256={hex}"));
    for number in 3..8 {
        assert_eq!(seen.header(&format!("x-{number}")), hex);
    }
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
    let mut mac = Hmac::<Sha512>::new_from_slice(&key).unwrap();
    let (at, id) = (seen.header("webhook-timestamp"), seen.header("webhook-id"));
    mac.update(format!("v0:{at}:{id}:{}", body(&seen)).as_bytes());
    let expected = STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(seen.header("x-own-timed"), format!("v0={expected}"));
    standardwebhooks::Webhook::new(secret).unwrap().verify(&seen.body, &seen.headers).unwrap();
    app.stop().await;
}

#[tokio::test]
async fn an_edit_is_for_new_deliveries_and_those_under_way_keep_what_they_were_made_with() {
    let mut app = spawn().await;
    let mut other = app.another(posthaste::app::Roles { api: true, worker: false }).await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let old = json!({"envelope": {"v": 1, "data": "{{data}}"}, "retry_schedule_s": [1, 1, 1]});
    let before = create(&tenant, old).await.expect(201);
    let endpoint = tenant.endpoint(&receiver.url("/"), json!({"format": "own"})).await;
    receiver.script("/", [Answer::status(500), Answer::status(500), Answer::status(200)]);
    let first = tenant.publish("message.sent", json!({"n": 1})).await;
    let sent = receiver.next().await;
    assert_eq!(body(&sent), r#"{"v":1,"data":{"n":1}}"#);

    let new = format(json!({"envelope": {"v": 2, "data": "{{data}}"},
        "signatures": [signature(json!({"header": "X-New", "value": "new={{signature}}"}))]}));
    let after = other.with_key(&tenant.key).put("/v1/formats/own", new).await.expect(200);
    assert!(after["version"].as_i64() > before["version"].as_i64());
    assert_eq!(after["created_at"], before["created_at"]);
    for number in ["2", "3"] {
        let again = receiver.next().await;
        assert_eq!((again.header("x-posthaste-attempt"), &again.body), (number, &sent.body));
        assert_eq!(again.header("x-own-signature"), sent.header("x-own-signature"));
        assert_eq!(again.header("x-new"), "");
    }
    let done = tenant.delivery_when(&first, &endpoint, |one| one["status"] == "succeeded").await;
    assert_eq!(done["request"]["body"], body(&sent), "and so history shows it");

    // What both programs remember of the location is outdated.
    for program in [&app, &other] {
        let path = format!("/v1/locations/{}/events", tenant.location_id);
        let event = json!({"type": "message.sent", "data": {"n": 2}});
        program.with_key(&tenant.key).post(&path, event).await.expect(202);
        let seen = receiver.next().await;
        assert_eq!(body(&seen), r#"{"v":2,"data":{"n":2}}"#);
        let hex = hmac_hex(text(&endpoint, "secret").as_bytes(), &[&seen.body]);
        assert_eq!(seen.header("x-new"), format!("new={hex}"));
    }

    // A delivery that is sent again long after keeps it, too, even where the format is gone by then.
    tenant.client.delete("/v1/formats/own").await.problem(409);
    let path = format!("/v1/endpoints/{}", text(&endpoint, "id"));
    tenant.client.patch(&path, json!({"format": null})).await.expect(200);
    tenant.client.delete("/v1/formats/own").await.expect(204);
    tenant.client.get("/v1/formats/own").await.problem(404);
    tenant.tell_delivery(&first, &endpoint, "retry").await.expect(202);
    let again = receiver.next().await;
    assert_eq!((again.header("x-posthaste-attempt"), &again.body), ("4", &sent.body));
    other.stop().await;
    app.stop().await;
}

#[tokio::test]
async fn schedule_timeout_and_success_are_the_formats_unless_the_endpoint_says_otherwise() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    create(&tenant, json!({"success": [202], "retry_schedule_s": []})).await.expect(201);
    let once = tenant.endpoint(&receiver.url("/once"), json!({"format": "own"})).await;
    let again = json!({"format": "own", "retry_schedule_s": [1]});
    let again = tenant.endpoint(&receiver.url("/again"), again).await;
    receiver.script("/again", [Answer::status(200), Answer::status(202)]);
    let event = tenant.publish("message.sent", json!({})).await;
    let failed = tenant.delivery_when(&event, &once, |one| one["status"] != "pending").await;
    assert_eq!((&failed["status"], &failed["attempt_count"]), (&json!("failed"), &json!(1)));
    assert_eq!(failed["last_response_status"], 200, "which is not this format's success");
    let healed = tenant.delivery_when(&event, &again, |one| one["status"] != "pending").await;
    assert_eq!((&healed["status"], &healed["attempt_count"]), (&json!("succeeded"), &json!(2)));
    receiver.take(3).await;
    tenant.client.delete(&of(&once)).await.expect(204);
    tenant.client.delete(&of(&again)).await.expect(204);

    // Both receivers hang: the format's second ends the one attempt, the endpoint's own time lets the other be answered.
    let hasty = json!({"name": "hasty", "timeout_ms": 1_000, "retry_schedule_s": []});
    create(&tenant, hasty).await.expect(201);
    let gate = Arc::new(Notify::new());
    receiver.script("/hangs", [Answer::never()]);
    receiver.script("/waits", [Answer::status(200).behind(&gate)]);
    let hangs = tenant.endpoint(&receiver.url("/hangs"), json!({"format": "hasty"})).await;
    let waits = json!({"format": "hasty", "timeout_ms": 30_000});
    let waits = tenant.endpoint(&receiver.url("/waits"), waits).await;
    let event = tenant.publish("message.sent", json!({})).await;
    receiver.take(2).await;
    let cut = tenant.delivery_when(&event, &hangs, |one| one["status"] == "failed").await;
    assert_eq!(cut["attempts"][0]["error"], "timeout");
    gate.notify_one();
    tenant.delivery_when(&event, &waits, |one| one["status"] == "succeeded").await;
    app.stop().await;
}

#[tokio::test]
async fn endpoints_that_name_no_format_have_the_tenants() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let operator = app.operator();
    let tenant = app.tenant_with(json!({"format": "slack"})).await;
    let path = format!("/v1/tenants/{}", tenant.id);
    let patch = async |format: Value| operator.patch(&path, json!({"format": format})).await;
    let first = tenant.endpoint(&receiver.url("/"), json!({})).await;
    assert_eq!(first["format"], "slack");
    tenant.publish("message.sent", json!({})).await;
    assert!(receiver.next().await.header("x-slack-signature").starts_with("v0="));

    assert_eq!(patch(json!("own")).await.pointers(), ["/format"], "there is none yet");
    create(&app.tenant().await, json!({})).await.expect(201);
    assert_eq!(patch(json!("own")).await.pointers(), ["/format"], "it is another tenant's");
    create(&tenant, json!({})).await.expect(201);
    assert_eq!(patch(json!("own")).await.expect(200)["format"], "own");
    let second = tenant.endpoint(&receiver.url("/"), json!({})).await;
    let named = tenant.endpoint(&receiver.url("/"), json!({"format": "github"})).await;
    assert_eq!((&second["format"], &named["format"]), (&json!("own"), &json!("github")));
    assert_eq!(tenant.client.get(&of(&first)).await.expect(200)["format"], "slack", "it keeps its own");
    let back = tenant.client.patch(&of(&named), json!({"format": null})).await.expect(200);
    assert_eq!(back["format"], "own");

    for endpoint in [&second, &named] {
        tenant.client.patch(&of(endpoint), json!({"format": "shopify"})).await.expect(200);
    }
    let refusal = tenant.client.delete("/v1/formats/own").await.problem(409);
    assert!(text(&refusal, "detail").contains("name none"), "{refusal}");
    assert_eq!(patch(Value::Null).await.expect(200)["format"], Value::Null);
    assert_eq!(tenant.endpoint(&receiver.url("/"), json!({})).await["format"], "standard");
    tenant.client.delete("/v1/formats/own").await.expect(204);
    app.stop().await;
}

#[tokio::test]
async fn endpoints_are_held_to_their_format_and_formats_to_their_endpoints() {
    let mut app = spawn_with(&["--allow-http", "false"]).await;
    let tenant = app.tenant().await;
    let operator = app.operator().with("posthaste-tenant", &tenant.id);
    let client = &tenant.client;
    let endpoint = |fields: Value| {
        let mut body =
            json!({"name": "E", "url": "https://e.example.com/", "event_types": ["*"], "format": "own"});
        merge(&mut body, fields);
        body
    };
    let post = async |fields| client.post("/v1/endpoints", endpoint(fields)).await;
    assert_eq!(post(json!({})).await.pointers(), ["/format"], "there is none yet");
    let open = format(json!({"allow_http": true}));
    operator.post("/v1/formats", open).await.expect(201);
    let plain = post(json!({"url": "http://e.example.com/"})).await.expect(201);
    let foreign = post(json!({"secret": "0123456789abcdef"})).await.expect(201);
    let headed = post(json!({"headers": {"X-Mine": "1"}})).await.expect(201);
    assert_eq!(
        post(json!({"headers": {"x-own-signature": "1"}})).await.pointers(),
        ["/headers/x-own-signature"]
    );

    let put = async |fields| client.put("/v1/formats/own", format(fields)).await;
    let names = |problem: Value, endpoint: &Value| text(&problem, "detail").contains(text(endpoint, "id"));
    assert!(names(put(json!({})).await.problem(409), &plain), "http is in use");
    let base64 = json!({"allow_http": true, "signatures": [signature(json!({"key": "base64"}))]});
    assert!(names(put(base64.clone()).await.problem(409), &foreign));
    let header = json!({"allow_http": true, "signatures": [signature(json!({"header": "X-MINE"}))]});
    assert!(names(put(header).await.problem(409), &headed));
    // Open already, so it may stay open; closed, only the operator opens it again.
    put(json!({"allow_http": true, "timeout_ms": 2_000})).await.expect(200);
    client.delete(&format!("/v1/endpoints/{}", text(&plain, "id"))).await.expect(204);
    put(json!({})).await.expect(200);
    assert_eq!(put(json!({"allow_http": true})).await.pointers(), ["/allow_http"]);
    let path = format!("/v1/endpoints/{}", text(&foreign, "id"));
    assert_eq!(client.patch(&path, json!({"format": "standard"})).await.pointers(), ["/format"]);
    client.post(&format!("{path}/secret/rotate"), json!({})).await.expect(200);
    assert_eq!(client.patch(&path, json!({"format": "nope"})).await.pointers(), ["/format"]);

    // Another tenant's format is none, and the same name is free there.
    let other = app.tenant().await;
    let body = endpoint(json!({}));
    assert_eq!(other.client.post("/v1/endpoints", body).await.pointers(), ["/format"]);
    create(&other, json!({})).await.expect(201);
    app.stop().await;
}

#[tokio::test]
async fn a_preview_is_the_exact_request() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let client = &tenant.client;
    create(&tenant, json!({})).await.expect(201);
    let event = json!({"type": "message.sent", "data": {"b": 1, "1": 1.0}, "channel": "sms"});
    for of in [json!("own"), format(json!({}))] {
        let preview = json!({"format": of, "event": event});
        let shown = client.post("/v1/formats/preview", preview).await.expect(200);
        assert_eq!(shown["method"], "POST");
        assert_eq!(shown["body"], r#"{"event":"message.sent","payload":{"1":1,"b":1}}"#);
        let secret = text(&shown["signed_with"], "secret");
        let hex = hmac_hex(secret.as_bytes(), &[text(&shown, "body").as_bytes()]);
        assert_eq!(shown["headers"]["x-own-signature"], hex);
        assert_eq!(shown["headers"]["content-type"], "application/json");
        assert!(text(&shown["headers"], "user-agent").starts_with("Posthaste/"));
    }
    let preview = json!({"format": "standard", "event": event});
    let shown = client.post("/v1/formats/preview", preview).await.expect(200);
    let headers = shown["headers"].as_object().unwrap();
    let at = shown["signed_with"]["at"].as_str().unwrap();
    assert!(text(&shown, "body").contains(at), "it happens when it is sent, unless it says otherwise");
    let (id, seconds) =
        (headers["webhook-id"].as_str().unwrap(), headers["webhook-timestamp"].as_str().unwrap());
    let signed = format!("{id}.{seconds}.{}", text(&shown, "body"));
    let library = standardwebhooks::Webhook::new(text(&shown["signed_with"], "secret")).unwrap();
    let expected = library.sign(id, seconds.parse().unwrap(), text(&shown, "body").as_bytes()).unwrap();
    assert_eq!(headers["webhook-signature"], expected, "{signed}");

    for (body, pointers) in [
        (json!({"format": "nope", "event": event}), vec!["/format"]),
        (json!({"format": 1, "event": event}), vec!["/format"]),
        (json!({"format": null, "event": event}), vec!["/format"]),
        (json!({"format": "whatsable", "event": {"type": "a", "data": 1}}), vec!["/event/data"]),
        (json!({"format": "standard", "event": {"type": "a b", "data": 1}}), vec!["/event/type"]),
        (json!({"format": "standard", "event": {"type": "a"}}), vec!["/event/data"]),
        (json!({"format": "nope", "event": {"type": "", "data": 1}}), vec!["/format", "/event/type"]),
        (json!({"event": event}), vec!["/format"]),
    ] {
        assert_eq!(client.post("/v1/formats/preview", body.clone()).await.pointers(), pointers, "{body}");
    }
    app.stop().await;
}

#[tokio::test]
async fn however_edits_and_endpoints_meet_every_endpoint_has_the_version_that_its_format_is_at() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    create(&tenant, json!({})).await.expect(201);
    let others = json!({"name": "E", "url": "http://127.0.0.1:9999/", "event_types": ["*"]});
    let moving = tenant.client.post("/v1/endpoints", others.clone()).await.expect(201);
    let moving = format!("/v1/endpoints/{}", text(&moving, "id"));
    let mut calls = tokio::task::JoinSet::new();
    for round in 0..8 {
        let (client, moving, mut endpoint) = (tenant.client.clone(), moving.clone(), others.clone());
        endpoint["format"] = json!("own");
        calls.spawn(async move {
            let edit = without_name(format(json!({"timeout_ms": 1_000 + round})));
            let own = json!({"name": format!("own.type{round}"), "description": "d"});
            let format = if round % 2 == 0 { "own" } else { "standard" };
            let (edited, made, moved, typed) = tokio::join!(
                client.put("/v1/formats/own", edit),
                client.post("/v1/endpoints", endpoint),
                client.patch(&moving, json!({"format": format})),
                client.post("/v1/event-types", own),
            );
            [edited.status, made.status, moved.status, typed.status]
        });
    }
    while let Some(statuses) = calls.join_next().await {
        assert_eq!(statuses.unwrap(), [200, 201, 200, 201]);
    }
    let mut sql = Sql::open(&app.database).await;
    let outdated = "SELECT count(*) FROM endpoints e JOIN wire_formats f ON f.tenant_id = e.tenant_id AND f.name = e.format
                    WHERE e.format_version <> f.version";
    assert_eq!(sql.count(outdated).await, 0);
    assert_eq!(sql.count("SELECT count(*) FROM wire_format_versions").await, 9, "all are kept");
    app.stop().await;
}

/// The names on each page from this path on, in the order in which the pages were read.
async fn names_by_page(tenant: &Tenant, list: &str, mut query: String, onwards: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    loop {
        let page = tenant.client.get(&format!("{list}?limit=4{query}")).await.expect(200);
        pages.push(array(&page, "data").iter().map(|one| text(one, "name").to_owned()).collect());
        match page[onwards].as_str() {
            Some(cursor) => query = format!("&cursor={cursor}"),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn catalogues_come_in_pages_that_stay_put() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    for name in ["c", "a_b", "a", "b"] {
        create(&tenant, json!({"name": name})).await.expect(201);
    }
    for list in ["/v1/formats", "/v1/presets", "/v1/event-types"] {
        let all = tenant.client.get(&format!("{list}?limit=250")).await.expect(200);
        assert_eq!((&all["next_cursor"], &all["prev_cursor"]), (&Value::Null, &Value::Null));
        let names: Vec<&str> = array(&all, "data").iter().map(|one| text(one, "name")).collect();
        let forth = names_by_page(&tenant, list, String::new(), "next_cursor").await;
        assert_eq!(forth.concat(), names, "{list}");
        assert!(forth.len() > 1 && forth.iter().all(|page| !page.is_empty()), "{list}");
    }

    let second = tenant.client.get("/v1/formats?limit=11").await.expect(200);
    assert_eq!(text(&array(&second, "data")[10], "name"), "a");
    let onwards = format!("&cursor={}", text(&second, "next_cursor"));
    // The entry at the edge goes, and one comes before it.
    tenant.client.delete("/v1/formats/a").await.expect(204);
    create(&tenant, json!({"name": "0"})).await.expect(201);
    let rest = names_by_page(&tenant, "/v1/formats", onwards.clone(), "next_cursor").await;
    assert_eq!(rest, [["a_b", "b", "c"]]);
    let page = tenant.client.get(&format!("/v1/formats?limit=4{onwards}")).await.expect(200);
    let back = format!("&cursor={}", text(&page, "prev_cursor"));
    let before = names_by_page(&tenant, "/v1/formats", back, "prev_cursor").await;
    assert_eq!(before[0], ["github", "shopify", "slack", "0"]);
    assert_eq!(before[1], ["aisoule", "whatssync", "whatsapp_platform", "stripe"]);
    assert_eq!(before[2..], [["standard", "messagesync", "whatsable"]]);
    app.stop().await;
}
