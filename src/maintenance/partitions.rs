//! Partitions: one UTC day each, made ahead, dropped when the retention has passed.
//!
//! The tables are ranged over UUIDv7 ids, whose first 48 bits are the milliseconds since 1970: a day is a range of ids.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use time::{Date, OffsetDateTime, Time};

use super::{Duty, is_ours};
use crate::types::{Clock, Timestamp};

/// Days made ahead: maintenance may be down for so long before publishing fails.
const DAYS_AHEAD: i64 = 3;
/// Days kept before today, so that clocks may differ around midnight.
const DAYS_BEFORE: i64 = 1;
/// With what their partitions are made with.
const TABLES: [(&str, &str); 4] =
    [("events", APPENDED), ("attempts", APPENDED), ("settled", ""), ("endpoint_stats", UPDATED)];
/// No vacuum after every so many inserts: rows that only wait to be dropped with their table have nothing to clean, and to mark a page
/// as seen by all writes it whole into the log, more than all else that a delivery writes.
const APPENDED: &str = " WITH (autovacuum_vacuum_insert_threshold = -1)";
/// Rows that are updated in place need room for it.
const UPDATED: &str = " WITH (fillfactor = 50)";
/// Dropping takes an exclusive lock; it waits this long for it and tries again later.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '2s'";

/// Makes what is missing and drops what has expired.
pub async fn tend(pool: &PgPool, clock: &Clock, retention_days: u16) -> sqlx::Result<()> {
    let today = clock.now().datetime().date();
    let mut transaction = pool.begin().await?;
    if !is_ours(&mut transaction, Duty::Partitions).await? {
        return Ok(());
    }
    sqlx::query(LOCK_TIMEOUT).execute(&mut *transaction).await?;
    ensure(&mut transaction, today).await?;
    let oldest = today - time::Duration::days(i64::from(retention_days));
    for (table, day) in existing(&mut transaction).await? {
        if day < oldest {
            tracing::info!(partition = name(&table, day), "dropping a partition whose retention has passed");
            let drop = format!("DROP TABLE {}", name(&table, day));
            sqlx::query(AssertSqlSafe(drop)).execute(&mut *transaction).await?;
        }
    }
    transaction.commit().await
}

/// Before anything else at every start: without today's partition nothing can be published. Waits for whoever is at it.
pub async fn ensure_now(db: &mut PgConnection) -> sqlx::Result<()> {
    let now = sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(&mut *db).await?;
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", Duty::Partitions as i64).execute(&mut *db).await?;
    ensure(db, now.to_offset(time::UtcOffset::UTC).date()).await
}

async fn ensure(db: &mut PgConnection, today: Date) -> sqlx::Result<()> {
    let known = existing(db).await?;
    for (table, storage) in TABLES {
        for days in -DAYS_BEFORE..=DAYS_AHEAD {
            let day = today + time::Duration::days(days);
            if known.contains(&(table.to_owned(), day)) {
                continue;
            }
            let (from, to) = (lowest_id(day), lowest_id(day + time::Duration::days(1)));
            let create = format!(
                "CREATE TABLE {} PARTITION OF {table} FOR VALUES FROM ('{from}') TO ('{to}'){storage}",
                name(table, day)
            );
            sqlx::query(AssertSqlSafe(create)).execute(&mut *db).await?;
        }
    }
    Ok(())
}

fn name(table: &str, day: Date) -> String {
    format!("{table}_{:04}{:02}{:02}", day.year(), u8::from(day.month()), day.day())
}

fn lowest_id(day: Date) -> uuid::Uuid {
    Timestamp::from(OffsetDateTime::new_utc(day, Time::MIDNIGHT)).lowest_id()
}

/// The partitions there are, by table and day. Names that are not of this form are somebody else's business.
async fn existing(db: &mut PgConnection) -> sqlx::Result<Vec<(String, Date)>> {
    let tables: Vec<String> = TABLES.iter().map(|(table, _)| (*table).to_owned()).collect();
    let rows = sqlx::query!(
        r#"SELECT p.relname::text AS "parent!", c.relname::text AS "name!"
           FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
           WHERE p.relname = ANY($1::text[]) AND p.relkind = 'p'"#,
        &tables
    )
    .fetch_all(db)
    .await?;
    let day = |parent: &str, name: &str| {
        let digits = name.strip_prefix(parent)?.strip_prefix('_')?;
        let (year, rest) = digits.split_at_checked(4)?;
        let (month, day) = rest.split_at_checked(2)?;
        let month = time::Month::try_from(month.parse::<u8>().ok()?).ok()?;
        Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()
    };
    Ok(rows.into_iter().filter_map(|row| Some((row.parent.clone(), day(&row.parent, &row.name)?))).collect())
}
