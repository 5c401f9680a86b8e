//! `posthaste serve` on a private, durable Postgres in a temporary directory, and its API.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use super::http::{NUMBER_DIGITS, Request};

/// Postgres counts what it did with this delay at most.
const COUNTED_WITHIN: Duration = Duration::from_millis(1_200);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of `{"n":"0000000000","text":""}`.
const DATA_AROUND_BYTES: usize = 28;

pub struct Program {
    child: Child,
    pub pid: u32,
    pub postmaster: u32,
    pub address: SocketAddr,
    operator_key: String,
    options: PgConnectOptions,
    pub sql: PgConnection,
}

impl Program {
    pub async fn start(directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_posthaste"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--allow-targets",
                "127.0.0.0/8",
                "--allow-http",
                "true",
            ])
            .args(["--log", "warn", "--data-dir"])
            .arg(directory.join("data"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut address, mut operator_key) = (None, String::new());
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(key) = line.strip_prefix("operator key: ") {
                operator_key = key.to_owned();
            }
            if let Some(url) = line.strip_prefix("listening on ") {
                address = Some(url.trim_start_matches("http://").parse().unwrap());
                break;
            }
        }
        let pidfile = std::fs::read_to_string(directory.join("data/postgres/data/postmaster.pid")).unwrap();
        let lines: Vec<&str> = pidfile.lines().collect();
        let options = PgConnectOptions::new_without_pgpass()
            .socket(lines[4])
            .username("posthaste")
            .database("posthaste");
        Self {
            pid: child.id(),
            child,
            postmaster: lines[0].parse().unwrap(),
            address: address.unwrap(),
            operator_key,
            sql: PgConnection::connect_with(&options).await.unwrap(),
            options,
        }
    }

    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// A new tenant, by its key.
    pub async fn tenant(&self, name: &str) -> Tenant {
        let operator = Tenant { address: self.address, key: self.operator_key.clone() };
        let tenant = operator.post("/v1/tenants", json!({"name": name})).await;
        let path = format!("/v1/tenants/{}/keys", tenant["id"].as_str().unwrap());
        let key =
            operator.post(&path, json!({"name": "bench", "scopes": ["read", "write", "publish"]})).await;
        Tenant { address: self.address, key: key["key"].as_str().unwrap().to_owned() }
    }

    /// Until nothing waits any more, and every result is on disk.
    pub async fn idle(&mut self) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            let waiting: bool = self.scalar("SELECT EXISTS (SELECT 1 FROM queue)").await;
            if !waiting {
                return;
            }
        }
    }

    pub async fn scalar<T>(&mut self, query: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(query).fetch_one(&mut self.sql).await.unwrap()
    }

    pub async fn run(&mut self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&mut self.sql).await.unwrap();
    }

    /// What Postgres has done since the cluster was made.
    pub async fn counters(&mut self) -> Counters {
        tokio::time::sleep(COUNTED_WITHIN).await;
        let (wal_bytes, page_images, transactions) = sqlx::query_as(
            "SELECT (pg_current_wal_lsn() - '0/0')::bigint, wal_fpi, xact_commit FROM pg_stat_database, pg_stat_wal
             WHERE datname = current_database()",
        )
        .fetch_one(&mut self.sql)
        .await
        .unwrap();
        Counters { wal_bytes, page_images, transactions }
    }

    pub fn stop(mut self) {
        Command::new("kill").arg(self.pid.to_string()).status().unwrap();
        self.child.wait().unwrap();
    }
}

#[derive(Clone, Copy)]
pub struct Counters {
    pub wal_bytes: i64,
    /// Whole pages among it: of each page that is changed for the first time after a checkpoint.
    pub page_images: i64,
    pub transactions: i64,
}

/// The API as one tenant calls it.
pub struct Tenant {
    address: SocketAddr,
    key: String,
}

impl Tenant {
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let request = reqwest::Client::new().post(format!("http://{}{path}", self.address));
        let response = request.bearer_auth(&self.key).json(&body).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
        response.json().await.unwrap_or_default()
    }

    pub async fn endpoint(&self, url: &str, event_type: &str) -> String {
        let body = json!({"name": "sink", "url": url, "event_types": [event_type], "max_in_flight": 64});
        self.post("/v1/endpoints", body).await["id"].as_str().unwrap().to_owned()
    }

    fn data(bytes: usize) -> Value {
        json!({"n": "0".repeat(NUMBER_DIGITS), "text": "x".repeat(bytes.saturating_sub(DATA_AROUND_BYTES))})
    }

    fn authorization(&self) -> String {
        format!("authorization: Bearer {}\r\n", self.key)
    }

    /// Publishes one event with so much data.
    pub fn publish(&self, event_type: &str, data_bytes: usize) -> Request {
        let body = json!({"type": event_type, "data": Self::data(data_bytes)}).to_string();
        Request::new("/v1/locations/default/events", &self.authorization(), &body)
    }

    pub fn publish_batch(&self, event_type: &str, data_bytes: usize, events: usize) -> Request {
        let event = json!({"location_id": "default", "type": event_type, "data": Self::data(data_bytes)});
        let body = json!({"events": vec![event; events]}).to_string();
        Request::new("/v1/events/batch", &self.authorization(), &body)
    }
}
