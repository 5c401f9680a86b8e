//! What keeps the schema and the statements ready for more than one Postgres (ARCHITECTURE.md, "Beyond one Postgres"): looked up
//! in the catalogue, and in the text of every statement.

mod catalogue;
mod sql;
mod statements;

/// Tables that are spread over machines by `shard`.
const SPREAD: [&str; 10] = [
    "attempts",
    "endpoint_health",
    "endpoint_stats",
    "events",
    "idempotency",
    "locations",
    "notices",
    "queue",
    "settled",
    "shards",
];
