//! The pools on one database: the API's, and those of the engine with their plans pinned.

use std::time::{Duration, Instant};

use sqlx::{
    AssertSqlSafe, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    shared::{Setting, SharedPool},
    wall::TenantPool,
};
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
const ENGINE_SETTINGS: [Setting; 7] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("lock_timeout", "500ms"),
    // The engine's statements are short; one that is not must not hold a connection for ever.
    ("statement_timeout", "30s"),
];

/// The API reads by key, a page at a time: plans for more than that (scans, hashes of whole tables, compiled code) are chosen by
/// wrong statistics alone.
const API_SETTINGS: [Setting; 7] = [
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
const TENANT_PLANS: Setting = ("plan_cache_mode", "force_generic_plan");

/// SQLSTATE of a pooler that does not know the settings that a session begins with.
const PROTOCOL_VIOLATION: &str = "08P01";

/// What the parts of the program connect with.
#[derive(Clone)]
pub struct Pools {
    /// Keys, the operator's requests, maintenance.
    pub api: SharedPool,
    /// Requests of tenants.
    pub tenants: TenantPool,
    /// Publishes.
    pub ingest: SharedPool,
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
            ("api", self.api.pool()),
            ("tenants", self.tenants.pool()),
            ("ingest", self.ingest.pool()),
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

/// How the connections are made.
struct Maker {
    options: PgConnectOptions,
    is_shared: bool,
}

impl Maker {
    fn pool(&self, connections: u32, settings: &[Setting]) -> SharedPool {
        let options = self.options.clone();
        let options = if self.is_shared {
            options.statement_cache_capacity(0)
        } else {
            options.options(settings.iter().copied())
        };
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            // The ping would double the round trips; a broken connection shows itself in its next statement.
            .test_before_acquire(false)
            .connect_lazy_with(options);
        if self.is_shared { SharedPool::through_pooler(pool, settings) } else { SharedPool::direct(pool) }
    }
}

/// Whether this leads through a pooler: settings that a session begins with are refused there, or don't arrive.
pub async fn is_shared(options: &PgConnectOptions) -> Result<bool, PoolsError> {
    let pool = Maker { options: quiet(options.clone()), is_shared: false }.pool(1, &API_SETTINGS);
    let (name, value) = API_SETTINGS[0];
    // As text: where a pooler is in between, nothing may be prepared.
    let asked = sqlx::raw_sql(AssertSqlSafe(format!("SELECT current_setting('{name}')")));
    let arrived = asked.fetch_one(pool.pool()).await.and_then(|row| row.try_get::<String, _>(0));
    pool.pool().close().await;
    match arrived {
        Ok(arrived) => Ok(arrived != value),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(PROTOCOL_VIOLATION) => Ok(true),
        Err(error) => Err(PoolsError::Unreachable(error)),
    }
}

fn quiet(options: PgConnectOptions) -> PgConnectOptions {
    // A statement that is slow or fails is told by whoever ran it. Poolers don't know extra_float_digits, and no float is read
    // as text.
    sqlx::ConnectOptions::disable_statement_logging(options)
        .application_name("posthaste")
        .extra_float_digits(None)
}

/// Connects the pools and measures the database's clock.
pub async fn connect(options: PgConnectOptions) -> Result<Pools, PoolsError> {
    let maker = Maker { is_shared: is_shared(&options).await?, options: quiet(options) };
    let api = maker.pool(API_CONNECTIONS, &API_SETTINGS);
    let tenants = [&API_SETTINGS[..], &[TENANT_PLANS]].concat();
    let tenants = TenantPool::new(maker.pool(TENANT_CONNECTIONS, &tenants));
    let ingest = maker.pool(INGEST_CONNECTIONS, &ENGINE_SETTINGS);
    let engine = maker.pool(ENGINE_CONNECTIONS, &ENGINE_SETTINGS).pool().clone();
    let finish = [&ENGINE_SETTINGS[..], &[("synchronous_commit", "off")]].concat();
    let finish = maker.pool(FINISH_CONNECTIONS, &finish).pool().clone();
    let mut lease = api.lease().await.map_err(PoolsError::Unreachable)?;
    let sent = Instant::now();
    let row = sqlx::query!(
        r#"SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS "now_us!",
                  current_setting('server_version_num')::int AS "version!", current_setting('server_version') AS "name!""#
    )
    .fetch_one(&mut *lease)
    .await
    .map_err(PoolsError::Unreachable)?;
    drop(lease);
    if row.version < POSTGRES_MIN_VERSION {
        return Err(PoolsError::TooOld(row.name));
    }
    Ok(Pools { api, tenants, ingest, engine, finish, clock: Clock::synced(row.now_us, sent) })
}
