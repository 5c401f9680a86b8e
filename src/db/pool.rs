//! The pools on one database: the API's, and those of the engine with their plans pinned.

use std::time::{Duration, Instant};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::wall::TenantPool;
use crate::{telemetry::metrics::metrics, types::Clock};

const API_CONNECTIONS: u32 = 6;
const TENANT_CONNECTIONS: u32 = 10;
const INGEST_CONNECTIONS: u32 = 4;
const ENGINE_CONNECTIONS: u32 = 5;
const FINISH_CONNECTIONS: u32 = 2;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Oldest Postgres that is supported, as `server_version_num`.
const POSTGRES_MIN_VERSION: i32 = 140_000;

/// Session settings of the engine. A queue's statistics are always wrong (rows live for milliseconds), so its plans don't
/// depend on them: index scans, planned once.
const ENGINE_SETTINGS: [(&str, &str); 6] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("lock_timeout", "500ms"),
];

/// The engine's statements are short; one that is not must not hold a connection for ever.
const ENGINE_STATEMENT_TIMEOUT: (&str, &str) = ("statement_timeout", "30s");
/// The API reads by key, a page at a time: plans for more than that (scans, hashes of whole tables, compiled code) are chosen by
/// wrong statistics alone.
const API_SETTINGS: [(&str, &str); 7] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("statement_timeout", "15s"),
    ("lock_timeout", "5s"),
];

/// For the same reason tenants' requests are planned once a connection, and not for their values: which connection has seen a
/// statement how often is chance.
const TENANT_PLANS: (&str, &str) = ("plan_cache_mode", "force_generic_plan");

/// What the parts of the program connect with.
#[derive(Clone)]
pub struct Pools {
    /// Keys, the operator's requests, maintenance.
    pub api: PgPool,
    /// Requests of tenants.
    pub tenants: TenantPool,
    /// Publishes.
    pub ingest: PgPool,
    /// Beats, refills, commands: never kept waiting by publishes.
    pub engine: PgPool,
    /// Finishes, whose commits don't wait for the disk: what a crash of Postgres forgets of them is sent again.
    pub finish: PgPool,
    pub clock: Clock,
}

impl Pools {
    /// Every pool by its name.
    fn all(&self) -> [(&'static str, &PgPool); 5] {
        [
            ("api", &self.api),
            ("tenants", self.tenants.pool()),
            ("ingest", &self.ingest),
            ("engine", &self.engine),
            ("finish", &self.finish),
        ]
    }

    pub async fn close(&self) {
        for (_, pool) in self.all() {
            pool.close().await;
        }
    }

    /// Tells the metrics how the connections stand.
    pub fn gauge(&self) {
        for (name, pool) in self.all() {
            metrics().pool(name, pool.size(), pool.num_idle());
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PoolsError {
    #[error("Postgres can't be reached: {0}")]
    Unreachable(#[source] sqlx::Error),
    #[error("Postgres {0} is too old: 14 is the oldest that Posthaste works with")]
    TooOld(String),
}

/// Connects the pools and measures the database's clock.
pub async fn connect(options: PgConnectOptions) -> Result<Pools, PoolsError> {
    // Quiet: a statement that is slow or fails is told by whoever ran it.
    let options = sqlx::ConnectOptions::disable_statement_logging(options).application_name("posthaste");
    let pool = |connections: u32, options: PgConnectOptions| {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            // The ping would double the round trips; a broken connection shows itself in its next statement.
            .test_before_acquire(false)
            .connect_lazy_with(options)
    };
    let api_options = options.clone().options(API_SETTINGS);
    let api = pool(API_CONNECTIONS, api_options.clone());
    let tenants = TenantPool::new(pool(TENANT_CONNECTIONS, api_options.options([TENANT_PLANS])));
    let engine_options = options.options(ENGINE_SETTINGS).options([ENGINE_STATEMENT_TIMEOUT]);
    let ingest = pool(INGEST_CONNECTIONS, engine_options.clone());
    let engine = pool(ENGINE_CONNECTIONS, engine_options.clone());
    let finish = pool(FINISH_CONNECTIONS, engine_options.options([("synchronous_commit", "off")]));
    let sent = Instant::now();
    let row = sqlx::query!(
        r#"SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS "now_us!",
                  current_setting('server_version_num')::int AS "version!", current_setting('server_version') AS "name!""#
    )
    .fetch_one(&api)
    .await
    .map_err(PoolsError::Unreachable)?;
    if row.version < POSTGRES_MIN_VERSION {
        return Err(PoolsError::TooOld(row.name));
    }
    Ok(Pools { api, tenants, ingest, engine, finish, clock: Clock::synced(row.now_us, sent) })
}
