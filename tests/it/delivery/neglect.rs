//! What nobody looks at for a long time: endpoints that fail for days, rows that kill their node.

use posthaste::app::Roles;
use serde_json::json;

use crate::helpers::{Answer, Receiver, spawn, spawn_with, sql::Sql};

const BOTH: Roles = Roles { api: true, worker: true };

#[tokio::test]
async fn jobs_that_ended_long_ago_are_forgotten() {
    let mut app = spawn_with(&["--retention-days", "7"]).await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint("https://e.example.com/", json!({})).await;
    let recover = format!("/v1/endpoints/{}/recover", endpoint["id"].as_str().unwrap());
    for since in ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"] {
        let job = tenant.client.post(&recover, json!({"since": since})).await.expect(202);
        tenant.job_ended(&job).await;
    }
    app.stop().await;
    let mut sql = Sql::open(&app.database).await;
    sql.run(
        "UPDATE jobs SET finished_at = finished_at - interval '8 days'
         WHERE id = (SELECT id FROM jobs ORDER BY id LIMIT 1)",
    )
    .await;
    let mut app = app.another(BOTH).await;
    sql.until("SELECT count(*) FROM jobs", 1).await;
    app.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_fails_for_days_is_disabled_and_holds_its_deliveries() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::status(500), Answer::status(200)]);
    let tenant = app.tenant_with(json!({"failing_days": 2})).await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"retry_schedule_s": []})).await;
    tenant.publish("message.sent", json!(1)).await;
    receiver.next().await;
    tenant.endpoint_when(&endpoint, |endpoint| endpoint["status"] == "failing").await;
    app.stop().await;
    let mut sql = app.sql().await;
    sqlx::query("UPDATE endpoint_health SET failing_since = now() - interval '49 hours'")
        .execute(&mut sql)
        .await
        .unwrap();

    let mut app = crate::helpers::app::start(app.settings.clone(), app.database.clone(), BOTH).await;
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    let client = app.with_key(&tenant.key);
    let disabled = client.get_until(&path, |endpoint| endpoint["status"] == "disabled").await;
    assert_eq!(disabled["status_reason"], "no delivery has succeeded for 2 days");
    let event = json!({"type": "message.sent", "data": 2});
    let published =
        client.post(&format!("/v1/locations/{}/events", tenant.location_id), event).await.expect(202);
    assert_eq!(published["deliveries"][0]["status"], "held");
    client.poke(&format!("{path}/resume")).await.expect(200);
    assert_eq!(receiver.next().await.header("webhook-id"), published["id"]);
    client.get_until(&path, |endpoint| endpoint["status"] == "active").await;
    app.stop().await;
}

/// The node that had the row in flight died, for the fifth time: the next one does not try.
#[tokio::test]
async fn a_row_that_kills_its_nodes_is_poison_in_the_end() {
    let mut app = spawn_with(&[]).await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"max_in_flight": 1})).await;
    tenant.tell(&endpoint, "pause").await;
    let (poison, innocent) =
        (tenant.publish("message.sent", json!(1)).await, tenant.publish("message.sent", json!(2)).await);
    app.stop().await;
    // What is left by a node that died with the first of them in flight, as four have before it.
    let mut sql = app.sql().await;
    let dead =
        "WITH dead AS (INSERT INTO nodes (id, started_at) VALUES (gen_random_uuid(), now()) RETURNING id)
                UPDATE shards SET node = (SELECT id FROM dead)";
    for statement in [dead, "UPDATE queue SET suspects = 4", "UPDATE endpoints SET paused_at = NULL"] {
        sqlx::query(statement).execute(&mut sql).await.unwrap();
    }

    let mut app = crate::helpers::app::start(app.settings.clone(), app.database.clone(), BOTH).await;
    assert_eq!(receiver.next().await.header("webhook-id"), innocent["id"], "the lane goes on behind it");
    let path = |event: &serde_json::Value| {
        format!(
            "/v1/events/{}/deliveries/{}",
            event["id"].as_str().unwrap(),
            endpoint["id"].as_str().unwrap()
        )
    };
    let client = app.with_key(&tenant.key);
    let failed = client.get_until(&path(&poison), |delivery| delivery["status"] == "failed").await;
    assert!(failed["last_error"].as_str().unwrap().starts_with("poison"), "{failed}");
    assert_eq!(failed["attempt_count"], 0);
    client.get_until(&path(&innocent), |delivery| delivery["status"] == "succeeded").await;
    assert!(receiver.rest().is_empty());
    app.stop().await;
}
