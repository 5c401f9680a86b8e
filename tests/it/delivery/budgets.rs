//! What a delivery costs, in numbers that no machine changes: bytes of WAL, and statements.

use std::collections::BTreeMap;

use posthaste::{
    app::Roles,
    db::embedded::{DATABASE, Kind},
};
use serde_json::json;
use sqlx::ConnectOptions;
use tokio::task::JoinSet;

use crate::helpers::{
    Answer, Receiver, Tenant,
    app::{settings, start},
    cluster::{fresh_database, private_dir, private_postgres, superuser},
    explain::Explainer,
    sql::Sql,
};

const BOTH: Roles = Roles { api: true, worker: true };
/// Callers at once, and requests in flight.
const PUBLISHERS: usize = 256;
/// What shares a statement has come within milliseconds. On a machine that is busy with something else that is less, so that the
/// best of so many rounds counts.
const ROUNDS: usize = 3;
const DATA_BYTES: usize = 1_024;
const FAN_OUT: usize = 10;
/// WAL of a delivery, besides its event and what is kept of the response.
const WAL_BYTES_MAX: f64 = 650.0;
/// The same where an event goes to ten endpoints: a row for an endpoint that is not the newest comes into the middle of an
/// index, whose pages are split in halves then, and of each half is written what it holds.
const WAL_BYTES_AMONG_OTHERS_MAX: f64 = 800.0;
const STATEMENTS_MAX: f64 = 0.1;
/// In statements that are run by the clock, however much is delivered.
const BY_THE_CLOCK: [&str; 6] = [
    "UPDATE nodes SET beat",
    "FROM nodes WHERE NOT dead",
    "config_seen, config_version",
    "WITH RECURSIVE lane",
    "FROM notices",
    "FROM jobs",
];

/// Publishes so many events one by one, each with a kilobyte, from many callers at once.
async fn publish(tenant: &Tenant, event_type: &str, events: usize) {
    let path = format!("/v1/locations/{}/events", tenant.location_id);
    let text = "x".repeat(DATA_BYTES - r#"{"text":""}"#.len());
    let body = json!({"type": event_type, "data": {"text": text}});
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let (client, path, body) = (tenant.client.clone(), path.clone(), body.clone());
        publishers.spawn(async move {
            for _ in (publisher..events).step_by(PUBLISHERS) {
                // A machine that is busy otherwise may refuse some; what is counted are those that it takes.
                loop {
                    let answer = client.post(&path, body.clone()).await;
                    if answer.status != 503 {
                        answer.expect(202);
                        break;
                    }
                }
            }
        });
    }
    publishers.join_all().await;
}

/// An endpoint for this type alone, whose receiver answers nothing that is worth keeping.
async fn endpoint(tenant: &Tenant, receiver: &Receiver, path: &str, event_type: &str) {
    receiver.script(path, [Answer::status(204).body("")]);
    let fields = json!({"event_types": [event_type], "max_in_flight": PUBLISHERS});
    tenant.endpoint(&receiver.url(path), fields).await;
}

/// Bytes of WAL that Postgres wrote for these events until all of them are delivered, but for what receivers answered.
async fn wal(sql: &mut Sql, tenant: &Tenant, event_type: &str, events: usize) -> f64 {
    const WRITTEN: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
    const ANSWERED: &str = "SELECT coalesce(sum(pg_column_size(response_headers)
        + coalesce(pg_column_size(response_body), 0)), 0)::bigint FROM attempts";
    let before = (sql.count(WRITTEN).await, sql.count(ANSWERED).await);
    publish(tenant, event_type, events).await;
    sql.until("SELECT count(*) FROM queue", 0).await;
    let written = sql.count(WRITTEN).await - before.0;
    (written - (sql.count(ANSWERED).await - before.1)) as f64
}

#[tokio::test]
async fn a_delivery_writes_no_more_than_its_bytes_of_wal() {
    const EVENTS: usize = 2_000;
    let dir = private_dir();
    // Nobody else writes there, and a throw-away cluster writes no images of whole pages.
    let postgres = private_postgres(dir.path(), Kind::Throwaway).await;
    let database = postgres.connect_options(DATABASE).disable_statement_logging();
    let mut sql = Sql::open(&database).await;
    sql.run("ALTER SYSTEM SET autovacuum = off").await;
    sql.run("SELECT pg_reload_conf()").await;
    let off = "SELECT count(*) FROM pg_settings WHERE name IN ('autovacuum', 'full_page_writes') AND setting = 'off'";
    sql.until(off, 2).await;
    let mut app = start(settings(&database, &[]), database, BOTH).await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    endpoint(&tenant, &receiver, "/one", "message.incoming").await;
    wal(&mut sql, &tenant, "message.incoming", PUBLISHERS).await;
    let (mut alone, mut one) = (0.0, f64::INFINITY);
    for _ in 0..ROUNDS {
        // Events that nobody gets: what an event costs by itself.
        alone = wal(&mut sql, &tenant, "message.sent", EVENTS).await / EVENTS as f64;
        one = one.min(wal(&mut sql, &tenant, "message.incoming", EVENTS).await / EVENTS as f64 - alone);
        if one <= WAL_BYTES_MAX {
            break;
        }
    }

    for place in 0..FAN_OUT {
        endpoint(&tenant, &receiver, &format!("/ten/{place}"), "message.delivered").await;
    }
    wal(&mut sql, &tenant, "message.delivered", PUBLISHERS).await;
    let events = EVENTS / FAN_OUT;
    let each = wal(&mut sql, &tenant, "message.delivered", events).await / events as f64;
    let ten = (each - alone) / FAN_OUT as f64;
    println!(
        "WAL of an event: {alone:.0} bytes; of a delivery besides: {one:.0}, to {FAN_OUT} endpoints {ten:.0}"
    );
    assert!(one <= WAL_BYTES_MAX && ten <= WAL_BYTES_AMONG_OTHERS_MAX, "{one}, {ten}");
    app.stop().await;
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn at_load_ten_deliveries_share_a_statement() {
    const EVENTS: usize = 3_000;
    let (database, name) = fresh_database().await;
    // Opened before: what this one asks is not explained.
    let mut sql = Sql::open(&database).await;
    let explainer = Explainer::on(&mut Sql(superuser(&name).await)).await;
    let mut app = start(settings(&database, &[]), database, BOTH).await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    endpoint(&tenant, &receiver, "/one", "message.incoming").await;
    publish(&tenant, "message.incoming", PUBLISHERS).await;
    sql.until("SELECT count(*) FROM queue", 0).await;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        explainer.take();
        publish(&tenant, "message.incoming", EVENTS).await;
        sql.until("SELECT count(*) FROM queue", 0).await;
        let mut statements: BTreeMap<String, usize> = BTreeMap::new();
        for one in explainer.take() {
            let words: Vec<&str> = one.statement.split_whitespace().collect();
            *statements.entry(words.join(" ")).or_default() += 1;
        }
        statements.retain(|statement, _| !BY_THE_CLOCK.iter().any(|known| statement.contains(known)));
        assert!(statements.keys().any(|statement| statement.contains("INSERT INTO events")), "they are seen");
        let each = statements.values().sum::<usize>() as f64 / EVENTS as f64;
        println!("{each:.3} statements a delivery");
        if each <= STATEMENTS_MAX {
            app.stop().await;
            return;
        }
        rounds.push((each, statements));
    }
    panic!("{rounds:#?}");
}
