//! Bodies on their way in: compressed ones, and more of them than there is room for.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use reqwest::Method;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::text;
use crate::helpers::{Receiver, TestApp, client::Reply, spawn};

const EVENTS: &str = "/v1/locations/default/events";
/// What of one tenant may be in memory, and what one body may say to have.
const ROOM_MIB: usize = 16;
const BODY_MIB: usize = 1;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn send(client: &crate::helpers::client::Client, encoding: &str, path: &str, body: Vec<u8>) -> Reply {
    client.with("content-encoding", encoding).send_bytes(Method::POST, path, Some(body)).await
}

#[tokio::test]
async fn a_compressed_body_is_what_it_holds() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = json!({"name": "zipped", "url": receiver.url("/hook"), "event_types": ["message.sent"]});
    send(&tenant.client, "gzip", "/v1/endpoints", gzip(endpoint.to_string().as_bytes())).await.expect(201);

    let data = "ü".repeat(50_000);
    let event =
        json!({"type": "message.sent", "data": {"text": data}, "idempotency_key": "once"}).to_string();
    let first = send(&tenant.client, "gzip", EVENTS, gzip(event.as_bytes())).await.expect(202);
    let plain = tenant.client.send(Method::POST, EVENTS, Some(event.clone())).await.expect(202);
    assert_eq!(first, plain, "the same request, packed or not");
    let batch =
        format!(r#"{{"events":[{}]}}"#, json!({"location_id": "default", "type": "message.sent", "data": 1}));
    send(&tenant.client, "gzip", "/v1/events/batch", gzip(batch.as_bytes())).await.expect(202);

    let received = receiver.next().await;
    assert_eq!(received.json()["data"]["text"], data.as_str());
    app.stop().await;
}

#[tokio::test]
async fn what_can_not_be_unpacked_is_refused_and_changes_nothing() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let event = json!({"type": "message.sent", "data": 1}).to_string();
    let before = app.stored().await;
    let zipped = gzip(event.as_bytes());
    let half = zipped[..zipped.len() / 2].to_vec();
    for broken in [event.clone().into_bytes(), half, Vec::new()] {
        send(&tenant.client, "gzip", EVENTS, broken).await.problem(400);
    }
    for unknown in ["deflate", "br", "zstd", "gzip, gzip", "x"] {
        let problem = send(&tenant.client, unknown, EVENTS, event.clone().into_bytes()).await.problem(415);
        assert!(text(&problem, "detail").contains("gzip"), "{problem}");
    }
    // A few kilobytes that hold 32 MiB.
    let bomb = gzip(&vec![b' '; 32 * 1024 * 1024]);
    assert!(bomb.len() < 100_000);
    for path in [EVENTS, "/v1/events/batch", "/v1/endpoints"] {
        send(&tenant.client, "gzip", path, bomb.clone()).await.problem(413);
    }
    assert_eq!(app.stored().await, before);
    app.stop().await;
}

/// A publish that says how long it is, and stops in the middle.
async fn stalled(app: &TestApp, key: &str) -> TcpStream {
    let address = app.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {EVENTS} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{{",
        BODY_MIB * 1024 * 1024
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn publishes_beyond_what_there_is_room_for_are_told_to_come_again() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let mut full = Vec::new();
    for _ in 0..ROOM_MIB / BODY_MIB {
        full.push(stalled(&app, &tenant.key).await);
    }
    let publish = async || tenant.client.post(EVENTS, json!({"type": "message.sent", "data": 1})).await;
    // Until the last of them has been let in.
    let refused = loop {
        let reply = publish().await;
        if reply.status != 202 {
            break reply;
        }
    };
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.problem(503)["type"], "urn:posthaste:problem:overloaded");
    assert_eq!(tenant.client.get("/v1/endpoints").await.status, 200, "everything else goes on");
    let other = app.tenant().await;
    other.publish("message.sent", json!(1)).await;
    full.clear();
    while publish().await.status != 202 {}
    app.stop().await;
}
