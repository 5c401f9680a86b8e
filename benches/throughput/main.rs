//! Throughput of the whole program: events published one by one, delivered to one fast receiver, everything on this machine.
//!
//! `cargo bench --bench throughput [-- EVENTS]`. Starts `posthaste serve` on a private, durable Postgres in a temporary
//! directory, with the load and the receiver in this process. Says deliveries a second as a share of raw POSTs in the same
//! run, CPU a delivery (Posthaste and its Postgres together), WAL bytes and statements. Bounded in count; loopback only.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails here says where")]

mod http;
mod usage;

use std::{
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use http::{Load, Sink};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use usage::Usage;

const EVENTS_DEFAULT: usize = 20_000;
const EVENTS_MAX: usize = 1_000_000;
/// Connections that publish at once.
const PUBLISHERS: usize = 64;
const DATA_BYTES: usize = 1_024;

#[tokio::main]
async fn main() {
    let events = std::env::args()
        .filter_map(|text| text.parse().ok())
        .next()
        .unwrap_or(EVENTS_DEFAULT)
        .min(EVENTS_MAX);
    let directory = tempfile::Builder::new().prefix("posthaste-bench-").tempdir().unwrap();
    open_to_all(directory.path());
    let sink = Sink::start().await;

    let raw = Load::new(
        sink.address,
        &format!(
            "POST /raw HTTP/1.1\r\nhost: a\r\ncontent-length: {DATA_BYTES}\r\n\r\n{}",
            "x".repeat(DATA_BYTES)
        ),
    );
    let raw_per_s = raw.run(events, PUBLISHERS).await.per_s(events);
    sink.count.store(0, Ordering::Relaxed);

    let program = Program::start(directory.path());
    let api = Api { base: program.base.clone(), key: program.operator_key.clone() };
    let tenant = api.post("/v1/tenants", json!({"name": "bench"})).await;
    let scopes = ["read", "write", "publish"];
    let key = api
        .post(
            &format!("/v1/tenants/{}/keys", tenant["id"].as_str().unwrap()),
            json!({"name": "k", "scopes": scopes}),
        )
        .await;
    let api = Api { base: program.base.clone(), key: key["key"].as_str().unwrap().to_owned() };
    let url = format!("http://{}/hook", sink.address);
    api.post(
        "/v1/endpoints",
        json!({"name": "sink", "url": url, "event_types": ["message.incoming"], "max_in_flight": 64}),
    )
    .await;

    let mut sql = program.sql(directory.path()).await;
    // Events that nobody gets: what an event costs by itself. Also warms up what a running service has warm.
    let alone = measure(&program, &mut sql, &sink, &api, "message.sent", events, 0).await;
    let delivered = measure(&program, &mut sql, &sink, &api, "message.incoming", events, events).await;

    let count = events as f64;
    println!("{events} events of {DATA_BYTES} bytes of data, {PUBLISHERS} publishers, one endpoint");
    println!("raw POSTs                {raw_per_s:>10.0} /s (client and receiver alone)");
    println!(
        "deliveries               {:>10.0} /s, publish to last receipt",
        count / delivered.wall.as_secs_f64()
    );
    println!("  share of raw POSTs     {:>10.3}", count / delivered.wall.as_secs_f64() / raw_per_s);
    println!(
        "CPU a delivery           {:>10.1} µs (Posthaste {:.1}, Postgres {:.1}), publish to finish",
        delivered.cpu_us(events),
        delivered.program_us(events),
        delivered.postgres_us(events)
    );
    println!("  an event alone         {:>10.1} µs", alone.cpu_us(events));
    println!("WAL an event alone       {:>10.0} bytes", alone.wal as f64 / count);
    println!(
        "WAL a delivery           {:>10.0} bytes besides",
        (delivered.wal as f64 - alone.wal as f64) / count
    );
    println!(
        "transactions an event    {:>10.4} alone, {:.4} with its delivery",
        alone.transactions as f64 / count,
        delivered.transactions as f64 / count
    );
    println!("memory of the program    {:>10} KiB at its peak", usage::peak_kib(program.pid));
    program.stop();
}

struct Measured {
    wall: Duration,
    before: Usage,
    after: Usage,
    wal: i64,
    transactions: i64,
}

impl Measured {
    fn program_us(&self, events: usize) -> f64 {
        (self.after.program_us - self.before.program_us) / events as f64
    }

    fn postgres_us(&self, events: usize) -> f64 {
        (self.after.postgres_us - self.before.postgres_us) / events as f64
    }

    fn cpu_us(&self, events: usize) -> f64 {
        self.program_us(events) + self.postgres_us(events)
    }
}

async fn measure(
    program: &Program,
    sql: &mut PgConnection,
    sink: &Sink,
    api: &Api,
    event_type: &str,
    events: usize,
    expected: usize,
) -> Measured {
    let body = json!({"type": event_type, "data": {"text": "x".repeat(DATA_BYTES - 11)}}).to_string();
    let request = format!(
        "POST /v1/locations/default/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        api.key,
        body.len()
    );
    let load = Load::new(program.base.trim_start_matches("http://").parse().unwrap(), &request);
    load.run(PUBLISHERS * 4, PUBLISHERS).await;
    sink.wait_for(if expected > 0 { PUBLISHERS * 4 } else { 0 }).await;
    empty_queue(sql).await;
    sink.count.store(0, Ordering::Relaxed);
    sqlx::query("CHECKPOINT").execute(&mut *sql).await.unwrap();
    let (wal, transactions) = counters(sql).await;
    let before = Usage::of(program.pid, program.postmaster);
    let started = Instant::now();
    load.run(events, PUBLISHERS).await;
    sink.wait_for(expected).await;
    let wall = started.elapsed();
    empty_queue(sql).await;
    let after = Usage::of(program.pid, program.postmaster);
    let (wal_after, transactions_after) = counters(sql).await;
    Measured { wall, before, after, wal: wal_after - wal, transactions: transactions_after - transactions }
}

/// Until every result is on disk.
async fn empty_queue(sql: &mut PgConnection) {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    loop {
        looks.tick().await;
        let waiting: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM queue)").fetch_one(&mut *sql).await.unwrap();
        if !waiting {
            return;
        }
    }
}

/// WAL position and committed transactions; the statistics are up to date a second later at most.
async fn counters(sql: &mut PgConnection) -> (i64, i64) {
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    sqlx::query_as("SELECT (pg_current_wal_lsn() - '0/0')::bigint, xact_commit FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(sql)
        .await
        .unwrap()
}

struct Program {
    child: std::process::Child,
    pid: u32,
    postmaster: u32,
    base: String,
    operator_key: String,
}

impl Program {
    fn start(directory: &std::path::Path) -> Self {
        use std::io::BufRead;
        let mut child = Command::new(env!("CARGO_BIN_EXE_posthaste"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--allow-targets",
                "127.0.0.0/8",
                "--allow-http",
                "true",
                "--log",
                "warn",
            ])
            .arg("--data-dir")
            .arg(directory.join("data"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut base, mut operator_key) = (String::new(), String::new());
        for line in lines {
            let line = line.unwrap();
            if let Some(key) = line.strip_prefix("operator key: ") {
                operator_key = key.to_owned();
            }
            if let Some(address) = line.strip_prefix("listening on ") {
                base = address.to_owned();
                break;
            }
        }
        let pidfile = std::fs::read_to_string(directory.join("data/postgres/data/postmaster.pid")).unwrap();
        let postmaster = pidfile.lines().next().unwrap().parse().unwrap();
        Self { pid: child.id(), child, postmaster, base, operator_key }
    }

    async fn sql(&self, directory: &std::path::Path) -> PgConnection {
        let pidfile = std::fs::read_to_string(directory.join("data/postgres/data/postmaster.pid")).unwrap();
        let socket = pidfile.lines().nth(4).unwrap().to_owned();
        let options =
            PgConnectOptions::new_without_pgpass().socket(socket).username("posthaste").database("posthaste");
        PgConnection::connect_with(&options).await.unwrap()
    }

    fn stop(mut self) {
        Command::new("kill").arg(self.pid.to_string()).status().unwrap();
        self.child.wait().unwrap();
    }
}

/// As root, Postgres runs as another user and must get in.
fn open_to_all(directory: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
}

struct Api {
    base: String,
    key: String,
}

impl Api {
    async fn post(&self, path: &str, body: Value) -> Value {
        let request =
            reqwest::Client::new().post(format!("{}{path}", self.base)).bearer_auth(&self.key).json(&body);
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
        response.json().await.unwrap()
    }
}

/// Shared by the load and the receiver: neither should cost much next to what they measure.
type Counter = Arc<std::sync::atomic::AtomicUsize>;
