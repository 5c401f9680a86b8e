//! Walls between tenants in the database: what the roles see, that the program works behind them, and that they stand after
//! whatever a migration may have found.

mod catalogue;
mod cost;
mod raising;
mod raw_sql;
mod requests;

/// Tables without a wall, and why none is needed.
const UNWALLED: [(&str, &str); 3] = [
    ("nodes", "who runs; tenants' role has no right to it"),
    ("shards", "numbers of shards and their versions: no tenant's"),
    ("_sqlx_migrations", "sqlx's own; tenants' role has no right to it"),
];

const TENANT_ROLE: &str = "posthaste_tenant";
/// As Postgres refuses a row of another tenant, and what the role has no right to.
const REFUSED: &str = "42501";
