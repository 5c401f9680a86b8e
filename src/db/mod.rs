//! The way to Postgres: pools, migrations, and the private cluster for those who bring none.

pub mod embedded;
pub mod horizon;
mod pool;
mod shared;
mod wall;

pub use pool::{Pools, PoolsError, connect, is_shared};
pub use shared::SharedPool;
pub use wall::{TenantPool, check_roles};

/// Applied in order at every start; see `migrations/README.md`.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// Whether the schema is this program's, or a later one's.
pub async fn is_migrated(db: impl sqlx::PgExecutor<'_>) -> sqlx::Result<bool> {
    let applied = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM _sqlx_migrations WHERE success"#);
    let known = i64::try_from(MIGRATOR.iter().count()).unwrap_or(i64::MAX);
    Ok(applied.fetch_one(db).await? >= known)
}
