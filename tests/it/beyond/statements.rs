//! The statements: those of `.sqlx/`, which are all, and those inside the database's own functions.

use std::{collections::HashSet, fs};

use sqlx::ConnectOptions;

use super::sql::Sql;
use crate::helpers::cluster::fresh_database;

/// Why a statement may look beyond the shards that it is given.
const OWNERSHIP: &str = "who owns what: a cell has nodes and shards of its own";
const BY_TENANT: &str =
    "a tenant's locations and endpoints are in many shards: management asks by tenant, a page at a time";
const UPKEEP: &str = "maintenance, some rows at a time, on every machine by itself";
const REKEY: &str = "rekey reads everything that is sealed";
const SWEEP: &str =
    "skips from lane to lane: asking for each of 4,096 shards would cost more; on every machine by itself";

/// Each of these begins so (white space made one), names this table without its shard, and has a reason.
const BEYOND: [(&str, &str, &str); 28] = [
    ("DELETE FROM nodes n WHERE n.dead", "shards", OWNERSHIP),
    ("SELECT coalesce(array_agg(shard), '{}') AS \"shards!\"", "shards", OWNERSHIP),
    ("SELECT shard FROM shards WHERE node = $1 ORDER BY shard FOR UPDATE", "shards", OWNERSHIP),
    ("SELECT shard, config_seen, config_version", "shards", OWNERSHIP),
    ("UPDATE shards SET node = CASE WHEN shard = ANY($3)", "shards", OWNERSHIP),
    (
        "UPDATE shards SET node = NULL, epoch = epoch + 1, unclean = false WHERE node = $1",
        "shards",
        OWNERSHIP,
    ),
    (
        "UPDATE shards s SET node = $1, epoch = s.epoch + 1 WHERE s.shard IN ( SELECT f.shard",
        "shards",
        OWNERSHIP,
    ),
    ("SELECT 1 + (SELECT count(*) FROM endpoints WHERE tenant_id = $1)", "locations", BY_TENANT),
    ("SELECT 1 AS one FROM locations WHERE tenant_id = $1", "locations", BY_TENANT),
    ("SELECT count(*) FILTER (WHERE e.paused_at IS NULL", "endpoint_health", BY_TENANT),
    ("SELECT e.id AS \"id: EndpointId\", (e.paused_at IS NOT NULL", "endpoint_health", BY_TENANT),
    ("SELECT id AS \"id!: LocationId\", name AS \"name!\", external_id", "locations", BY_TENANT),
    ("SELECT id AS \"id: LocationId\" FROM locations WHERE tenant_id = $1 LIMIT 1", "locations", BY_TENANT),
    ("SELECT id AS \"id: LocationId\", name, external_id", "locations", BY_TENANT),
    ("SELECT id FROM locations WHERE tenant_id = $1", "locations", BY_TENANT),
    ("SELECT l.id AS \"location_id: LocationId\", l.routing_version", "endpoint_health", BY_TENANT),
    ("SELECT l.id AS \"location_id: LocationId\", l.routing_version", "locations", BY_TENANT),
    ("UPDATE locations SET deleted_at = coalesce(deleted_at, $2)", "locations", BY_TENANT),
    (
        "WITH locked AS MATERIALIZED ( SELECT shard, id FROM locations WHERE tenant_id = $1",
        "locations",
        BY_TENANT,
    ),
    ("WITH matching AS ( SELECT e.*, h.failing_since", "endpoint_health", BY_TENANT),
    ("DELETE FROM idempotency WHERE created_at <", "idempotency", UPKEEP),
    ("DELETE FROM notices n USING ( SELECT s.shard", "notices", UPKEEP),
    (
        "SELECT e.tenant_id AS \"tenant_id: TenantId\", e.id AS \"id: EventId\" FROM events e WHERE e.expunged_at",
        "events",
        UPKEEP,
    ),
    ("SELECT l.id AS \"id: LocationId\" FROM locations l WHERE l.deleted_at <", "locations", UPKEEP),
    ("UPDATE endpoint_health h SET disabled_at = d.now", "endpoint_health", UPKEEP),
    ("SELECT count(*) AS \"count!\" FROM idempotency WHERE substring(answer", "idempotency", REKEY),
    ("SELECT shard, tenant_id, route, key, claim, answer FROM idempotency", "idempotency", REKEY),
    ("WITH RECURSIVE lane(shard, endpoint_id)", "queue", SWEEP),
];

/// Every statement of the program with its text, white space made one.
fn statements() -> Vec<String> {
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.sqlx")).unwrap();
    let mut statements: Vec<String> = files
        .map(|file| {
            let query: serde_json::Value =
                serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
            query["query"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(statements.len() > 150, "all of them are there");
    statements.sort_unstable();
    statements
}

/// The bodies of the database's own functions.
async fn functions() -> Vec<String> {
    let (database, _) = fresh_database().await;
    let mut db = database.connect().await.unwrap();
    let bodies = "SELECT prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosrc <> ''";
    sqlx::query_scalar(bodies).fetch_all(&mut db).await.unwrap()
}

#[tokio::test]
async fn every_statement_gives_the_shard_of_each_spread_table() {
    let mut unused: HashSet<(&str, &str)> = BEYOND.iter().map(|(start, table, _)| (*start, *table)).collect();
    let mut wrong = Vec::new();
    for text in statements().into_iter().chain(functions().await) {
        let sql = Sql::read(&text);
        let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for named in sql.named().iter().filter(|named| !sql.says_shard(named)) {
            match BEYOND.iter().find(|(start, table, _)| plain.starts_with(start) && named.table == *table) {
                Some((start, table, _)) => {
                    unused.remove(&(*start, *table));
                }
                None => wrong.push(format!("{} in {plain}", named.table)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(unused.is_empty(), "no such statement: {unused:?}");
}

#[tokio::test]
async fn no_change_of_a_spread_table_calls_what_answers_differently_each_time() {
    let texts: Vec<String> = statements().into_iter().chain(functions().await).collect();
    let called: HashSet<String> = texts.iter().flat_map(|text| Sql::read(text).calls_of_changes()).collect();
    assert!(called.contains("greatest") || called.contains("unnest"), "calls are seen: {called:?}");
    let (database, _) = fresh_database().await;
    let mut db = database.connect().await.unwrap();
    let volatile: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT proname::text FROM pg_proc WHERE proname = ANY($1) AND provolatile = 'v'",
    )
    .bind(called.into_iter().collect::<Vec<_>>())
    .fetch_all(&mut db)
    .await
    .unwrap();
    assert_eq!(volatile, [""; 0]);
}

#[test]
fn no_statement_moves_a_row_to_another_shard_or_goes_by_its_place() {
    for text in statements() {
        let sql = Sql::read(&text);
        assert!(!sql.moves_rows(), "{text}");
        assert!(!sql.has("ctid") && !sql.has("tableoid"), "{text}");
    }
}
