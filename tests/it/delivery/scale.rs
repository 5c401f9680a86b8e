//! Workers that join and leave while others work: every shard has one owner, all own alike, and nothing is sent twice.

use std::collections::HashSet;

use posthaste::app::Roles;
use serde_json::json;

use crate::helpers::{
    Answer, Receiver, TestApp,
    app::{settings, start},
    cluster::fresh_database,
    process::Process,
    sql::Sql,
};

const API: Roles = Roles { api: true, worker: false };
const WORKER: Roles = Roles { api: false, worker: true };
const LOCATIONS: usize = 24;

async fn api() -> TestApp {
    let (database, _) = fresh_database().await;
    start(settings(&database, &[]), database, API).await
}

/// Until so many nodes share all shards, none with more than its part.
pub async fn shared_by(sql: &mut Sql, nodes: i64) {
    let most = (4_096 + nodes - 1) / nodes;
    let balanced = format!(
        "SELECT count(*) FROM (SELECT node, count(*) AS shards FROM shards WHERE node IS NOT NULL GROUP BY node) n
         WHERE n.shards <= {most} AND (SELECT count(*) FROM shards WHERE node IS NULL) = 0"
    );
    sql.until(&balanced, nodes).await;
}

/// Three that share all shards: the first is a process of its own.
async fn three_workers(app: &TestApp, sql: &mut Sql) -> (Process, TestApp, TestApp) {
    let (first, _) = Process::role("worker", &app.settings).await;
    shared_by(sql, 1).await;
    let second = start(app.settings.clone(), app.database.clone(), WORKER).await;
    let third = start(app.settings.clone(), app.database.clone(), WORKER).await;
    shared_by(sql, 3).await;
    (first, second, third)
}

#[tokio::test]
async fn workers_that_come_and_go_share_the_shards() {
    let mut app = api().await;
    let mut sql = Sql::open(&app.database).await;
    let (mut first, mut second, mut third) = three_workers(&app, &mut sql).await;
    assert_eq!(sql.count("SELECT count(*) FROM shards WHERE unclean").await, 0);
    second.stop().await;
    shared_by(&mut sql, 2).await;
    first.kill().await;
    shared_by(&mut sql, 1).await;
    let marked = sql.count("SELECT count(*) FROM shards WHERE unclean").await;
    assert!((2_000..2_100).contains(&marked), "what the killed one had: {marked}");
    // Given back in order, they are as good as new.
    third.stop().await;
    assert_eq!(sql.count("SELECT count(*) FROM shards WHERE unclean OR node IS NOT NULL").await, 0);
    app.stop().await;
}

#[tokio::test]
async fn of_a_node_that_died_others_take_their_share_and_remember_why() {
    let mut app = api().await;
    let mut sql = Sql::open(&app.database).await;
    let (mut first, mut second, mut third) = three_workers(&app, &mut sql).await;
    first.kill().await;
    shared_by(&mut sql, 2).await;
    let nodes = "SELECT count(DISTINCT node) FROM shards WHERE unclean";
    assert_eq!(sql.count(nodes).await, 2, "both know what may kill them");
    second.stop().await;
    third.stop().await;
    app.stop().await;
}

#[tokio::test]
async fn shards_that_move_under_load_lose_nothing_and_send_nothing_twice() {
    let mut app = api().await;
    let mut receiver = Receiver::start().await;
    let mut sql = Sql::open(&app.database).await;
    let tenant = app.tenant().await;
    let mut locations = Vec::new();
    for n in 0..LOCATIONS {
        let location = json!({"name": "L", "external_id": format!("l{n}")});
        tenant.client.post("/v1/locations", location).await.expect(201);
        tenant.endpoint(&receiver.url("/hook"), json!({"location_id": format!("l{n}")})).await;
        locations.push(format!("l{n}"));
    }
    let mut wanted = HashSet::new();
    let mut publish = async |count: usize| {
        for n in 0..count {
            let path = format!("/v1/locations/{}/events", locations[n % LOCATIONS]);
            let published = tenant.client.post(&path, json!({"type": "message.sent", "data": n})).await;
            wanted.insert(published.expect(202)["id"].as_str().unwrap().to_owned());
        }
    };
    let mut first = start(app.settings.clone(), app.database.clone(), WORKER).await;
    shared_by(&mut sql, 1).await;
    publish(100).await;
    let mut second = start(app.settings.clone(), app.database.clone(), WORKER).await;
    // Publishing goes on all the time that the shards move.
    let moving = async { shared_by(&mut sql, 2).await };
    tokio::join!(publish(300), moving);
    let leaving = async { first.stop().await };
    tokio::join!(publish(300), leaving);
    shared_by(&mut sql, 1).await;
    publish(100).await;

    let seen = receiver.take(wanted.len()).await;
    let came: HashSet<String> = seen.iter().map(|one| one.header("webhook-id").to_owned()).collect();
    assert_eq!(came, wanted, "every event has come");
    sql.until("SELECT count(*) FROM queue", 0).await;
    second.stop().await;
    assert!(receiver.rest().is_empty(), "and none twice");
    app.stop().await;
}

#[tokio::test]
async fn whoever_is_told_to_stop_gives_away_at_once_what_is_at_rest() {
    let mut app = api().await;
    let mut receiver = Receiver::start().await;
    let mut sql = Sql::open(&app.database).await;
    let gate = std::sync::Arc::default();
    receiver.script("/hangs", [Answer::status(200).behind(&gate)]);
    let tenant = app.tenant().await;
    let fields = json!({"timeout_ms": 30_000, "max_in_flight": 1});
    let hanging = tenant.endpoint(&receiver.url("/hangs"), fields).await;
    let (mut first, _) = Process::role("worker", &app.settings).await;
    shared_by(&mut sql, 1).await;
    let held_up = tenant.publish_batch("message.sent", 2).await;
    receiver.next().await;
    let mut second = start(app.settings.clone(), app.database.clone(), WORKER).await;
    sql.until("SELECT count(*) FROM nodes", 2).await;
    first.signal("TERM");

    // All but the one shard of which something is in flight.
    let left = "SELECT count(*) FROM shards s JOIN nodes n ON n.id = s.node WHERE n.leaving";
    sql.until(left, 1).await;
    sql.until("SELECT count(*) FROM shards WHERE node IS NULL", 0).await;
    assert_eq!(sql.count("SELECT count(*) FROM nodes WHERE dead").await, 0, "it is still there");
    let id = hanging["id"].as_str().unwrap().trim_start_matches("ep_");
    let of_it = format!("{left} AND s.shard = (SELECT shard FROM endpoints WHERE id = '{id}')");
    assert_eq!(sql.count(&of_it).await, 1);
    assert!(receiver.rest().is_empty(), "the next of the lane waits");
    gate.notify_one();
    assert!(first.wait().await.success());
    receiver.script("/hangs", [Answer::status(200)]);
    assert_eq!(receiver.next().await.header("webhook-id"), held_up[1]);
    sql.until("SELECT count(*) FROM queue", 0).await;
    second.stop().await;
    assert!(receiver.rest().is_empty(), "nothing came twice");
    app.stop().await;
}

#[tokio::test]
async fn a_shard_stays_until_what_is_in_flight_of_it_has_ended() {
    let mut app = api().await;
    let mut receiver = Receiver::start().await;
    let mut sql = Sql::open(&app.database).await;
    let gate = std::sync::Arc::default();
    let tenant = app.tenant().await;
    // As many that some are to move.
    for n in 0..LOCATIONS {
        let location = json!({"name": "L", "external_id": format!("l{n}")});
        tenant.client.post("/v1/locations", location).await.expect(201);
        let path = format!("/l{n}");
        receiver.script(&path, [Answer::status(200).behind(&gate)]);
        let fields = json!({"location_id": format!("l{n}"), "timeout_ms": 30_000});
        tenant.endpoint(&receiver.url(&path), fields).await;
    }
    let mut first = start(app.settings.clone(), app.database.clone(), WORKER).await;
    shared_by(&mut sql, 1).await;
    for n in 0..LOCATIONS {
        let path = format!("/v1/locations/l{n}/events");
        tenant.client.post(&path, json!({"type": "message.sent", "data": n})).await.expect(202);
    }
    receiver.take(LOCATIONS).await;
    let mut second = start(app.settings.clone(), app.database.clone(), WORKER).await;
    // All that can move moves; what hangs stays where it is.
    let busy = "SELECT count(DISTINCT s.node) FROM shards s JOIN queue q USING (shard)";
    sql.until("SELECT count(DISTINCT node) FROM shards", 2).await;
    assert_eq!(sql.count(busy).await, 1, "nothing that is in flight has changed hands");
    for _ in 0..LOCATIONS {
        gate.notify_one();
    }
    shared_by(&mut sql, 2).await;
    sql.until("SELECT count(*) FROM queue", 0).await;
    first.stop().await;
    second.stop().await;
    assert!(receiver.rest().is_empty(), "nothing came twice");
    app.stop().await;
}
