//! The way to Postgres: pools, migrations, and the private cluster for those who bring none.

pub mod embedded;
pub mod horizon;
mod pool;

pub use pool::{Pools, PoolsError, connect};

/// Applied in order at every start; see `migrations/README.md`.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
