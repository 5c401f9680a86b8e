//! `data` reaches the receiver as `JSON.stringify(JSON.parse(data))` would write it, or is refused.

use std::collections::HashMap;

use serde_json::json;

use super::text;
use crate::helpers::{Receiver, spawn};

const DATA_MAX_BYTES: usize = 256 * 1024;

/// What Node.js makes of these.
const NORMALISED: [(&str, &str); 28] = [
    ("null", "null"),
    ("true", "true"),
    ("false", "false"),
    ("-0", "0"),
    (r#""""#, r#""""#),
    ("[]", "[]"),
    ("{}", "{}"),
    (" [ 1 ,\t2 ]\n", "[1,2]"),
    ("1.0", "1"),
    ("1e3", "1000"),
    ("1E-7", "1e-7"),
    ("0.000001", "0.000001"),
    ("1e21", "1e+21"),
    ("1e20", "100000000000000000000"),
    ("9007199254740991", "9007199254740991"),
    ("-9007199254740992", "-9007199254740992"),
    ("0.1", "0.1"),
    ("5e-324", "5e-324"),
    ("1.7976931348623157e308", "1.7976931348623157e+308"),
    (r#"{"b":1,"a":2,"10":3,"2":4,"01":5,"-1":6}"#, r#"{"2":4,"10":3,"b":1,"a":2,"01":5,"-1":6}"#),
    (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
    (r#"{"4294967294":1,"4294967295":2,"0":3}"#, r#"{"0":3,"4294967294":1,"4294967295":2}"#),
    (r#""\u00e9\u0041\/""#, r#""éA/""#),
    (r#"{"nul\u0000":"a\u0000b"}"#, r#"{"nul\u0000":"a\u0000b"}"#),
    (r#""\ud83d\ude00""#, r#""😀""#),
    (r#""\u001f\b\f\n\r\t\"\\""#, r#""\u001f\b\f\n\r\t\"\\""#),
    ("\"grüß \u{2028} 😀\"", "\"grüß \u{2028} 😀\""),
    (
        r#"{"__proto__":1,"":2,"toString":[[{"x":null}]]}"#,
        r#"{"__proto__":1,"":2,"toString":[[{"x":null}]]}"#,
    ),
];

#[tokio::test]
async fn data_is_normalised_once_and_every_byte_of_it_arrives() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let mut expected = HashMap::new();
    for (raw, normal) in NORMALISED {
        let published = tenant.publish_raw(raw).await.expect(202);
        let id = text(&published, "id").to_owned();
        let read = tenant.client.get(&format!("/v1/events/{id}")).await;
        assert_eq!(read.status, 200);
        assert!(read.text.contains(&format!(r#","data":{normal},"deliveries":["#)), "{raw}: {}", read.text);
        let (location, at) = (&tenant.location_id, text(&published, "timestamp"));
        let body = format!(
            r#"{{"id":"{id}","type":"message.incoming","timestamp":"{at}","location_id":"{location}","data":{normal}}}"#
        );
        expected.insert(id, body);
    }
    for seen in receiver.take(NORMALISED.len()).await {
        let id = seen.header("webhook-id").to_owned();
        assert_eq!(std::str::from_utf8(&seen.body).unwrap(), expected.remove(&id).unwrap());
    }
    app.stop().await;
}

#[tokio::test]
async fn what_a_double_or_utf8_would_lose_is_refused_where_it_is() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let deep = format!("{}1{}", "[".repeat(129), "]".repeat(129));
    let deep_pointer = format!("/data{}", "/0".repeat(128));
    for (raw, pointer) in [
        ("9007199254740993", "/data"),
        ("[1,{\"id\":123456789012345678}]", "/data/1/id"),
        ("-9007199254740993", "/data"),
        ("{\"a/b~c\":[18446744073709551615]}", "/data/a~1b~0c/0"),
        ("1e309", "/data"),
        (r#""\ud800""#, "/data"),
        (r#"{"a":["x","\udc00\ud800"]}"#, "/data/a/1"),
        (r#"{"a":1,"a":{"b":"\ud83d!"}}"#, "/data/a/b"),
        (&deep, &deep_pointer),
    ] {
        let pointers = tenant.publish_raw(raw).await.pointers();
        assert_eq!(pointers, [pointer], "{raw}");
    }
    for raw in ["", "{", "nul", "01", "+1", ".5", "'a'", "[1,]", "{\"a\":1,}", "NaN", "\"\t\"", "1 2"] {
        tenant.publish_raw(raw).await.problem(400);
    }
    assert_eq!(app.stored().await, (0, 0, 0));
    // The same numbers as texts are fine.
    tenant.publish_raw(r#"{"id":"123456789012345678"}"#).await.expect(202);
    app.stop().await;
}

#[tokio::test]
async fn data_has_a_size_before_and_after() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let quoted = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let largest = quoted(DATA_MAX_BYTES);
    tenant.publish_raw(&largest).await.expect(202);
    let seen = receiver.next().await;
    assert!(seen.body.ends_with(format!("\"data\":{largest}}}").as_bytes()));

    let (before, ..) = app.stored().await;
    assert_eq!(tenant.publish_raw(&quoted(DATA_MAX_BYTES + 1)).await.pointers(), ["/data"]);
    // 5 bytes each become 22.
    let grows = format!("[{}1]", "1e20,".repeat(DATA_MAX_BYTES / 22 + 1));
    assert!(grows.len() < DATA_MAX_BYTES / 4);
    let pointer = &tenant.publish_raw(&grows).await.pointers()[0];
    assert!(pointer.starts_with("/data"), "{pointer}");
    let spaced = format!("1{}", " ".repeat(DATA_MAX_BYTES));
    let spaced = tenant.publish_raw(&format!("[{spaced}]")).await;
    assert_eq!(spaced.pointers(), ["/data"]);
    let problem = tenant.publish_raw(&quoted(1024 * 1024)).await.problem(413);
    assert!(text(&problem, "detail").contains("1048576"), "{problem}");
    assert_eq!(app.stored().await.0, before);
    app.stop().await;
}
