//! How many, how fast, and who waits for whom.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::sync::Notify;

use crate::helpers::{Answer, Receiver, spawn};

#[tokio::test]
async fn starts_keep_the_rate_and_a_resume_does_too() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"rate_limit_per_s": 5})).await;
    tenant.tell(&endpoint, "pause").await;
    tenant.publish_batch("message.sent", 6).await;
    let resumed_at = Instant::now();
    tenant.tell(&endpoint, "resume").await;
    tenant.publish_batch("message.sent", 6).await;
    for (place, seen) in receiver.take(12).await.iter().enumerate() {
        let least = Duration::from_millis(200) * u32::try_from(place).unwrap();
        assert!(
            seen.at - resumed_at >= least,
            "request {place} came {:?} after the resume",
            seen.at - resumed_at
        );
    }
    app.stop().await;
}

#[tokio::test]
async fn no_more_at_once_than_the_endpoint_allows() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let gate = Arc::new(Notify::new());
    receiver.script("/hook", [Answer::status(200).behind(&gate)]);
    let tenant = app.tenant().await;
    tenant.endpoint(&receiver.url("/hook"), json!({"max_in_flight": 3})).await;
    tenant.publish_batch("message.sent", 10).await;
    receiver.take(3).await;
    for _ in 3..10 {
        gate.notify_one();
        receiver.next().await;
    }
    for _ in 0..3 {
        gate.notify_one();
    }
    app.stop().await;
    assert_eq!(receiver.most_at_once("/hook"), 3);
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn an_event_goes_to_every_endpoint_that_wants_it() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    for (path, patterns) in [
        ("/all", json!(["*"])),
        ("/prefix", json!(["message.*"])),
        ("/name", json!(["message.sent"])),
        ("/both", json!(["message.sent", "message.*"])),
        ("/other", json!(["contact.created"])),
    ] {
        tenant.endpoint(&receiver.url(path), json!({"event_types": patterns})).await;
    }
    let published = tenant.publish("message.sent", json!({})).await;
    assert_eq!(published["deliveries"].as_array().unwrap().len(), 4);
    let seen = receiver.take(4).await;
    let paths: HashSet<&str> = seen.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(paths, HashSet::from(["/all", "/prefix", "/name", "/both"]));
    assert!(seen.iter().all(|one| one.header("webhook-id") == published["id"] && one.body == seen[0].body));
    app.stop().await;
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn a_neighbour_that_hangs_with_thousands_waiting_delays_nobody() {
    let app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/slow", [Answer::never()]);
    let tenant = app.tenant().await;
    let fields = json!({"timeout_ms": 30_000, "retry_schedule_s": []});
    tenant.endpoint(&receiver.url("/slow"), fields).await;
    tenant.endpoint(&receiver.url("/fast"), json!({})).await;
    let mut wanted = HashSet::new();
    for _ in 0..2 {
        wanted.extend(tenant.publish_batch("message.sent", 1_000).await);
    }
    let mut slow = 0;
    while !wanted.is_empty() {
        let seen = receiver.next().await;
        if seen.path == "/slow" {
            slow += 1;
        } else {
            assert!(wanted.remove(seen.header("webhook-id")), "sent twice");
        }
    }
    assert!(slow <= 8, "no more than may be in flight: the first ones still hang");
    // It is left running: a clean stop would wait for what hangs.
}
