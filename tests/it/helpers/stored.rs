//! Everything that is stored, to tell whether a request changed any of it.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection, Row};

/// Changes by itself: beats and ownership of the nodes, and what sqlx keeps.
const NOT_OURS: [&str; 3] = ["nodes", "shards", "_sqlx_migrations"];

/// The rows of every table, as text, in a fixed order.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored(BTreeMap<String, Vec<String>>);

impl Stored {
    /// Nothing must be on its way: deliveries ended, requests answered. When a key was last used or an endpoint last
    /// succeeded does not count: that is written behind.
    pub async fn read(db: &mut PgConnection) -> Self {
        let tables = sqlx::query_scalar::<_, String>(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
             AND NOT relispartition",
        )
        .fetch_all(&mut *db)
        .await
        .expect("the tables");
        let mut stored = BTreeMap::new();
        for table in tables.into_iter().filter(|table| !NOT_OURS.contains(&table.as_str())) {
            let sql = format!(
                "SELECT ((to_jsonb(t) - '{{last_used_at,last_success_at,last_failure_at}}'::text[])::text) AS line FROM \"{table}\" t ORDER BY line"
            );
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *db).await.expect("its rows");
            stored.insert(table, rows.iter().map(|row| row.get("line")).collect());
        }
        // A command that was given to the owners of the shards.
        let commands = sqlx::query_scalar::<_, String>("SELECT sum(config_version)::text FROM shards");
        stored.insert("commands".to_owned(), vec![commands.fetch_one(db).await.expect("a sum")]);
        Self(stored)
    }

    /// Rows of a table.
    pub fn count(&self, table: &str) -> usize {
        self.0.get(table).unwrap_or_else(|| panic!("no table {table}")).len()
    }

    /// Whether any row has this text.
    pub fn mentions(&self, text: &str) -> bool {
        self.0.values().flatten().any(|row| row.contains(text))
    }

    /// Fails where a table is not as it was before.
    #[track_caller]
    pub fn assert_same(&self, before: &Self, after_what: &str) {
        for (table, rows) in &self.0 {
            assert_eq!(Some(rows), before.0.get(table), "{table} changed after: {after_what}");
        }
    }
}
