//! Statistics of an endpoint.

use serde_json::{Value, json};

use super::{array, text};
use crate::helpers::{
    Answer, Receiver,
    client::Client,
    spawn,
    sql::{Sql, UNTRUE_STATS},
};

const HOUR_MS: i64 = 3_600_000;

/// Total, succeeded, failed, canceled and pending, which the buckets add up to.
fn numbers(stats: &Value) -> [i64; 5] {
    let of = |value: &Value| {
        ["total", "succeeded", "failed", "canceled", "pending"].map(|name| value[name].as_i64().unwrap())
    };
    let mut sums = [0; 5];
    for bucket in array(stats, "buckets") {
        sums.iter_mut().zip(of(bucket)).for_each(|(sum, count)| *sum += count);
    }
    assert_eq!(of(stats), sums, "the buckets add up");
    sums
}

async fn stats(client: &Client, endpoint: &Value, query: &str) -> Value {
    client.get(&format!("/v1/endpoints/{}/stats?{query}", text(endpoint, "id"))).await.expect(200)
}

#[tokio::test]
async fn a_delivery_is_counted_where_it_is() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let answers = [500, 200, 200, 500, 200, 500].map(Answer::status);
    receiver.script("/hook", answers);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": []})).await;
    let mut sql = Sql::open(&app.database).await;
    let none = stats(&tenant.client, &endpoint, "").await;
    assert_eq!(numbers(&none), [0; 5]);
    assert_eq!(
        (&none["success_rate"], &none["latency_ms"]),
        (&Value::Null, &json!({"p50": null, "p95": null}))
    );

    let one = tenant.publish("message.sent", json!({})).await;
    tenant.delivery_when(&one, &endpoint, |one| one["status"] == "failed").await;
    let failed = stats(&tenant.client, &endpoint, "").await;
    assert_eq!((numbers(&failed), &failed["success_rate"]), ([1, 0, 1, 0, 0], &json!(0.0)));
    tenant.tell_delivery(&one, &endpoint, "retry").await.expect(202);
    tenant.delivery_when(&one, &endpoint, |one| one["status"] == "succeeded").await;
    let two = tenant.publish("message.sent", json!({})).await;
    tenant.delivery_when(&two, &endpoint, |one| one["status"] == "succeeded").await;
    let three = tenant.publish("message.sent", json!({})).await;
    tenant.delivery_when(&three, &endpoint, |one| one["status"] == "failed").await;
    let some = stats(&tenant.client, &endpoint, "").await;
    assert_eq!(numbers(&some), [3, 2, 1, 0, 0]);
    assert!((some["success_rate"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    assert!(some["latency_ms"]["p50"].as_i64().unwrap() >= 1 && some["latency_ms"]["p95"].is_number());

    // A test counts for nothing.
    let test = format!("/v1/endpoints/{}/test", text(&endpoint, "id"));
    tenant.client.poke(&test).await.expect(200);
    assert_eq!(numbers(&stats(&tenant.client, &endpoint, "").await), [3, 2, 1, 0, 0]);
    // What has ended and starts again waits, until it ends again.
    tenant.tell(&endpoint, "pause").await;
    for event in [&two, &three] {
        tenant.tell_delivery(event, &endpoint, "retry").await.expect(202);
    }
    let four = tenant.publish("message.sent", json!({})).await;
    for bucket in ["hour", "day"] {
        let held = stats(&tenant.client, &endpoint, &format!("bucket={bucket}")).await;
        assert_eq!(numbers(&held), [4, 1, 0, 0, 3], "{bucket}");
    }
    tenant.tell_delivery(&four, &endpoint, "cancel").await.expect(200);
    tenant.tell_delivery(&three, &endpoint, "cancel").await.expect(200);
    assert_eq!(numbers(&stats(&tenant.client, &endpoint, "").await), [4, 1, 0, 2, 1]);
    assert_eq!(sql.count(UNTRUE_STATS).await, 0);
    tenant.tell_delivery(&three, &endpoint, "retry").await.expect(202);
    assert_eq!(numbers(&stats(&tenant.client, &endpoint, "").await), [4, 1, 0, 1, 2]);
    tenant.tell(&endpoint, "resume").await;
    let ended = |one: &Value| one["status"] == "failed" || one["status"] == "succeeded";
    for event in [&two, &three] {
        tenant.delivery_when(event, &endpoint, ended).await;
    }
    let [total, succeeded, failed, canceled, pending] = numbers(&stats(&tenant.client, &endpoint, "").await);
    assert_eq!((total, succeeded + failed, canceled, pending), (4, 3, 1, 0));
    assert_eq!(sql.count(UNTRUE_STATS).await, 0);
    let another = tenant.endpoint(&receiver.url("/x"), json!({})).await;
    assert_eq!(numbers(&stats(&tenant.client, &another, "").await), [0; 5]);
    app.stop().await;
}

/// RFC 3339 of a number of hours since 1970.
fn hour(number: i64) -> String {
    posthaste::types::Timestamp::from_unix_us(number * HOUR_MS * 1_000).to_string()
}

#[tokio::test]
async fn every_bucket_is_there_and_says_what_was_counted_in_it() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let mut sql = Sql::open(&app.database).await;
    let now = sql.count("SELECT extract(epoch FROM now())::bigint / 3600").await;
    // Histograms: 1 ms, and (9th) up to 4 ms; then 4 ms alone.
    for (ago, counts, latency) in
        [(1, "60, 20, 3", "{50,0,0,0,0,0,0,0,10}"), (3, "5, 0, 0", "{0,0,0,0,0,0,0,0,5}")]
    {
        sql.run(&format!(
            "INSERT INTO endpoint_stats (shard, endpoint_id, hour, succeeded, failed, canceled, latency)
             SELECT e.shard, e.id, (lpad(to_hex({}), 12, '0') || repeat('0', 20))::uuid, {counts}, '{latency}' FROM endpoints e",
            (now - ago) * HOUR_MS
        ))
        .await;
    }
    let by_hour =
        stats(&tenant.client, &endpoint, &format!("since={}&until={}", hour(now - 5), hour(now))).await;
    assert_eq!(numbers(&by_hour), [88, 65, 20, 3, 0]);
    assert_eq!((text(&by_hour, "since"), text(&by_hour, "until")), (&*hour(now - 5), &*hour(now)));
    assert_eq!(by_hour["latency_ms"], json!({"p50": 1, "p95": 4}));
    assert!((by_hour["success_rate"].as_f64().unwrap() - 65.0 / 85.0).abs() < 1e-9);
    let buckets = array(&by_hour, "buckets");
    let starts: Vec<String> = (1..=5).rev().map(|ago| hour(now - ago)).collect();
    assert_eq!(buckets.iter().map(|bucket| text(bucket, "start")).collect::<Vec<_>>(), starts);
    assert_eq!(
        buckets.iter().map(|bucket| bucket["total"].as_i64().unwrap()).collect::<Vec<_>>(),
        [0, 0, 5, 0, 83]
    );
    assert_eq!(
        (&buckets[2]["latency_ms"], &buckets[0]["latency_ms"]),
        (&json!({"p50": 4, "p95": 4}), &json!({"p50": null, "p95": null}))
    );
    assert_eq!((&buckets[4]["success_rate"], &buckets[0]["success_rate"]), (&json!(0.75), &Value::Null));

    // Times within an hour mean the whole hour.
    let (in_third, in_last) =
        (hour(now - 3).replace("00:00.000", "59:59.999"), hour(now - 1).replace("00:00.000", "00:00.001"));
    let within = stats(&tenant.client, &endpoint, &format!("since={in_third}&until={in_last}")).await;
    assert_eq!((array(&within, "buckets").len(), numbers(&within)[0]), (3, 88));
    let until = stats(&tenant.client, &endpoint, &format!("until={}", hour(now - 1))).await;
    assert_eq!((array(&until, "buckets").len(), numbers(&until)[0]), (24, 5));
    let default = stats(&tenant.client, &endpoint, "").await;
    assert_eq!(
        (array(&default, "buckets").len(), numbers(&default)[0], text(&default, "bucket")),
        (24, 88, "hour")
    );
    let nothing = stats(&tenant.client, &endpoint, &format!("since={0}&until={0}", hour(now - 1))).await;
    assert_eq!((array(&nothing, "buckets").len(), numbers(&nothing)), (0, [0; 5]));

    let by_day = stats(&tenant.client, &endpoint, "bucket=day").await;
    assert_eq!((array(&by_day, "buckets").len(), text(&by_day, "bucket")), (30, "day"));
    assert_eq!(numbers(&by_day), [88, 65, 20, 3, 0]);
    assert!(array(&by_day, "buckets").iter().all(|bucket| text(bucket, "start").ends_with("T00:00:00.000Z")));
    let longest =
        stats(&tenant.client, &endpoint, &format!("bucket=day&since={}", hour((now / 24 - 91) * 24))).await;
    assert_eq!(array(&longest, "buckets").len(), 92);
    app.stop().await;
}

#[tokio::test]
async fn a_parameter_that_is_wrong_is_named() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint("https://e.example.com/", json!({})).await;
    let path = format!("/v1/endpoints/{}/stats", text(&endpoint, "id"));
    for (query, named) in [
        ("bucket=", "bucket"),
        ("bucket=week", "bucket"),
        ("bucket=hour&bucket=day", "bucket"),
        ("since=x", "since"),
        ("until=2026-11-20", "until"),
        ("since=9998-01-01T00:00:00Z", "since"),
        ("since=2026-10-02T00:00:00Z&until=2026-10-01T00:00:00Z", "since"),
        ("since=2026-09-01T00:00:00Z&until=2026-10-02T01:00:00Z", "31 days"),
        ("bucket=day&since=1970-01-01T00:00:00Z&until=9999-12-31T00:00:00Z", "92 days"),
        ("limit=1", "limit"),
    ] {
        let problem = tenant.client.get(&format!("{path}?{query}")).await.problem(400);
        assert!(text(&problem, "detail").contains(named), "{query}: {problem}");
    }
    tenant
        .client
        .get(&format!("{path}?since=2026-09-01T00:00:00Z&until=2026-10-02T00:00:00Z"))
        .await
        .expect(200);
    app.stop().await;
}
