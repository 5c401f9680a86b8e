//! Keys, references and defaults.

use sqlx::ConnectOptions;

use super::SPREAD;
use crate::helpers::cluster::fresh_database;

/// Tables with a shard that are not spread: management, which every machine has in full.
const WITH_A_SHARD: [&str; 1] = ["endpoints"];

/// Unique without the shard: an `external_id` is unique within its tenant, whose locations are in many shards, and endpoints
/// refer to their location by tenant. Whoever spreads `locations` gives both to the management's copy of it.
const UNIQUE_WITHOUT: [&str; 2] = ["locations_tenant_id_external_id_key", "locations_tenant_id_id_key"];

/// References from or to a spread table, all from or to management.
const REFERENCES: [&str; 3] = ["endpoints -> locations", "locations -> tenants", "shards -> nodes"];

async fn column(query: &'static str) -> Vec<String> {
    let (database, _) = fresh_database().await;
    let mut db = database.connect().await.unwrap();
    let spread: Vec<&str> = SPREAD.to_vec();
    sqlx::query_scalar(query).bind(spread).fetch_all(&mut db).await.unwrap()
}

#[tokio::test]
async fn every_key_begins_with_the_shard() {
    let others = column(
        "SELECT i.indexrelid::regclass::text FROM pg_index i
         JOIN pg_class c ON c.oid = i.indrelid AND NOT c.relispartition AND c.relname = ANY($1)
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indisunique AND a.attname <> 'shard' ORDER BY 1",
    )
    .await;
    assert_eq!(others, UNIQUE_WITHOUT);
}

#[tokio::test]
async fn every_table_with_a_shard_is_known_and_has_no_row_without_one() {
    let tables = column(
        "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'shard' AND a.attnotnull
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
            AND cardinality($1::text[]) > 0
         ORDER BY 1",
    )
    .await;
    let mut known: Vec<&str> = SPREAD.into_iter().chain(WITH_A_SHARD).collect();
    known.sort_unstable();
    assert_eq!(tables, known);
}

#[tokio::test]
async fn nothing_refers_from_one_spread_table_to_another() {
    let references = column(
        "SELECT f.conrelid::regclass || ' -> ' || f.confrelid::regclass FROM pg_constraint f
         JOIN pg_class c ON c.oid = f.conrelid AND NOT c.relispartition
         WHERE f.contype = 'f' AND f.conparentid = 0
            AND (f.conrelid::regclass::text = ANY($1) OR f.confrelid::regclass::text = ANY($1))
         ORDER BY 1",
    )
    .await;
    assert_eq!(references, REFERENCES);
}

/// A default that calls something keeps an `INSERT … SELECT` from being pushed down, and a trigger acts where nobody looks.
#[tokio::test]
async fn spread_tables_have_constant_defaults_and_no_triggers() {
    let acting = column(
        "SELECT c.relname || '.' || a.attname FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid
         JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
         WHERE c.relname = ANY($1) AND pg_get_expr(d.adbin, d.adrelid) LIKE '%(%'
         UNION ALL
         SELECT t.tgname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
         WHERE NOT t.tgisinternal AND c.relname = ANY($1)",
    )
    .await;
    assert_eq!(acting, [""; 0]);
}
