//! Several processes on one database: alone, together, killed, stopped and woken again.

use std::{
    collections::{HashMap, HashSet},
    io::Write,
    sync::Arc,
};

use posthaste::{
    app::Roles,
    db::embedded::{DATABASE, Kind},
    queue::bell::{BELL_CHANNEL, Ring},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::{ConnectOptions, postgres::PgListener};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::helpers::{
    Answer, Receiver, TestApp,
    app::{settings, start},
    client::PATIENCE,
    cluster::{fresh_database, private_dir, private_postgres},
    process::Process,
    sql::Sql,
};

const API: Roles = Roles { api: true, worker: false };
const WORKER: Roles = Roles { api: false, worker: true };

/// An API in this process, on a database of its own, that workers share.
async fn api() -> TestApp {
    let (database, _) = fresh_database().await;
    start(settings(&database, &[]), database, API).await
}

/// How often each event has come.
fn tally(seen: &[crate::helpers::receiver::Seen]) -> HashMap<&str, usize> {
    let mut times = HashMap::new();
    for one in seen {
        *times.entry(one.header("webhook-id")).or_default() += 1;
    }
    times
}

#[tokio::test]
async fn an_api_alone_rings_for_a_worker_alone() {
    let mut app = api().await;
    let mut receiver = Receiver::start().await;
    let (mut worker, _) = Process::role("worker", &app.settings).await;
    let pool = app.pool().await;
    let mut bell = PgListener::connect_with(&pool).await.unwrap();
    bell.listen(BELL_CHANNEL).await.unwrap();
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let published = tenant.publish("message.sent", json!({})).await;
    let rung = timeout(PATIENCE, bell.recv()).await.expect("a bell").unwrap();
    let rung = Ring::read(rung.payload()).next().expect("a ring");
    assert_eq!(rung.endpoint_id.to_string(), endpoint["id"].as_str().unwrap());
    assert_eq!(receiver.next().await.header("webhook-id"), published["id"]);
    tenant.delivery_when(&published, &endpoint, |delivery| delivery["status"] == "succeeded").await;
    // Commands reach it as well.
    assert_eq!(tenant.tell(&endpoint, "pause").await["status"], "paused");
    worker.signal("TERM");
    assert!(worker.wait().await.success());
    app.stop().await;
}

#[tokio::test]
async fn two_workers_and_two_publishers_send_nothing_twice() {
    let mut app = api().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    tenant.endpoint(&receiver.url("/one"), json!({"max_in_flight": 32})).await;
    // One publishes where nothing is owned, the other beside a worker that may own or not.
    let mut both = start(app.settings.clone(), app.database.clone(), Roles { api: true, worker: true }).await;
    let mut worker = start(app.settings.clone(), app.database.clone(), WORKER).await;
    let beside = both.with_key(&tenant.key);
    let path = format!("/v1/locations/{}/events", tenant.location_id);
    let mut wanted = HashSet::new();
    for n in 0..100 {
        let here = tenant.publish("message.sent", json!({"n": n}));
        let there = beside.post(&path, json!({"type": "message.sent", "data": n}));
        let (here, there) = tokio::join!(here, there);
        wanted.extend([here, there.expect(202)].map(|one| one["id"].as_str().unwrap().to_owned()));
    }
    let seen = receiver.take(wanted.len()).await;
    let mut sql = Sql::open(&app.database).await;
    sql.until("SELECT count(*) FROM queue", 0).await;
    assert_eq!(tally(&seen).len(), wanted.len(), "every event has come");
    for app in [&mut both, &mut worker, &mut app] {
        app.stop().await;
    }
    assert!(receiver.rest().is_empty(), "and none twice");
    assert_eq!(sql.count("SELECT count(*) FROM attempts").await, 200);
}

#[tokio::test]
async fn a_killed_worker_is_taken_over_from() {
    let mut app = api().await;
    let mut receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::never()]);
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"timeout_ms": 30_000})).await;
    let mut sql = Sql::open(&app.database).await;
    let (mut first, _) = Process::role("worker", &app.settings).await;
    sql.until("SELECT count(*) FROM shards WHERE node IS NOT NULL", 4_096).await;
    let events = tenant.publish_batch("message.sent", 30).await;
    let mut seen = receiver.take(8).await;
    let mut second = start(app.settings.clone(), app.database.clone(), WORKER).await;
    sql.until("SELECT count(*) FROM nodes WHERE NOT dead", 2).await;
    receiver.script("/hook", [Answer::status(200)]);
    first.kill().await;

    tenant.endpoint_when(&endpoint, |endpoint| endpoint["pending_count"] == 0).await;
    seen.extend(receiver.rest());
    let times = tally(&seen);
    assert_eq!(times.len(), events.len(), "every event has come");
    assert!(times.values().all(|times| *times <= 2));
    assert_eq!(seen.len(), events.len() + 8, "what was in flight came twice, nothing else");
    assert_eq!(sql.count("SELECT count(*) FROM nodes WHERE dead AND NOT clean").await, 1);
    assert_eq!(sql.count("SELECT count(DISTINCT node) FROM shards WHERE node IS NOT NULL").await, 1);
    second.stop().await;
    app.stop().await;
}

#[tokio::test]
async fn a_worker_that_sleeps_through_its_lease_changes_nothing_when_it_wakes() {
    let mut app = api().await;
    let mut receiver = Receiver::start().await;
    let gate = Arc::new(Notify::new());
    receiver.script("/hook", [Answer::status(500).behind(&gate), Answer::status(501)]);
    let tenant = app.tenant().await;
    let fields = json!({"timeout_ms": 30_000, "retry_schedule_s": [86_400, 86_400]});
    let endpoint = tenant.endpoint(&receiver.url("/hook"), fields).await;
    let mut sql = Sql::open(&app.database).await;
    let (mut sleeper, _) = Process::role("worker", &app.settings).await;
    sql.until("SELECT count(*) FROM shards WHERE node IS NOT NULL", 4_096).await;
    let published = tenant.publish("message.sent", json!({})).await;
    receiver.next().await;
    let mut other = start(app.settings.clone(), app.database.clone(), WORKER).await;
    sql.until("SELECT count(*) FROM nodes WHERE NOT dead", 2).await;
    sleeper.signal("STOP");

    // The other one takes over and sends; it fails as well, and the retry is due tomorrow.
    receiver.next().await;
    let delivery =
        tenant.delivery_when(&published, &endpoint, |delivery| delivery["last_response_status"] == 501).await;
    assert_eq!(delivery["status"], "pending");
    let due = delivery["next_attempt_at"].clone();
    gate.notify_one();
    sleeper.signal("CONT");
    // It notices, and comes back as somebody else.
    sql.until("SELECT count(*) FROM nodes WHERE NOT dead", 2).await;
    assert_eq!(sql.count("SELECT count(*) FROM nodes").await, 3);
    sleeper.signal("TERM");
    assert!(sleeper.wait().await.success(), "what it had to write is written");
    assert_eq!(sql.count("SELECT seq::bigint FROM queue").await, 1);
    let delivery = tenant.delivery_when(&published, &endpoint, |_| true).await;
    assert_eq!((&delivery["status"], &delivery["next_attempt_at"]), (&json!("pending"), &due));
    assert!(receiver.rest().is_empty(), "nor has it sent anything");
    other.stop().await;
    app.stop().await;
}

#[tokio::test]
async fn a_clean_stop_ends_what_is_in_flight_and_gives_everything_back() {
    let mut app = api().await;
    let mut receiver = Receiver::start().await;
    let gate = Arc::new(Notify::new());
    receiver.script("/hook", [Answer::status(200).behind(&gate)]);
    let tenant = app.tenant().await;
    tenant.endpoint(&receiver.url("/hook"), json!({"max_in_flight": 2})).await;
    let mut sql = Sql::open(&app.database).await;
    let (mut worker, _) = Process::role("worker", &app.settings).await;
    tenant.publish_batch("message.sent", 2).await;
    receiver.take(2).await;
    worker.signal("TERM");
    gate.notify_one();
    gate.notify_one();
    assert!(worker.wait().await.success());
    assert_eq!(sql.count("SELECT count(*) FROM attempts WHERE succeeded").await, 2, "all are flushed");
    assert_eq!(sql.count("SELECT count(*) FROM queue").await, 0);
    assert_eq!(sql.count("SELECT count(*) FROM shards WHERE node IS NOT NULL").await, 0);
    assert_eq!(sql.count("SELECT count(*) FROM nodes WHERE clean").await, 1);

    // The next one has nobody to wait for: shards are free, not taken over.
    receiver.script("/hook", [Answer::status(200)]);
    tenant.publish_batch("message.sent", 3).await;
    let mut next = start(app.settings.clone(), app.database.clone(), WORKER).await;
    assert_eq!(tally(&receiver.take(3).await).len(), 3);
    sql.until("SELECT count(*) FROM queue", 0).await;
    assert_eq!(sql.count("SELECT max(epoch) FROM shards").await, 3, "taken, given back, taken");
    next.stop().await;
    app.stop().await;
}

#[tokio::test]
async fn an_api_stops_although_a_request_never_ends() {
    let (database, _) = fresh_database().await;
    let settings = settings(&database, &[]);
    let (mut api, base) = Process::role("api", &settings).await;
    let mut stream = std::net::TcpStream::connect(base.strip_prefix("http://").unwrap()).unwrap();
    let key = settings.operator_key.as_deref().unwrap();
    let head = format!(
        "POST /v1/tenants HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The connection is served before the signal comes: a later request on another one has been answered.
    crate::helpers::client::Client::new(&base, None).get("/healthz").await;
    api.signal("TERM");
    assert!(api.wait().await.success());
    drop(stream);
}

/// Descriptors that a process has open.
fn open_files(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().count()
}

#[tokio::test]
async fn callers_that_never_finish_a_request_leave_descriptors_to_deliveries() {
    const FILES: u32 = 256;
    const CALLERS: usize = 300;
    let mut app = api().await;
    let tenant = app.tenant().await;
    let (mut server, base) = Process::role_with_files(FILES, "serve", &app.settings).await;
    let before = open_files(&server);
    let address = base.strip_prefix("http://").unwrap();
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = std::net::TcpStream::connect(address).unwrap();
        caller.write_all(b"GET /v1/me HTTP/1.1\r\nHo").unwrap();
        callers.push(caller);
    }
    // As many as are let in at once, but for a few that others close meanwhile.
    let let_in = usize::try_from(FILES / 4).unwrap();
    let arrived = async {
        let mut ticks = interval(std::time::Duration::from_millis(10));
        while open_files(&server) < before + let_in - 10 {
            ticks.tick().await;
        }
    };
    timeout(PATIENCE, arrived).await.expect("callers are let in");
    let (mut receivers, mut endpoints) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let receiver = Receiver::start().await;
        endpoints.push(tenant.endpoint(&receiver.url("/hook"), json!({})).await);
        receivers.push(receiver);
    }
    let published = tenant.publish("message.sent", json!({})).await;
    for (receiver, endpoint) in receivers.iter_mut().zip(&endpoints) {
        receiver.next().await;
        let is_over = |delivery: &serde_json::Value| delivery["status"] == "succeeded";
        let delivery = tenant.delivery_when(&published, endpoint, is_over).await;
        assert_eq!(delivery["attempt_count"], 1, "{delivery}");
    }
    assert!(open_files(&server) < usize::try_from(FILES).unwrap() - 32);
    server.kill().await;
    drop(callers);
    app.stop().await;
}

#[tokio::test]
async fn nothing_that_was_accepted_is_lost_when_postgres_crashes() {
    let dir = private_dir();
    let mut postgres = private_postgres(dir.path(), Kind::Durable).await;
    let database = postgres.connect_options(DATABASE).disable_statement_logging();
    let both = Roles { api: true, worker: true };
    let mut app = start(settings(&database, &[]), database.clone(), both).await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    tenant.endpoint(&receiver.url("/hook"), json!({"max_in_flight": 64})).await;
    let path = format!("/v1/locations/{}/events", tenant.location_id);
    let publish = |n: usize| {
        let (client, path) = (tenant.client.clone(), path.clone());
        async move {
            let reply = client.post(&path, json!({"type": "message.sent", "data": n})).await;
            match reply.status {
                202 => Some(reply.json()["id"].as_str().unwrap().to_owned()),
                503 => None,
                other => panic!("{other}: {}", reply.text),
            }
        }
    };
    let mut accepted = HashSet::new();
    for _ in 0..2 {
        // Crashed in the middle of a stream of publishes.
        let mut publishes = tokio::task::JoinSet::new();
        for n in 0..300 {
            publishes.spawn(publish(n));
            if n == 150 {
                accepted.extend(publishes.join_next().await.unwrap().unwrap());
                let postmaster = Pid::from_raw(postgres.postmaster_pid()).unwrap();
                kill_process(postmaster, Signal::QUIT).unwrap();
            }
        }
        while let Some(done) = publishes.join_next().await {
            accepted.extend(done.unwrap());
        }
        postgres.wait_exit().await;
        drop(postgres);
        postgres = private_postgres(dir.path(), Kind::Durable).await;
        // It is back for the API when a publish gets through.
        let again = async {
            let mut looks = interval(std::time::Duration::from_millis(50));
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                if let Some(id) = publish(0).await {
                    return id;
                }
            }
        };
        accepted.insert(timeout(PATIENCE, again).await.expect("the API is back"));
    }
    assert!(accepted.len() > 2, "{}", accepted.len());
    let mut wanted = accepted;
    while !wanted.is_empty() {
        wanted.remove(receiver.next().await.header("webhook-id"));
    }
    Sql::open(&database).await.until("SELECT count(*) FROM queue", 0).await;
    app.stop().await;
    postgres.stop().await.unwrap();
}
