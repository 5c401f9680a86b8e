//! What must be done now and then, by any node, by one at a time: partitions, purges, expiry.
//!
//! Each duty takes an advisory lock for its transaction; a node that does not get it leaves the duty to the one that has it.
//! Duties are small and repeat themselves, so a crash in the middle costs nothing.

mod failing;
pub mod jobs;
pub mod partitions;
mod purge;

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{queue::expunge, types::Clock};

/// How often the duties are looked at.
const EVERY: Duration = Duration::from_secs(30);

/// Locks of the duties, the same in every version of the program.
#[derive(Clone, Copy)]
enum Duty {
    Partitions = 0x5057_0001,
    Purge = 0x5057_0002,
    Failing = 0x5057_0003,
}

/// Whether this transaction may do the duty.
async fn is_ours(db: &mut PgConnection, duty: Duty) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock($1) AS "ours!""#, duty as i64).fetch_one(db).await
}

/// Runs the duties until `stop`.
pub async fn run(pool: PgPool, clock: Clock, retention_days: u16, stop: CancellationToken) {
    loop {
        let duties = async {
            partitions::tend(&pool, &clock, retention_days).await?;
            failing::disable(&pool).await?;
            purge::deleted_endpoints(&pool).await?;
            expunge::late_responses(&mut *pool.acquire().await?).await?;
            crate::jobs::purge_finished(&pool, retention_days).await?;
            purge::old_keys_and_nodes(&pool).await
        };
        tokio::select! {
            () = stop.cancelled() => return,
            done = duties => if let Err(error) = done {
                tracing::warn!(%error, "maintenance was cut short; it goes on in a moment");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
