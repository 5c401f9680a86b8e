//! Publishing one event: what may be published where, and what is answered.

use serde_json::{Value, json};

use super::{array, text};
use crate::helpers::{Answer, Receiver, spawn};

#[tokio::test]
async fn the_answer_says_what_becomes_of_the_event() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(500)]);
    let url = &receiver.url("/hook");
    let tenant = app.tenant().await;
    let (one, two) = (tenant.endpoint(url, json!({})).await, tenant.endpoint(url, json!({})).await);
    tenant.endpoint(url, json!({"event_types": ["contact.created"]})).await;
    tenant.client.poke(&format!("/v1/endpoints/{}/pause", text(&two, "id"))).await.expect(200);

    let published = tenant.publish("message.sent", json!({"a": 1})).await;
    let fields: Vec<&String> = published.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["id", "type", "timestamp", "deliveries"]);
    assert!(text(&published, "id").starts_with("evt_"));
    assert_eq!(published["type"], "message.sent");
    let expected = json!([
        {"endpoint_id": one["id"], "status": "pending"},
        {"endpoint_id": two["id"], "status": "held"},
    ]);
    assert_eq!(published["deliveries"], expected);

    let event = tenant.client.get(&format!("/v1/events/{}", text(&published, "id"))).await.expect(200);
    for field in ["id", "type", "timestamp"] {
        assert_eq!(event[field], published[field]);
    }
    assert_eq!(event["location_id"], tenant.location_id.as_str());
    assert_eq!(event["live_mode"], true);
    assert_eq!(event["data"], json!({"a": 1}));
    let statuses: Vec<&str> = array(&event, "deliveries").iter().map(|one| text(one, "status")).collect();
    assert_eq!(statuses, ["pending", "held"]);
    app.stop().await;
}

#[tokio::test]
async fn an_event_that_nobody_wants_is_kept_and_locations_have_two_names() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let location = json!({"name": "Mumbai", "external_id": "mumbai-1"});
    let location = tenant.client.post("/v1/locations", location).await.expect(201);
    for name in [text(&location, "id"), "mumbai-1"] {
        let path = format!("/v1/locations/{name}/events");
        let body = json!({"type": "message.sent", "data": 1});
        let published = tenant.client.post(&path, body).await.expect(202);
        assert_eq!(published["deliveries"], json!([]));
        let event = tenant.client.get(&format!("/v1/events/{}", text(&published, "id"))).await.expect(200);
        assert_eq!(event["location_id"], location["id"]);
        assert_eq!(event["deliveries"], json!([]));
    }
    let list = tenant.client.get("/v1/locations/mumbai-1/events").await.expect(200);
    assert_eq!(array(&list, "data").len(), 2);
    for nowhere in ["mumbai-2", "loc_1", "evt_0193aaaa-0000-7000-8000-000000000000", "%00", "%F0%9F%98%80"] {
        let body = json!({"type": "message.sent", "data": 1});
        tenant.client.post(&format!("/v1/locations/{nowhere}/events"), body).await.problem(404);
    }
    app.stop().await;
}

#[tokio::test]
async fn it_happened_when_the_publisher_says_or_now() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    for (given, expected) in [
        ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00.000Z"),
        ("2026-11-20T10:00:00.5+05:30", "2026-11-20T04:30:00.500Z"),
        ("2026-11-20T10:00:00.123987654Z", "2026-11-20T10:00:00.123Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ] {
        let body = json!({"type": "message.sent", "data": {}, "timestamp": given});
        assert_eq!(tenant.try_publish(body).await.expect(202)["timestamp"], expected, "{given}");
    }
    let before = app.stored().await;
    for bad in [
        "",
        "now",
        "2026-11-20",
        "2026-11-20T10:00:00",
        "2026-02-30T10:00:00Z",
        "2026-11-20T25:00:00Z",
        "1969-12-31T23:59:59Z",
        "1795168800",
        "10000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "2026-11-20T10:00:00Z\0",
    ] {
        let body = json!({"type": "message.sent", "data": {}, "timestamp": bad});
        assert_eq!(tenant.try_publish(body).await.pointers(), ["/timestamp"], "{bad}");
    }
    assert_eq!(app.stored().await, before);
    let default = tenant.publish("message.sent", json!({})).await;
    let pattern = text(&default, "timestamp");
    assert_eq!(
        (pattern.len(), pattern.as_bytes()[23]),
        ("2026-11-20T10:00:00.000Z".len(), b'Z'),
        "{pattern}"
    );
    app.stop().await;
}

#[tokio::test]
async fn a_type_with_a_channel_goes_by_it() {
    let mut app = spawn().await;
    let tenant = app.tenant_with(json!({"preset": "messagesync"})).await;
    let channels = json!({"name": "Shop", "external_id": "shop", "channels": ["whatsapp"]});
    tenant.client.post("/v1/locations", channels).await.expect(201);
    let publish = async |location: &str, event_type: &str, channel: Value| {
        let mut body = json!({"type": event_type, "data": {}});
        if !channel.is_null() {
            body["channel"] = channel;
        }
        tenant.client.post(&format!("/v1/locations/{location}/events"), body).await
    };
    // (location, type, channel given, channel stored)
    for (location, event_type, given, stored) in [
        ("shop", "whatsapp.message.inbound", json!(null), json!("whatsapp")),
        ("shop", "whatsapp.message.outbound", json!("whatsapp"), json!("whatsapp")),
        ("default", "sms.message.inbound", json!(null), json!("sms")),
        ("shop", "message.failed", json!(null), json!(null)),
        ("shop", "message.failed", json!("sms"), json!("sms")),
    ] {
        let published = publish(location, event_type, given).await.expect(202);
        let event = tenant.client.get(&format!("/v1/events/{}", text(&published, "id"))).await.expect(200);
        assert_eq!(event["channel"], stored, "{event_type}");
    }
    let before = app.stored().await;
    let mismatch = publish("shop", "whatsapp.message.inbound", json!("sms")).await;
    assert_eq!(mismatch.pointers(), ["/channel"]);
    assert_eq!(publish("shop", "message.failed", json!("fax")).await.pointers(), ["/channel"]);
    publish("shop", "sms.message.inbound", json!(null)).await.problem(409);
    publish("shop", "imessage.message.outbound", json!("imessage")).await.problem(409);
    assert_eq!(app.stored().await, before);
    app.stop().await;
}

#[tokio::test]
async fn only_known_types_but_for_tenants_that_allow_others() {
    let mut app = spawn().await;
    let strict = app.tenant().await;
    let open = app.tenant_with(json!({"allow_unknown_event_types": true})).await;
    let attempt = |name: &str| json!({"type": name, "data": {}});
    for unknown in ["message.sen", "message", "order.paid", "whatsapp.message.inbound", "Message.sent"] {
        assert_eq!(strict.try_publish(attempt(unknown)).await.pointers(), ["/type"], "{unknown}");
        assert_eq!(open.try_publish(attempt(unknown)).await.expect(202)["type"], unknown);
    }
    let longest = "a".repeat(129);
    for never in [
        "",
        "message.*",
        "*",
        "a..b",
        ".a",
        "a.",
        "a b",
        "a-b",
        "ü",
        "a\0",
        &longest,
        "posthaste.test",
        "posthaste.endpoint.disabled",
    ] {
        assert_eq!(strict.try_publish(attempt(never)).await.pointers(), ["/type"], "{never:?}");
        assert_eq!(open.try_publish(attempt(never)).await.pointers(), ["/type"], "{never:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn every_field_has_its_limits() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let tags = |count: usize| {
        let pairs = (0..count).map(|at| (format!("tag{at}"), json!("v")));
        Value::Object(pairs.collect())
    };
    let good = json!({
        "type": "message.sent", "data": {}, "tags": tags(16), "live_mode": false, "api_version": "2026-02-04",
        "channel": "sms",
    });
    let published = tenant.try_publish(good.clone()).await.expect(202);
    let event = tenant.client.get(&format!("/v1/events/{}", text(&published, "id"))).await.expect(200);
    for field in ["tags", "live_mode", "api_version", "channel"] {
        assert_eq!(event[field], good[field]);
    }

    let before = app.stored().await;
    for (field, value, pointer) in [
        ("tags", tags(17), "/tags"),
        ("tags", json!({"": "v"}), "/tags"),
        ("tags", json!({"k".repeat(65): "v"}), "/tags"),
        ("tags", json!({"k": "v".repeat(257)}), "/tags"),
        ("tags", json!({"k": "a\u{0}b"}), "/tags"),
        ("tags", json!({"k": 1}), "/tags/k"),
        ("tags", json!({"k": null}), "/tags/k"),
        ("tags", json!(["k"]), "/tags"),
        ("live_mode", json!("true"), "/live_mode"),
        ("api_version", json!(""), "/api_version"),
        ("api_version", json!("a b"), "/api_version"),
        ("api_version", json!("1".repeat(65)), "/api_version"),
        ("api_version", json!(1), "/api_version"),
        ("channel", json!("fax"), "/channel"),
        ("type", json!(null), "/type"),
        ("type", json!(["message.sent"]), "/type"),
        ("timestamp", json!(1795168800), "/timestamp"),
        ("id", json!("evt_mine"), "/id"),
        ("event_type", json!("message.sent"), "/event_type"),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        assert_eq!(tenant.try_publish(body).await.pointers(), [pointer], "{field}: {value}");
    }
    for missing in ["type", "data"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(missing);
        assert_eq!(tenant.try_publish(body).await.pointers(), [format!("/{missing}")]);
    }
    let several = json!({"type": "a b", "data": {}, "timestamp": "x", "channel": "y"});
    assert_eq!(tenant.try_publish(several).await.pointers(), ["/type", "/timestamp", "/channel"]);
    assert_eq!(app.stored().await, before, "nothing of what was refused is stored");
    app.stop().await;
}

#[tokio::test]
async fn a_format_that_needs_an_object_refuses_all_else() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant_with(json!({"preset": "whatsable"})).await;
    let attempt = |data: Value| json!({"type": "message.incoming", "data": data});
    tenant.try_publish(attempt(json!([1]))).await.expect(202);
    tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let before = app.stored().await;
    for data in [json!([1]), json!("text"), json!(1), json!(null), json!(true)] {
        assert_eq!(tenant.try_publish(attempt(data)).await.pointers(), ["/data"]);
    }
    assert_eq!(app.stored().await, before);
    tenant.try_publish(attempt(json!({"b": 1, "a": [2]}))).await.expect(202);
    assert_eq!(receiver.next().await.body, r#"{"b":1,"a":[2]}"#);
    app.stop().await;
}
