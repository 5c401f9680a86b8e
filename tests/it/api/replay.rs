//! Replay: one event again, to those that it was sent to or to others of its location.

use serde_json::{Value, json};

use super::{array, text};
use crate::helpers::{
    Answer, Receiver, Stored,
    app::Tenant,
    spawn,
    sql::{Sql, UNTRUE_STATS},
};

async fn replay(tenant: &Tenant, event: &Value, body: Value) -> Value {
    let path = format!("/v1/events/{}/replay", text(event, "id"));
    let job = tenant.client.post(&path, body).await.expect(202);
    tenant.job_ended(&job).await
}

async fn attempts_when(tenant: &Tenant, event: &Value, endpoint: &Value, count: u64) -> Value {
    tenant
        .delivery_when(event, endpoint, |one| one["attempt_count"] == count && one["status"] != "pending")
        .await
}

#[tokio::test]
async fn an_event_is_sent_again_to_those_that_it_was_sent_to() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/b", [500, 200].map(Answer::status));
    let tenant = app.tenant().await;
    let fields = json!({"retry_schedule_s": []});
    let a = tenant.endpoint(&receiver.url("/a"), fields.clone()).await;
    let b = tenant.endpoint(&receiver.url("/b"), fields.clone()).await;
    let held = tenant.endpoint(&receiver.url("/held"), fields.clone()).await;
    tenant.tell(&held, "pause").await;
    tenant.endpoint(&receiver.url("/other"), json!({"event_types": ["contact.*"]})).await;
    let event = tenant.publish("message.sent", json!({"a": 1})).await;
    attempts_when(&tenant, &event, &a, 1).await;
    assert_eq!(attempts_when(&tenant, &event, &b, 1).await["status"], "failed");
    let first = receiver.take(2).await;

    let job = replay(&tenant, &event, json!({})).await;
    for (field, value) in [
        ("kind", json!("replay")),
        ("status", json!("succeeded")),
        ("total", json!(2)),
        ("done", json!(2)),
        ("event_id", event["id"].clone()),
        ("endpoint_id", Value::Null),
    ] {
        assert_eq!(job[field], value, "{field}: what is held is pending, and left alone");
    }
    for endpoint in [&a, &b] {
        let delivery = attempts_when(&tenant, &event, endpoint, 2).await;
        assert_eq!(
            (&delivery["status"], &delivery["attempts"][1]["trigger"]),
            (&json!("succeeded"), &json!("replay"))
        );
    }
    let again = receiver.take(2).await;
    assert!(again.iter().all(|seen| seen.body == first[0].body && seen.header("x-posthaste-attempt") == "2"));

    let job = replay(&tenant, &event, json!({"endpoint_ids": [b["id"]]})).await;
    assert_eq!((&job["total"], &job["done"]), (&json!(1), &json!(1)));
    attempts_when(&tenant, &event, &b, 3).await;
    assert_eq!(receiver.next().await.path, "/b");
    let job = replay(&tenant, &event, json!({"endpoint_ids": [held["id"]]})).await;
    assert_eq!((&job["status"], &job["total"]), (&json!("succeeded"), &json!(0)));
    assert!(receiver.rest().is_empty());
    Sql::open(&app.database).await.until(UNTRUE_STATS, 0).await;
    let audit = tenant.client.get("/v1/audit").await.expect(200);
    assert_eq!(
        (&audit["data"][0]["action"], &audit["data"][0]["resource"]),
        (&json!("event.replay"), &event["id"])
    );
    app.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_never_got_it_gets_a_delivery() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let old = tenant.endpoint(&receiver.url("/old"), json!({})).await;
    let event = tenant.publish("message.sent", json!({"a": 1})).await;
    attempts_when(&tenant, &event, &old, 1).await;
    let sent = receiver.next().await;
    let late = tenant.endpoint(&receiver.url("/late"), json!({"event_types": ["contact.*"]})).await;
    for round in 1..3 {
        replay(&tenant, &event, json!({"endpoint_ids": [late["id"]]})).await;
        let delivery = attempts_when(&tenant, &event, &late, round).await;
        assert_eq!(
            (&delivery["status"], &delivery["event_type"]),
            (&json!("succeeded"), &json!("message.sent"))
        );
        let seen = receiver.next().await;
        assert_eq!((seen.path.as_str(), seen.body), ("/late", sent.body.clone()));
        let shown = tenant.client.get(&format!("/v1/events/{}", text(&event, "id"))).await.expect(200);
        assert_eq!(array(&shown, "deliveries").len(), 2, "once");
    }
    // The default is everybody by now.
    assert_eq!(replay(&tenant, &event, json!({})).await["total"], 2);
    receiver.take(2).await;
    tenant.client.delete(&format!("/v1/endpoints/{}", text(&late, "id"))).await.expect(204);
    assert_eq!(replay(&tenant, &event, json!({})).await["total"], 1);
    assert_eq!(receiver.next().await.path, "/old");
    Sql::open(&app.database).await.until(UNTRUE_STATS, 0).await;
    app.stop().await;
}

#[tokio::test]
async fn endpoints_elsewhere_are_pointed_at_and_nothing_starts() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let (tenant, stranger) = (app.tenant().await, app.tenant().await);
    let here = tenant.endpoint(&receiver.url("/here"), json!({})).await;
    tenant.tell(&here, "pause").await;
    let location = tenant.client.post("/v1/locations", json!({"name": "L"})).await.expect(201);
    let elsewhere = tenant.endpoint(&receiver.url("/e"), json!({"location_id": location["id"]})).await;
    let theirs = stranger.endpoint(&receiver.url("/t"), json!({})).await;
    let gone = tenant.endpoint(&receiver.url("/gone"), json!({"event_types": ["contact.*"]})).await;
    tenant.client.delete(&format!("/v1/endpoints/{}", text(&gone, "id"))).await.expect(204);
    let object = tenant
        .endpoint(&receiver.url("/o"), json!({"event_types": ["contact.*"], "format": "whatsable"}))
        .await;
    let event = tenant.publish("message.sent", json!([1])).await;
    let before = Stored::read(&mut app.sql().await).await;
    let path = format!("/v1/events/{}/replay", text(&event, "id"));
    let (id, nobody) = (&here["id"], "ep_0193a1b2-c3d4-7e5f-8a6b-0123456789ab");
    for (ids, pointers) in [
        (json!([]), "/endpoint_ids"),
        (json!("*"), "/endpoint_ids"),
        (json!([1]), "/endpoint_ids/0"),
        (json!(vec![nobody; 1_001]), "/endpoint_ids"),
        (json!([id, elsewhere["id"]]), "/endpoint_ids/1"),
        (json!([theirs["id"], id, nobody, gone["id"]]), "/endpoint_ids/0 /endpoint_ids/2 /endpoint_ids/3"),
        (json!([id, id]), "/endpoint_ids/1"),
        (json!([id, "ep_1", event["id"], "\u{0}"]), "/endpoint_ids/1 /endpoint_ids/2 /endpoint_ids/3"),
        (json!([object["id"]]), "/endpoint_ids/0"),
    ] {
        let found = tenant.client.post(&path, json!({"endpoint_ids": ids})).await.pointers();
        assert!(found.join(" ").starts_with(pointers), "{found:?} {pointers}");
    }
    stranger.client.post(&path, json!({"endpoint_ids": [theirs["id"]]})).await.problem(404);
    Stored::read(&mut app.sql().await).await.assert_same(&before, "bad replays");
    app.stop().await;
}
