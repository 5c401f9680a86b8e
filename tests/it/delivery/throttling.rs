//! Receivers that hang or fail for long: what they may take from others, and what becomes of their own deliveries.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use posthaste::{app::Roles, types::Timestamp};
use serde_json::{Value, json};

use crate::helpers::{
    Answer, Receiver,
    app::{Tenant, settings, start},
    cluster::fresh_database,
    spawn,
    sql::Sql,
};

/// Every failure is retried a second later, more often than it fails here.
const LADDER_S: [u32; 15] = [1; 15];

#[tokio::test]
async fn a_tenant_whose_endpoints_all_hang_delays_no_other() {
    const ENDPOINTS: usize = 64;
    // More than half of the slots: 64 times 8 would take them all.
    const HANGING: usize = 300;
    let app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.decide(|seen| seen.path.starts_with("/hang/").then(Answer::never));
    let (bad, good) = (app.tenant().await, app.tenant().await);
    for number in 0..ENDPOINTS {
        let url = receiver.url(&format!("/hang/{number}"));
        bad.endpoint(&url, json!({"timeout_ms": 30_000, "retry_schedule_s": []})).await;
    }
    good.endpoint(&receiver.url("/good"), json!({})).await;
    bad.publish_batch("message.sent", 100).await;
    let mut hanging = receiver.take(HANGING).await.len();
    let mut wanted: HashSet<String> = good.publish_batch("message.sent", 500).await.into_iter().collect();
    while !wanted.is_empty() {
        let seen = receiver.next().await;
        if seen.path == "/good" {
            assert!(wanted.remove(seen.header("webhook-id")), "sent twice");
        } else {
            hanging += 1;
        }
    }
    assert_eq!(receiver.under_way("/hang/"), hanging, "nobody has waited for one of them to end");
    // It is left running: a clean stop would wait for what hangs.
}

/// An endpoint that has failed until its breaker opened, with deliveries waiting, on a path that fails until `healed`.
async fn throttled(tenant: &Tenant, receiver: &Receiver, healed: &Arc<AtomicBool>) -> (Vec<String>, Value) {
    let is_healed = Arc::clone(healed);
    receiver.decide(move |seen| {
        let fails = seen.path == "/bad" && !is_healed.load(Ordering::SeqCst);
        fails.then(|| Answer::status(503))
    });
    let fields = json!({"retry_schedule_s": LADDER_S, "max_in_flight": 4});
    let endpoint = tenant.endpoint(&receiver.url("/bad"), fields).await;
    let events = tenant.publish_batch("message.sent", 20).await;
    let throttled = tenant.endpoint_when(&endpoint, |endpoint| endpoint["throttled_until"].is_string()).await;
    (events, throttled)
}

async fn all_succeed(tenant: &Tenant, endpoint: &Value, events: &[String]) {
    for event in events {
        let event = json!({"id": event});
        tenant.delivery_when(&event, endpoint, |delivery| delivery["status"] == "succeeded").await;
    }
    tenant
        .endpoint_when(endpoint, |endpoint| {
            endpoint["throttled_until"].is_null() && endpoint["pending_count"] == 0
        })
        .await;
}

#[tokio::test]
async fn an_endpoint_that_fails_is_throttled_and_when_it_heals_everything_arrives() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let healed = Arc::default();
    let (events, endpoint) = throttled(&tenant, &receiver, &healed).await;
    assert_eq!(endpoint["status"], "active", "no delivery is given up");
    let until = Timestamp::parse(endpoint["throttled_until"].as_str().unwrap()).unwrap();
    let event = json!({"id": events[19]});
    let waiting = tenant.delivery_when(&event, &endpoint, |delivery| delivery["status"] == "pending").await;
    let next = Timestamp::parse(waiting["next_attempt_at"].as_str().unwrap()).unwrap();
    assert!(next >= until, "a delivery that waits says why: {next} and {until}");
    // A probe fails, and the next one waits for longer.
    let is_later = |endpoint: &Value| {
        endpoint["throttled_until"].as_str().is_some_and(|text| Timestamp::parse(text).unwrap() > until)
    };
    tenant.endpoint_when(&endpoint, is_later).await;
    healed.store(true, Ordering::SeqCst);
    all_succeed(&tenant, &endpoint, &events).await;
    let mut sql = Sql::open(&app.database).await;
    let early = "SELECT count(*) FROM (
            SELECT at - lag(at + duration_ms * interval '1 ms') OVER (PARTITION BY event_id ORDER BY number) AS gap FROM attempts
        ) a WHERE gap < interval '1 second'";
    assert_eq!(sql.count(early).await, 0, "no retry is early");
    app.stop().await;
}

#[tokio::test]
async fn another_url_and_a_resume_end_the_throttling() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let healed = Arc::default();
    let (events, endpoint) = throttled(&tenant, &receiver, &healed).await;
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    let renamed = tenant.client.patch(&path, json!({"name": "other"})).await.expect(200);
    assert!(renamed["throttled_until"].is_string(), "a change of something else does not");
    let moved = tenant.client.patch(&path, json!({"url": receiver.url("/good")})).await.expect(200);
    assert_eq!(moved["throttled_until"], Value::Null);
    all_succeed(&tenant, &endpoint, &events).await;

    // And once more, by a resume.
    tenant.client.patch(&path, json!({"url": receiver.url("/bad")})).await.expect(200);
    let events = tenant.publish_batch("message.sent", 20).await;
    tenant.endpoint_when(&endpoint, |endpoint| endpoint["throttled_until"].is_string()).await;
    healed.store(true, Ordering::SeqCst);
    assert_eq!(tenant.tell(&endpoint, "resume").await["throttled_until"], Value::Null);
    all_succeed(&tenant, &endpoint, &events).await;
    app.stop().await;
}

#[tokio::test]
async fn a_new_owner_knows_who_is_throttled_and_keeps_the_rate() {
    let worker = Roles { api: false, worker: true };
    let (database, _) = fresh_database().await;
    let mut api = start(settings(&database, &[]), database, Roles { api: true, worker: false }).await;
    let mut first = api.another(worker).await;
    let mut receiver = Receiver::start().await;
    let tenant = api.tenant().await;
    let healed = Arc::default();
    let (events, bad) = throttled(&tenant, &receiver, &healed).await;
    let fields = json!({"rate_limit_per_s": 1, "event_types": ["contact.*"]});
    let rated = tenant.endpoint(&receiver.url("/rated"), fields).await;
    let rated_events = tenant.publish_batch("contact.created", 4).await;
    while receiver.next().await.path != "/rated" {}
    first.stop().await;
    let told = tenant.endpoint_when(&bad, |_| true).await;
    assert!(told["throttled_until"].is_string(), "what was found out is kept");

    healed.store(true, Ordering::SeqCst);
    let mut second = api.another(worker).await;
    all_succeed(&tenant, &bad, &events).await;
    for event in rated_events {
        let event = json!({"id": event});
        tenant.delivery_when(&event, &rated, |delivery| delivery["status"] == "succeeded").await;
    }
    // As the starts were noted, but for what the two clocks differ by.
    let mut sql = Sql::open(&api.database).await;
    let uuid = rated["id"].as_str().unwrap().strip_prefix("ep_").unwrap().to_owned();
    let close = format!(
        "SELECT count(*) FROM (SELECT at - lag(at) OVER (ORDER BY at) AS gap FROM attempts WHERE endpoint_id = '{uuid}') a
         WHERE gap < interval '950 ms'"
    );
    assert_eq!(sql.count(&close).await, 0);
    second.stop().await;
    api.stop().await;
}
