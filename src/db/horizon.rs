//! Who may still be working on an old picture of the database.
//!
//! A statement sees what was committed when it began, so after a commit others go on for a while as if it had not happened.
//! Whoever writes here is a client of this database; vacuum and replication don't count.

use sqlx::PgExecutor;

/// A mark in the order of transactions: everything that began before this is below it.
pub async fn mark(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS "mark!""#)
        .fetch_one(db)
        .await
}

/// Whether everybody who began before the mark has ended: whoever had written by then, and whoever reads as of then.
pub async fn passed(db: impl PgExecutor<'_>, mark: i64) -> sqlx::Result<bool> {
    // Transaction ids are shown there as 32 bits, which go round; ages compare.
    sqlx::query_scalar!(
        r#"
        SELECT NOT EXISTS (
            SELECT 1 FROM pg_stat_activity a CROSS JOIN (SELECT age(($1::bigint & 4294967295)::text::xid) AS age) m
            WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
                -- Other roles' are not told, and count.
                AND coalesce(a.backend_type, 'client backend') = 'client backend'
                AND (age(a.backend_xid) > m.age OR age(a.backend_xmin) > m.age)
        ) AS "passed!"
        "#,
        mark
    )
    .fetch_one(db)
    .await
}
