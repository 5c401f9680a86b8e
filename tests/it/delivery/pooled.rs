//! `posthaste api` behind PgBouncer in transaction mode, which hands its few connections from one transaction to the next.

use std::collections::{HashMap, HashSet};

use posthaste::app::{App, Database, Extras, Roles};
use rstest::rstest;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Row, postgres::PgConnectOptions};
use tokio::task::JoinSet;

use crate::helpers::{
    Answer, Receiver, Tenant, TestApp,
    app::{settings, start},
    cluster::{bare_database, fresh_database},
    pooler::Pooler,
    sql::Sql,
};

const API: Roles = Roles { api: true, worker: false };
const WORKER: Roles = Roles { api: false, worker: true };
/// One: whoever held a connection while waiting for another would wait for ever.
const CONNECTIONS: u32 = 1;
const PUBLISHERS: usize = 12;
const EVENTS_EACH: usize = 5;

/// Two of them through the pooler, and a worker that has Postgres itself.
async fn behind(pooler: &Pooler, database: &PgConnectOptions) -> [TestApp; 3] {
    let straight = settings(database, &[]);
    let mut pooled = straight.clone();
    pooled.database_url = Some(pooler.way(database).to_url_lossy().to_string());
    [
        start(pooled.clone(), database.clone(), API).await,
        start(pooled, database.clone(), API).await,
        start(straight, database.clone(), WORKER).await,
    ]
}

/// Publishes and reads, by turns, through both APIs: what was accepted.
async fn publish_and_read(apis: &[&TestApp], tenant: &Tenant) -> HashSet<String> {
    let mut publishers = JoinSet::new();
    for n in 0..PUBLISHERS {
        let client = apis[n % apis.len()].with_key(&tenant.key);
        let path = format!("/v1/locations/{}/events", tenant.location_id);
        let name = tenant.id.clone();
        publishers.spawn(async move {
            let mut accepted = Vec::new();
            for round in 0..EVENTS_EACH {
                let body = json!({"type": "message.sent", "data": {"of": name}, "idempotency_key": format!("{n}-{round}")});
                let published = client.post(&path, body.clone()).await.expect(202);
                assert_eq!(client.post(&path, body).await.expect(202)["id"], published["id"], "a repeat");
                let id = published["id"].as_str().unwrap().to_owned();
                let read = client.get(&format!("/v1/events/{id}")).await.expect(200);
                assert_eq!(read["data"]["of"], *name, "the tenant's own");
                let list = client.get(&format!("{path}?limit=5")).await.expect(200);
                for event in list["data"].as_array().unwrap() {
                    let event = client.get(&format!("/v1/events/{}", event["id"].as_str().unwrap())).await;
                    assert_eq!(event.expect(200)["data"]["of"], *name, "nobody else's");
                }
                accepted.push(id);
            }
            accepted
        });
    }
    publishers.join_all().await.into_iter().flatten().collect()
}

#[tokio::test]
async fn everything_works_through_a_pooler_and_tenants_stay_apart() {
    let (database, _) = fresh_database().await;
    let Some(pooler) = Pooler::start(&database, CONNECTIONS, "").await else { return };
    let [mut one, mut two, mut worker] = behind(&pooler, &database).await;
    let mut receiver = Receiver::start().await;
    let (left, right) = tokio::join!(one.tenant(), two.tenant());
    let (to_left, to_right) = (receiver.url("/left"), receiver.url("/right"));
    let (left_endpoint, right_endpoint) =
        tokio::join!(left.endpoint(&to_left, json!({})), right.endpoint(&to_right, json!({})));

    let apis = [&one, &two];
    let (of_left, of_right) = tokio::join!(publish_and_read(&apis, &left), publish_and_read(&apis, &right));
    let total = 2 * PUBLISHERS * EVENTS_EACH;
    assert_eq!((of_left.len(), of_right.len()), (total / 2, total / 2));
    let mut came: HashMap<String, HashSet<String>> = HashMap::new();
    for seen in receiver.take(total).await {
        came.entry(seen.path.clone()).or_default().insert(seen.header("webhook-id").to_owned());
    }
    assert_eq!((&came["/left"], &came["/right"]), (&of_left, &of_right), "each its own, and once");

    // Commands, which wait for the worker.
    assert_eq!(left.tell(&left_endpoint, "pause").await["status"], "paused");
    let held = left.publish("message.sent", json!({})).await;
    assert_eq!(held["deliveries"][0]["status"], "held");
    assert_eq!(left.tell(&left_endpoint, "resume").await["status"], "active");
    assert_eq!(receiver.next().await.header("webhook-id"), held["id"]);

    // Second chances.
    receiver.script("/right", [Answer::status(410), Answer::status(200)]);
    let gone = right.publish("message.sent", json!({})).await;
    receiver.next().await;
    let failed = |delivery: &Value| delivery["status"] == "failed";
    right.delivery_when(&gone, &right_endpoint, failed).await;
    right.tell(&right_endpoint, "resume").await;
    right.tell_delivery(&gone, &right_endpoint, "retry").await.expect(202);
    assert_eq!(receiver.next().await.header("webhook-id"), gone["id"]);
    let path = format!("/v1/endpoints/{}/recover", right_endpoint["id"].as_str().unwrap());
    let body = json!({"since": "2026-01-01T00:00:00Z", "status": "failed"});
    let job = right.client.post(&path, body).await.expect(202);
    assert_eq!(right.job_ended(&job).await["status"], "succeeded");
    let path = format!("/v1/endpoints/{}", right_endpoint["id"].as_str().unwrap());
    right.client.delete(&path).await.expect(204);
    let listed = left.client.get("/v1/endpoints").await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    left.client.get(&path).await.problem(404);

    let mut sql = Sql::open(&database).await;
    sql.until("SELECT count(*) FROM queue", 0).await;
    for app in [&mut one, &mut two, &mut worker] {
        app.stop().await;
    }
    assert!(receiver.rest().is_empty(), "nothing came twice");
    // Whoever gets the connection next finds nothing of the tenants on it.
    let mut next = pooler.way(&database).extra_float_digits(None).connect().await.unwrap();
    let left_behind = sqlx::raw_sql(
        "SELECT current_user::text, coalesce(current_setting('posthaste.tenant', true), ''), current_setting('enable_seqscan')",
    );
    let row = left_behind.fetch_one(&mut next).await.unwrap();
    let left_behind: [String; 3] = std::array::from_fn(|place| row.get(place));
    assert_eq!(left_behind, [database.get_username(), "", "on"]);
}

#[rstest]
#[case::that_refuses_settings("")]
#[case::that_drops_settings("ignore_startup_parameters = options")]
#[tokio::test]
async fn whatever_needs_postgres_itself_says_so(#[case] configuration: &str) {
    let (database, _) = fresh_database().await;
    let Some(pooler) = Pooler::start(&database, CONNECTIONS, configuration).await else { return };
    let pooled = settings(&pooler.way(&database), &[]);
    for roles in [WORKER, Roles { api: true, worker: true }] {
        let Err(error) = App::start(&pooled, roles, Extras::default(), |_| {}).await else {
            panic!("{roles:?} works through a pooler")
        };
        assert!(error.to_string().contains("through a connection pooler, and a worker's"), "{error:#}");
    }
    // A schema that is up to date is no reason not to start; one that is not can't be mended from there.
    let mut api = start(pooled.clone(), database.clone(), API).await;
    assert_eq!(api.anonymous().get("/readyz").await.status, 200);
    api.stop().await;
    let straight_on = Database::open(&pooled, |_| {}).await.unwrap();
    let error = straight_on.connect().await.unwrap_err();
    assert!(error.to_string().contains("DATABASE_URL leads through a connection pooler"), "{error:#}");
    let (bare, _) = bare_database().await;
    let pooler = Pooler::start(&bare, CONNECTIONS, configuration).await.expect("it was there a moment ago");
    let Err(error) = App::start(&settings(&pooler.way(&bare), &[]), API, Extras::default(), |_| {}).await
    else {
        panic!("it starts without a schema")
    };
    assert!(error.to_string().starts_with("the database is not migrated"), "{error:#}");
}
