//! Connections that may lead through a pooler in transaction mode, such as PgBouncer.
//!
//! Such a pooler lends a connection to Postgres from one `BEGIN` to its end, and then to somebody else. What is of the session is
//! therefore nobody's: settings don't last, and a prepared statement is there for whoever comes next, who may have another of
//! the same name. So through a pooler everything is in a transaction, which begins by clearing away what others have
//! prepared, and has its settings for itself alone. That costs two round trips more for a single statement, and each is planned
//! anew. `LISTEN`, locks of a session and migrations can't be had at all: only the API works through a pooler.
//!
//! What it does not do: ask the pooler what it is. One that hands the session's settings on is as good as Postgres itself.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use sqlx::{AssertSqlSafe, PgConnection, PgPool, PgTransaction, Postgres, pool::PoolConnection};

/// A session setting and its value.
pub(super) type Setting = (&'static str, &'static str);

/// Connections of the API.
#[derive(Clone, Debug)]
pub struct SharedPool {
    pool: PgPool,
    /// What a transaction begins with, where a pooler is in between.
    opening: Option<Arc<str>>,
}

impl SharedPool {
    /// To Postgres itself; the pool's connections have their settings.
    pub fn direct(pool: PgPool) -> Self {
        Self { pool, opening: None }
    }

    pub(super) fn through_pooler(pool: PgPool, settings: &[Setting]) -> Self {
        Self { pool, opening: Some(opening(settings).into()) }
    }

    /// Whether a pooler is in between.
    pub fn is_shared(&self) -> bool {
        self.opening.is_some()
    }

    pub async fn begin(&self) -> sqlx::Result<PgTransaction<'static>> {
        self.begin_with("").await
    }

    /// The same in one message with statements of its own, each ended by a semicolon: they are of the transaction.
    pub(super) async fn begin_with(&self, statements: &str) -> sqlx::Result<PgTransaction<'static>> {
        match self.opening.as_deref() {
            None if statements.is_empty() => self.pool.begin().await,
            opening => {
                // `BEGIN` comes last, and takes what was set before it into its transaction: if one of these is refused, none
                // is left open.
                let begin = format!("{}{statements} BEGIN", opening.unwrap_or_default());
                self.pool.begin_with(AssertSqlSafe(begin)).await
            }
        }
    }

    /// For a single statement: by itself where that is possible. Whoever writes must commit.
    pub async fn lease(&self) -> sqlx::Result<Lease> {
        Ok(match self.opening {
            None => Lease::Connection(self.pool.acquire().await?),
            Some(_) => Lease::Transaction(self.begin().await?),
        })
    }

    /// The connections as they are: for a worker, which has no pooler in between, for metrics, and to close them.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

/// A connection for a single statement.
pub enum Lease {
    Connection(PoolConnection<Postgres>),
    Transaction(PgTransaction<'static>),
}

impl Lease {
    pub async fn commit(self) -> sqlx::Result<()> {
        match self {
            Self::Connection(_) => Ok(()),
            Self::Transaction(transaction) => transaction.commit().await,
        }
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Connection(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Connection(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

fn opening(settings: &[Setting]) -> String {
    let set: Vec<String> =
        settings.iter().map(|(name, value)| format!("set_config('{name}', '{value}', true)")).collect();
    format!("DEALLOCATE ALL; SELECT {};", set.join(", "))
}
