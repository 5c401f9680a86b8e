//! How the API treats its callers: browsers, slow lines, loops that run away.

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::helpers::{client::PATIENCE, spawn, spawn_with};

#[tokio::test]
async fn a_caller_that_sends_no_whole_head_is_hung_up_on() {
    const WHOLE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n";
    let mut app = spawn().await;
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let silent_http2 = [preface, settings].concat();
    let again = [WHOLE, b"GET /healthz HTT"].concat();
    let sent: [&[u8]; 6] = [b"", b"GET /v1/me HTTP/1.1\r\nHo", b"PRI * HT", &silent_http2, WHOLE, &again];
    let mut callers = Vec::new();
    for part in sent {
        let mut caller = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap();
        caller.write_all(part).await.unwrap();
        callers.push((caller, part));
    }
    for (mut caller, part) in callers {
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, caller.read_to_end(&mut answer)).await;
        let part = String::from_utf8_lossy(part);
        assert!(read.is_ok(), "still open after {part:?}");
        let is_answered = answer.starts_with(b"HTTP/1.1 200 OK");
        assert_eq!(is_answered, part.starts_with("GET /healthz HTTP/1.1"), "{part:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_browser_may_call_from_the_origins_that_are_allowed() {
    let mut app = spawn_with(&["--cors-origins", "https://dash.example.com"]).await;
    for (origin, allowed) in [("https://dash.example.com", true), ("https://evil.example.com", false)] {
        let asking = app
            .anonymous()
            .with("origin", origin)
            .with("access-control-request-method", "PATCH")
            .with("access-control-request-headers", "authorization,if-match");
        let preflight = asking.send(Method::OPTIONS, "/v1/endpoints", None).await;
        assert_eq!(preflight.status, 200);
        let told = preflight.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
        assert_eq!(told, allowed.then_some(origin));
        // An error can be read from a page as well.
        let refused = app.anonymous().with("origin", origin).get("/v1/me").await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.headers.contains_key("access-control-allow-origin"), allowed);
    }
    app.stop().await;
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_take_it() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let large = tenant.client.with("accept-encoding", "gzip").get("/v1/presets/standard").await;
    // The client doesn't decode: what it shows is what came.
    assert_eq!(large.headers["content-encoding"], "gzip");
    let plain = tenant.client.get("/v1/presets/standard").await;
    assert!(!plain.headers.contains_key("content-encoding"));
    let small = tenant.client.with("accept-encoding", "gzip").get("/v1/me").await;
    assert!(!small.headers.contains_key("content-encoding"));
    app.stop().await;
}

#[tokio::test]
async fn one_key_that_asks_too_often_waits_and_nobody_else_does() {
    let mut app = spawn_with(&["--rate-limit-per-s", "10"]).await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let mut refused = None;
    for _ in 0..200 {
        let reply = tenant.client.get("/v1/me").await;
        assert!(reply.headers.contains_key("ratelimit") && reply.headers.contains_key("ratelimit-policy"));
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("two hundred at once are more than ten a second");
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    refused.problem(429);
    other.client.get("/v1/me").await.expect(200);
    // Publishing is not counted.
    for n in 0..30 {
        tenant.publish("message.incoming", json!(n)).await;
    }
    app.stop().await;
}
