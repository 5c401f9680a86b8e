//! Fields that are wrong: each a 422 with a pointer to it, nothing stored.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::helpers::{
    Stored,
    client::{Client, Reply},
    spawn, spawn_with,
};

/// In place of a value: the field is not there.
const LEFT_OUT: &str = "(left out)";

/// A body that is right but for `changes`.
fn changed(good: &Value, changes: &Value) -> Value {
    let mut body = good.clone();
    let fields = body.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value == LEFT_OUT {
            fields.remove(name)
        } else {
            fields.insert(name.clone(), value.clone())
        };
    }
    body
}

async fn send(client: &Client, call: &str, body: &Value) -> Reply {
    let (method, path) = call.split_once(' ').unwrap();
    client.send(Method::from_bytes(method.as_bytes()).unwrap(), path, Some(body.to_string())).await
}

/// Sends each of the changes, and expects these pointers (with spaces between).
async fn refused(client: &Client, call: &str, good: &Value, table: &[(Value, &str)]) {
    for (changes, pointers) in table {
        let reply = send(client, call, &changed(good, changes)).await;
        assert_eq!(reply.status, 422, "{call} with {changes}: {}", reply.text);
        let found = reply.pointers();
        assert_eq!(found.join(" "), *pointers, "{call} with {changes}");
    }
}

/// What no text may be that is for people to read, each as a change of the field.
fn texts_no_name_can_be(field: &str) -> Vec<Value> {
    let texts = ["", "  ", "a\u{0}b", "a\nb", "a\u{1b}b", "\u{7f}", "a\u{85}b", &"é".repeat(201)];
    texts.iter().map(|text| json!({field: text})).collect()
}

fn texts_no_external_id_can_be() -> Vec<Value> {
    let texts = ["", "a b", "é", "a\u{0}", "a\n", "loc_1", "ten_1", ".", "..", &"x".repeat(201)];
    texts.iter().map(|text| json!({"external_id": text})).collect()
}

fn not_texts(field: &str) -> Vec<Value> {
    [json!(1), json!(true), json!([]), json!({}), json!(["a"])].map(|value| json!({field: value})).to_vec()
}

fn at(pointer: &'static str, changes: Vec<Value>) -> Vec<(Value, &'static str)> {
    changes.into_iter().map(|change| (change, pointer)).collect()
}

fn metadata() -> Vec<(Value, &'static str)> {
    let many: Map<String, Value> = (0..51).map(|n| (format!("k{n}"), json!(n))).collect();
    vec![
        (json!({"metadata": []}), "/metadata"),
        (json!({"metadata": "x"}), "/metadata"),
        (json!({"metadata": {"a": {"b": ["ok", "\u{0}"]}}}), "/metadata/a/b/1"),
        (json!({"metadata": {"a\u{0}": 1}}), "/metadata"),
        (json!({"metadata": many}), "/metadata"),
        (json!({"metadata": {"a": "x".repeat(8 * 1024)}}), "/metadata"),
    ]
}

#[tokio::test]
async fn of_tenants() {
    let mut app = spawn().await;
    let tenant = app.tenant_with(json!({"external_id": "taken"})).await;
    let other = app.tenant().await;
    let operator = app.operator();
    let before = Stored::read(&mut app.sql().await).await;
    let mut shared = metadata();
    shared.extend(at("/name", texts_no_name_can_be("name")));
    shared.extend(at("/name", not_texts("name")));
    shared.push((json!({"name": null}), "/name"));
    shared.extend(at("/external_id", texts_no_external_id_can_be()));
    shared.extend(at("/external_id", not_texts("external_id")));
    shared.extend(vec![
        (json!({"allow_unknown_event_types": "yes"}), "/allow_unknown_event_types"),
        (json!({"allow_unknown_event_types": 1}), "/allow_unknown_event_types"),
        (json!({"retention_days": 0}), "/retention_days"),
        (json!({"retention_days": -1}), "/retention_days"),
        (json!({"retention_days": 3651}), "/retention_days"),
        (json!({"retention_days": 65_536}), "/retention_days"),
        (json!({"retention_days": "30"}), "/retention_days"),
        (json!({"retention_days": 1.5}), "/retention_days"),
        (json!({"format": "nope"}), "/format"),
        (json!({"format": "a\u{0}"}), "/format"),
        (json!({"format": ["slack"]}), "/format"),
        (json!({"failing_days": 0}), "/failing_days"),
        (json!({"failing_days": 31}), "/failing_days"),
        (json!({"id": "ten_1"}), "/id"),
        (json!({"name": "", "external_id": "a b", "failing_days": 99}), "/name /external_id /failing_days"),
    ]);
    let of_create = vec![
        (json!({"name": LEFT_OUT}), "/name"),
        (json!({"preset": "nope"}), "/preset"),
        (json!({"preset": "a\u{0}"}), "/preset"),
        (json!({"preset": 1}), "/preset"),
    ];
    let of_patch =
        [json!({"allow_unknown_event_types": null}), json!({"failing_days": null})].map(|change| {
            let pointer = if change.get("failing_days").is_some() {
                "/failing_days"
            } else {
                "/allow_unknown_event_types"
            };
            (change, pointer)
        });
    let good = json!({"name": "T"});
    refused(&operator, "POST /v1/tenants", &good, &shared).await;
    refused(&operator, "POST /v1/tenants", &good, &of_create).await;
    let patch = format!("PATCH /v1/tenants/{}", tenant.id);
    refused(&operator, &patch, &json!({}), &shared).await;
    refused(&operator, &patch, &json!({}), &of_patch).await;
    let taken = json!({"name": "T", "external_id": "taken"});
    send(&operator, "POST /v1/tenants", &taken).await.problem(409);
    send(&operator, &format!("PATCH /v1/tenants/{}", other.id), &taken).await.problem(409);
    Stored::read(&mut app.sql().await).await.assert_same(&before, "bad tenants");
    app.stop().await;
}

#[tokio::test]
async fn of_keys() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let before = Stored::read(&mut app.sql().await).await;
    let mut table = at("/name", texts_no_name_can_be("name"));
    table.extend(at("/name", not_texts("name")));
    table.extend(vec![
        (json!({"name": LEFT_OUT}), "/name"),
        (json!({"scopes": LEFT_OUT}), "/scopes"),
        (json!({"scopes": null}), "/scopes"),
        (json!({"scopes": []}), "/scopes"),
        (json!({"scopes": "read"}), "/scopes"),
        (json!({"scopes": [1]}), "/scopes/0"),
        (json!({"scopes": ["operator"]}), "/scopes/0"),
        (json!({"scopes": ["read", "Write"]}), "/scopes/1"),
        (json!({"scopes": ["read", "write", "read"]}), "/scopes/2"),
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), "/expires_at"),
        (json!({"expires_at": "tomorrow"}), "/expires_at"),
        (json!({"expires_at": "2099-01-31"}), "/expires_at"),
        (json!({"expires_at": "2099-02-30T00:00:00Z"}), "/expires_at"),
        (json!({"expires_at": "2099-01-31T00:00:00"}), "/expires_at"),
        (json!({"expires_at": "2099-01-31T00:00:00Z\u{0}"}), "/expires_at"),
        (json!({"expires_at": 4_070_908_800_i64}), "/expires_at"),
        (json!({"key": "ph_mine"}), "/key"),
        (json!({"name": "", "scopes": ["a", "b"]}), "/name /scopes/0 /scopes/1"),
    ]);
    let good = json!({"name": "K", "scopes": ["read"]});
    refused(&tenant.client, "POST /v1/keys", &good, &table).await;
    refused(&app.operator(), &format!("POST /v1/tenants/{}/keys", tenant.id), &good, &table).await;
    Stored::read(&mut app.sql().await).await.assert_same(&before, "bad keys");
    app.stop().await;
}

#[tokio::test]
async fn of_locations() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let client = &tenant.client;
    let location = client.post("/v1/locations", json!({"name": "Second"})).await.expect(201);
    let before = Stored::read(&mut app.sql().await).await;
    let mut table = metadata();
    table.extend(at("/name", texts_no_name_can_be("name")));
    table.extend(at("/name", not_texts("name")));
    table.push((json!({"name": null}), "/name"));
    table.extend(at("/external_id", texts_no_external_id_can_be()));
    table.extend(at("/external_id", not_texts("external_id")));
    table.extend(vec![
        (json!({"channels": "whatsapp"}), "/channels"),
        (json!({"channels": {"whatsapp": "connected"}}), "/channels"),
        (json!({"channels": ["sms", "fax"]}), "/channels/1"),
        (json!({"channels": ["WhatsApp"]}), "/channels/0"),
        (json!({"channels": ["sms\u{0}"]}), "/channels/0"),
        (json!({"channels": [1]}), "/channels/0"),
        (json!({"created_at": "2026-01-01T00:00:00Z"}), "/created_at"),
    ]);
    refused(client, "POST /v1/locations", &json!({"name": "L"}), &table).await;
    refused(client, "POST /v1/locations", &json!({}), &[(json!({}), "/name")]).await;
    let patch = format!("PATCH /v1/locations/{}", location["id"].as_str().unwrap());
    refused(client, &patch, &json!({}), &table).await;
    let taken = json!({"name": "L", "external_id": "default"});
    send(client, "POST /v1/locations", &taken).await.problem(409);
    send(client, &patch, &taken).await.problem(409);
    Stored::read(&mut app.sql().await).await.assert_same(&before, "bad locations");
    app.stop().await;
}

/// What is wrong in a new endpoint and in a change of one alike.
fn endpoint_table() -> Vec<(Value, &'static str)> {
    let headers: Map<String, Value> = (0..21).map(|n| (format!("x-{n}"), json!("v"))).collect();
    let patterns: Vec<String> = (0..101).map(|n| format!("t{n}")).collect();
    let mut table = metadata();
    table.extend(at("/name", texts_no_name_can_be("name")));
    table.extend(at("/name", not_texts("name")));
    table.extend(at("/url", not_texts("url")));
    table.extend(at("/format", not_texts("format")));
    table.extend(vec![
        (json!({"name": null}), "/name"),
        (json!({"url": null}), "/url"),
        (json!({"event_types": null}), "/event_types"),
        (json!({"event_types": []}), "/event_types"),
        (json!({"event_types": "*"}), "/event_types"),
        (json!({"event_types": {}}), "/event_types"),
        (json!({"event_types": [1]}), "/event_types/0"),
        (json!({"event_types": ["*", null]}), "/event_types/1"),
        (json!({"event_types": ["*", "*"]}), "/event_types/1"),
        (json!({"event_types": ["message.sent", "message.*", "message.sent"]}), "/event_types/2"),
        (json!({"event_types": ["message.nope"]}), "/event_types/0"),
        (json!({"event_types": ["nope.*"]}), "/event_types/0"),
        (json!({"event_types": ["*", ""]}), "/event_types/1"),
        (json!({"event_types": ["message.sent\u{0}"]}), "/event_types/0"),
        (json!({"event_types": ["message.\n"]}), "/event_types/0"),
        (
            json!({"event_types": ["*.sent", "mess*", "a".repeat(200)]}),
            "/event_types/0 /event_types/1 /event_types/2",
        ),
        (json!({"event_types": patterns}), "/event_types"),
        (json!({"rate_limit_per_s": 0}), "/rate_limit_per_s"),
        (json!({"rate_limit_per_s": -1}), "/rate_limit_per_s"),
        (json!({"rate_limit_per_s": 10_001}), "/rate_limit_per_s"),
        (json!({"rate_limit_per_s": 4_294_967_296_i64}), "/rate_limit_per_s"),
        (json!({"rate_limit_per_s": 1.5}), "/rate_limit_per_s"),
        (json!({"rate_limit_per_s": "1"}), "/rate_limit_per_s"),
        (json!({"max_in_flight": 0}), "/max_in_flight"),
        (json!({"max_in_flight": 257}), "/max_in_flight"),
        (json!({"max_in_flight": []}), "/max_in_flight"),
        (json!({"format": "nope"}), "/format"),
        (json!({"format": "standard\u{0}"}), "/format"),
        (json!({"timeout_ms": 999}), "/timeout_ms"),
        (json!({"timeout_ms": 30_001}), "/timeout_ms"),
        (json!({"timeout_ms": "1000"}), "/timeout_ms"),
        (json!({"retry_schedule_s": 10}), "/retry_schedule_s"),
        (json!({"retry_schedule_s": [0]}), "/retry_schedule_s"),
        (json!({"retry_schedule_s": vec![1; 16]}), "/retry_schedule_s"),
        (json!({"retry_schedule_s": [604_800, 1]}), "/retry_schedule_s"),
        (json!({"retry_schedule_s": vec![u32::MAX; 2]}), "/retry_schedule_s"),
        (json!({"retry_schedule_s": [1, 1.5]}), "/retry_schedule_s/1"),
        (json!({"retry_schedule_s": [-1]}), "/retry_schedule_s/0"),
        (json!({"headers": []}), "/headers"),
        (json!({"headers": {"x-a": 1}}), "/headers/x-a"),
        (json!({"headers": {"": "v"}}), "/headers/"),
        (json!({"headers": {"x a": "v"}}), "/headers/x a"),
        (json!({"headers": {"x/a": "v"}}), "/headers/x~1a"),
        (json!({"headers": {"é": "v"}}), "/headers/é"),
        (json!({"headers": {"x-a\u{0}": "v"}}), "/headers/x-a\u{0}"),
        (json!({"headers": {"x-a": "a\u{0}b"}}), "/headers/x-a"),
        (json!({"headers": {"x-a": "a\r\nx-b: c"}}), "/headers/x-a"),
        (json!({"headers": {"Content-Type": "text/plain"}}), "/headers/Content-Type"),
        (json!({"headers": {"host": "elsewhere"}}), "/headers/host"),
        (json!({"headers": {"Webhook-Id": "mine"}}), "/headers/Webhook-Id"),
        (json!({"headers": {"X-Webhook-Signature": "mine"}}), "/headers/X-Webhook-Signature"),
        (json!({"headers": headers}), "/headers"),
        (json!({"headers": {"x-a": "v".repeat(4 * 1024)}}), "/headers"),
        (json!({"status": "active"}), "/status"),
        (
            json!({"name": "", "url": "x", "event_types": [], "timeout_ms": 1}),
            "/name /url /event_types /timeout_ms",
        ),
    ]);
    table
}

const BAD_URLS: [&str; 34] = [
    "",
    " ",
    "nope",
    "//e.example.com/",
    "ftp://e.example.com/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "https://",
    "https:///hook",
    "https://e.example.com/a\u{0}b",
    "https://e.example.com/a\nb",
    " https://e.example.com/",
    "https://e.example.com/ ",
    "https://user:word@e.example.com/",
    "https://e.example.com/#part",
    "https://e.example.com:22/",
    "https://e.example.com:0/",
    "https://e.example.com:65536/",
    "https://e.example.com./",
    "https://localhost/",
    "https://db/",
    "https://printer.local/",
    "https://metadata.google.internal/",
    "https://10.0.0.1/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://0.0.0.0/",
    "https://167772161/",
    "https://0x0a.1/",
    "https://012.0.0.1/",
    "https://[::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[fd00::1]/",
    "https://%6c%6fcalhost/",
];

#[tokio::test]
async fn of_endpoints() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let client = &tenant.client;
    let endpoint = tenant.endpoint("https://e.example.com/hook", json!({})).await;
    let before = Stored::read(&mut app.sql().await).await;
    let good = json!({"name": "E", "url": "https://e.example.com/hook", "event_types": ["*"]});
    let mut table = endpoint_table();
    table.extend(BAD_URLS.iter().map(|url| (json!({"url": url}), "/url")));
    table.push((json!({"url": format!("https://e.example.com/{}", "x".repeat(2_048))}), "/url"));
    let of_create = vec![
        (json!({"name": LEFT_OUT}), "/name"),
        (json!({"url": LEFT_OUT}), "/url"),
        (json!({"event_types": LEFT_OUT}), "/event_types"),
        (json!({"secret": "x".repeat(15)}), "/secret"),
        (json!({"secret": "x".repeat(129)}), "/secret"),
        (json!({"secret": "0123456789 abcdef"}), "/secret"),
        (json!({"secret": "0123456789abcdef\u{0}"}), "/secret"),
        (json!({"secret": "a foreign one, where bytes are signed with"}), "/secret"),
        (json!({"secret": "foreign-where-the-format-needs-base64"}), "/secret"),
        (json!({"secret": 1}), "/secret"),
    ];
    let of_location = vec![
        (json!({"location_id": 1}), "/location_id"),
        (json!({"location_id": ""}), "/location_id"),
        (json!({"location_id": "nowhere"}), "/location_id"),
        (json!({"location_id": "loc_nope"}), "/location_id"),
        (json!({"location_id": "a\u{0}"}), "/location_id"),
        (json!({"location_id": "loc_0193a1b2-c3d4-7e5f-8a6b-0123456789ab"}), "/location_id"),
    ];
    let nested = format!("POST /v1/locations/{}/endpoints", tenant.location_id);
    for call in ["POST /v1/endpoints", &nested] {
        refused(client, call, &good, &table).await;
        refused(client, call, &good, &of_create).await;
        refused(client, call, &good, &of_location).await;
    }
    let named = json!({"location_id": tenant.location_id});
    refused(client, &nested, &good, &[(named, "/location_id")]).await;
    let patch = format!("PATCH /v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    refused(client, &patch, &json!({}), &table).await;
    refused(client, &patch, &json!({}), &[(json!({"secret": "x".repeat(40)}), "/secret")]).await;
    let lone = r#"{"name": "\ud800", "url": "https://e.example.com/", "event_types": ["*"]}"#;
    let reply = client.send(Method::POST, "/v1/endpoints", Some(lone.to_owned())).await;
    assert_eq!(reply.pointers(), ["/name"]);
    for (body, pointer) in [
        (r#"{"name": 1e400}"#, "/name"),
        (r#"{"name": "L", "metadata": {"a": 1e400}}"#, "/metadata/a"),
        (r#"{"name": "L", "metadata": {"a": "\udc00"}}"#, "/metadata/a"),
    ] {
        let reply = client.send(Method::POST, "/v1/locations", Some(body.to_owned())).await;
        let pointers = reply.pointers();
        assert!(pointers.len() == 1 && pointer.starts_with(&pointers[0]), "{body}: {pointers:?}");
    }
    Stored::read(&mut app.sql().await).await.assert_same(&before, "bad endpoints");
    app.stop().await;
}

#[tokio::test]
async fn of_urls_where_nothing_is_allowed() {
    let mut app = spawn_with(&["--allow-http", "false", "--allow-targets", "203.0.113.7"]).await;
    let client = app.tenant().await.client;
    let good = json!({"name": "E", "url": "https://e.example.com/hook", "event_types": ["*"]});
    let before = Stored::read(&mut app.sql().await).await;
    for url in [
        "http://e.example.com/",
        "HTTP://e.example.com/",
        "http://127.0.0.1/",
        "https://127.0.0.1/",
        "https://127.0.0.1:8443/",
    ] {
        refused(&client, "POST /v1/endpoints", &good, &[(json!({"url": url}), "/url")]).await;
    }
    Stored::read(&mut app.sql().await).await.assert_same(&before, "URLs that are not allowed");
    // The format that receivers without TLS speak.
    let allowed = changed(&good, &json!({"url": "http://e.example.com/", "format": "whatsable"}));
    let endpoint = client.post("/v1/endpoints", allowed).await.expect(201);
    let patch = format!("PATCH /v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    refused(&client, &patch, &json!({}), &[(json!({"format": "standard"}), "/url")]).await;
    send(&client, "POST /v1/endpoints", &changed(&good, &json!({"url": "https://203.0.113.7/"})))
        .await
        .expect(201);
    app.stop().await;
}

#[tokio::test]
async fn given_twice_below_the_top() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint("https://e.example.com/", json!({"headers": {"X-Kept": "v"}})).await;
    let before = Stored::read(&mut app.sql().await).await;
    let patch = format!("PATCH /v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    let events = format!("POST /v1/locations/{}/events", tenant.location_id);
    let new = r#"{"name": "E", "url": "https://e.example.com/", "event_types": ["*"], "#;
    let event = r#"{"type": "message.sent", "location_id": "default", "data": {}, "#;
    let metadata = r#""metadata": {"a": [{"b": 1}, {"c/d": 1, "c/d": 1}]}}"#;
    let table = [
        ("POST /v1/endpoints", format!("{new}{metadata}"), "/metadata/a/1/c~1d"),
        (patch.as_str(), format!("{{{metadata}"), "/metadata/a/1/c~1d"),
        ("POST /v1/locations", format!(r#"{{"name": "L", {metadata}"#), "/metadata/a/1/c~1d"),
        ("POST /v1/endpoints", format!(r#"{new}"headers": {{"x-a": "1", "X-A": "1"}}}}"#), "/headers/X-A"),
        ("POST /v1/endpoints", format!(r#"{new}"headers": {{"X-A": "1", "x-a": "1"}}}}"#), "/headers/x-a"),
        (&patch, r#"{"headers": {"X-A": "1", "x-b": "2", "X-B": null}}"#.into(), "/headers/X-B"),
        (&patch, r#"{"headers": {"X-A": "1", "\u0058-A": "1"}}"#.into(), "/headers/X-A"),
        (
            "POST /v1/event-types",
            r#"{"name": "a.b", "description": "d", "schema": {"type": "object", "type": "array"}}"#.into(),
            "/schema/type",
        ),
        (
            "POST /v1/event-types",
            r#"{"name": "a.b", "description": "d", "example": {"tags": {"tags": 1, "tags": 1}}}"#.into(),
            "/example/tags/tags",
        ),
        (
            &events,
            event.replace(r#""location_id": "default", "#, "") + r#""tags": {"t/g": "a", "t/g": "a"}}"#,
            "/tags/t~1g",
        ),
        (
            "POST /v1/events/batch",
            format!(
                r#"{{"events": [{event}"tags": {{"a": ""}}}}, {event}"tags": {{"a": "", "a": "b"}}}}]}}"#
            ),
            "/events/1/tags/a",
        ),
    ];
    for (call, body, pointer) in table {
        let (method, path) = call.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let reply = tenant.client.send(method, path, Some(body.clone())).await;
        assert!(reply.text.contains("is given twice"), "{call} with {body}: {}", reply.text);
        assert_eq!(reply.pointers(), [pointer], "{call} with {body}");
    }
    Stored::read(&mut app.sql().await).await.assert_same(&before, "fields given twice");
    // What is published may do so: the last one counts.
    let body = r#"{"type": "message.sent", "data": {"a": 1, "a": 2}}"#;
    let path = format!("/v1/locations/{}/events", tenant.location_id);
    let id = tenant.client.send(Method::POST, &path, Some(body.into())).await.expect(202)["id"].clone();
    let event = tenant.client.get(&format!("/v1/events/{}", id.as_str().unwrap())).await.expect(200);
    assert_eq!(event["data"], json!({"a": 2}));
    app.stop().await;
}
