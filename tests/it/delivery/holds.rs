//! Pause, resume, cancel, delete: what was answered is true from then on.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::helpers::{
    Answer, Receiver,
    app::{Tenant, start},
    spawn,
    sql::Sql,
};
use posthaste::app::Roles;

/// Delay of a retry: time enough to hold it, on a busy machine too.
const LADDER_S: u32 = 3;

/// A delivery that has failed once and comes again after [`LADDER_S`].
async fn in_ladder(tenant: &Tenant, receiver: &mut Receiver, path: &str) -> (Value, Value) {
    receiver.script(path, [500, 200].map(Answer::status));
    let fields = json!({"retry_schedule_s": [LADDER_S], "event_types": ["message.read"]});
    let endpoint = tenant.endpoint(&receiver.url(path), fields).await;
    let published = tenant.publish("message.read", json!({})).await;
    tenant.delivery_when(&published, &endpoint, |delivery| delivery["attempt_count"] == 1).await;
    receiver.next().await;
    (published, endpoint)
}

/// Waits for as long as a retry takes that begins now: another endpoint fails once, and succeeds with its retry.
async fn a_ladder_later(tenant: &Tenant, receiver: &mut Receiver) {
    receiver.script("/canary", [500, 200].map(Answer::status));
    let fields = json!({"retry_schedule_s": [LADDER_S], "event_types": ["message.failed"]});
    let endpoint = tenant.endpoint(&receiver.url("/canary"), fields).await;
    let published = tenant.publish("message.failed", json!({})).await;
    tenant.delivery_when(&published, &endpoint, |delivery| delivery["status"] == "succeeded").await;
    let seen = receiver.take(2).await;
    assert!(seen.iter().all(|one| one.path == "/canary"), "sent although it is held: {seen:?}");
}

#[tokio::test]
async fn a_pause_holds_retries_too_and_a_resume_sends_them() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let (published, endpoint) = in_ladder(&tenant, &mut receiver, "/hook").await;
    assert_eq!(tenant.tell(&endpoint, "pause").await["status"], "paused");
    let held = tenant.delivery_when(&published, &endpoint, |_| true).await;
    assert_eq!((&held["status"], &held["next_attempt_at"]), (&json!("held"), &Value::Null));
    let later = tenant.publish("message.read", json!({})).await;
    assert_eq!(later["deliveries"][0]["status"], "held");
    a_ladder_later(&tenant, &mut receiver).await;
    tenant.tell_delivery(&published, &endpoint, "retry").await.expect(202);
    a_ladder_later(&tenant, &mut receiver).await;

    assert_eq!(tenant.tell(&endpoint, "resume").await["status"], "active");
    let mut sent: Vec<_> =
        receiver.take(2).await.iter().map(|one| one.header("webhook-id").to_owned()).collect();
    sent.sort_unstable();
    assert_eq!(json!(sent), json!([published["id"], later["id"]]));
    app.stop().await;
}

#[tokio::test]
async fn a_pause_is_answered_when_what_is_in_flight_has_ended() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let gate = Arc::new(Notify::new());
    receiver.script("/hook", [Answer::status(500).behind(&gate), Answer::status(200)]);
    let tenant = app.tenant().await;
    let fields = json!({"retry_schedule_s": [LADDER_S], "max_in_flight": 1});
    let endpoint = tenant.endpoint(&receiver.url("/hook"), fields).await;
    tenant.publish_batch("message.read", 3).await;
    receiver.next().await;
    // The gate opens when the command is in the database; in between the owner may have heard of it or not.
    let mut sql = Sql::open(&app.database).await;
    let open = async {
        sql.until("SELECT count(*) FROM endpoints WHERE paused_at IS NOT NULL", 1).await;
        gate.notify_one();
    };
    let (paused, ()) = tokio::join!(tenant.tell(&endpoint, "pause"), open);
    assert_eq!(paused["status"], "paused");
    receiver.rest();
    a_ladder_later(&tenant, &mut receiver).await;
    tenant.tell(&endpoint, "resume").await;
    tenant.endpoint_when(&endpoint, |endpoint| endpoint["pending_count"] == 0).await;
    app.stop().await;
}

#[tokio::test]
async fn a_canceled_delivery_is_not_sent_again() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let (published, endpoint) = in_ladder(&tenant, &mut receiver, "/hook").await;
    let canceled = tenant.tell_delivery(&published, &endpoint, "cancel").await.expect(200);
    assert_eq!((&canceled["status"], &canceled["attempt_count"]), (&json!("canceled"), &json!(1)));
    a_ladder_later(&tenant, &mut receiver).await;
    tenant.tell_delivery(&published, &endpoint, "cancel").await.problem(409);

    tenant.tell_delivery(&published, &endpoint, "retry").await.expect(202);
    assert_eq!(receiver.next().await.header("x-posthaste-attempt"), "2");
    tenant.delivery_when(&published, &endpoint, |delivery| delivery["status"] == "succeeded").await;
    app.stop().await;
}

#[tokio::test]
async fn nothing_is_sent_after_a_delete_and_the_history_goes() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let (published, endpoint) = in_ladder(&tenant, &mut receiver, "/hook").await;
    let id = endpoint["id"].as_str().unwrap();
    tenant.client.delete(&format!("/v1/endpoints/{id}")).await.expect(204);
    a_ladder_later(&tenant, &mut receiver).await;
    tenant.client.get(&format!("/v1/endpoints/{id}")).await.problem(404);
    tenant.client.get(&format!("/v1/endpoints/{id}/deliveries")).await.problem(404);
    tenant.tell_delivery(&published, &endpoint, "retry").await.problem(404);
    assert_eq!(tenant.publish("message.read", json!({})).await["deliveries"], json!([]));

    // A minute later, maintenance purges what it left.
    let mut sql = Sql::open(&app.database).await;
    sql.run(
        "UPDATE endpoints SET deleted_at = deleted_at - interval '2 minutes' WHERE deleted_at IS NOT NULL",
    )
    .await;
    let (settings, database) = (app.settings.clone(), app.database.clone());
    app.stop().await;
    let mut app = start(settings, database, Roles { api: false, worker: true }).await;
    let uuid = id.strip_prefix("ep_").unwrap();
    sql.until(&format!("SELECT count(*) FROM endpoints WHERE id = '{uuid}'"), 0).await;
    for table in [
        "queue",
        "attempts",
        "settled",
        "endpoint_stats",
        "endpoint_health",
        "endpoint_versions",
        "endpoint_secrets",
    ] {
        let left = sql.count(&format!("SELECT count(*) FROM {table} WHERE endpoint_id = '{uuid}'")).await;
        assert_eq!(left, 0, "{table}");
    }
    assert_eq!(sql.count("SELECT count(*) FROM attempts").await, 2, "the canary's are kept");
    app.stop().await;
}
