//! The runner of jobs: on every node that works, step by step, whichever job's turn it is.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::jobs::{self, Stepped};

/// How often the jobs are looked at while none has its turn: the longest that a new one waits.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// After an error.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Runs until `stop`. A step that is cut off is as if it had not begun.
pub async fn run(pool: PgPool, stop: CancellationToken) {
    loop {
        let pause = tokio::select! {
            () = stop.cancelled() => return,
            stepped = jobs::step(&pool) => match stepped {
                Ok(Stepped::Worked) => continue,
                Ok(Stepped::Idle) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "jobs wait for a moment");
                    TRY_AGAIN
                }
            },
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
