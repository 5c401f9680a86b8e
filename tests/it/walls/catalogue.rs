//! What the database's catalogue says of the walls. A new table fails here until it has one, or a reason for none.

use sqlx::{PgConnection, Row};

use super::{TENANT_ROLE, UNWALLED};
use crate::helpers::spawn;

/// Tables but for their partitions, each with whether it has a wall in full.
pub async fn tables(db: &mut PgConnection) -> Vec<(String, bool)> {
    // A policy of each kind, each for everything that is done and for one role alone; no other may open a gap.
    let rows = sqlx::query(
        "SELECT c.relname::text AS name, c.relrowsecurity AND c.relforcerowsecurity AND (
             SELECT array_agg(p.polname || ' ' || p.polcmd::text || ' ' || p.polroles::regrole[]::text ORDER BY p.polname)
             FROM pg_policy p WHERE p.polrelid = c.oid
         ) IS NOT DISTINCT FROM ARRAY['engine * {posthaste_engine}', 'tenant * {posthaste_tenant}'] AS walled
         FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
         ORDER BY 1",
    )
    .fetch_all(db)
    .await
    .unwrap();
    rows.iter().map(|row| (row.get("name"), row.get("walled"))).collect()
}

#[tokio::test]
async fn every_table_has_a_wall_or_a_reason_for_none() {
    let mut app = spawn().await;
    for (table, walled) in tables(&mut app.sql().await).await {
        let reason = UNWALLED.iter().find(|(name, _)| *name == table);
        assert_ne!(
            walled,
            reason.is_some(),
            "{table}: needs ENABLE and FORCE and both policies, or a reason"
        );
    }
    app.stop().await;
}

#[tokio::test]
async fn the_tenants_role_has_no_way_around() {
    let mut app = spawn().await;
    let mut db = app.sql().await;
    let mut none = async |what: &str, sql: &'static str| {
        let found: Vec<String> = sqlx::query_scalar(sql).bind(TENANT_ROLE).fetch_all(&mut db).await.unwrap();
        assert!(found.is_empty(), "{what}: {found:?}");
    };
    none(
        "what a role can",
        "SELECT rolname::text FROM pg_roles WHERE rolname = $1
         AND (rolsuper OR rolbypassrls OR rolcanlogin OR rolcreaterole OR rolcreatedb OR rolreplication)",
    )
    .await;
    none(
        "roles that it is a member of",
        "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = $1::regrole",
    )
    .await;
    none("what it owns", "SELECT relname::text FROM pg_class WHERE relowner = $1::regrole").await;
    // Partitions have no policies of their own: the way to them is by their parents alone.
    none(
        "partitions that it has a right to",
        "SELECT relname::text FROM pg_class WHERE relispartition AND relkind = 'r'
         AND has_any_column_privilege($1, oid, 'SELECT, INSERT, UPDATE, REFERENCES')",
    )
    .await;
    none(
        "what it may rewrite of what was done",
        "SELECT relname::text FROM pg_class WHERE relname IN ('audit_log', 'endpoint_versions', 'wire_format_versions')
         AND (has_any_column_privilege($1, oid, 'UPDATE') OR has_table_privilege($1, oid, 'DELETE, TRUNCATE'))",
    )
    .await;
    none(
        "functions that see more than whoever calls them",
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
         AND has_function_privilege($1, oid, 'EXECUTE') AND proname NOT IN ('webhook_is_taken', 'command_endpoint')",
    )
    .await;
    let partitions: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r'")
            .fetch_one(&mut db)
            .await
            .unwrap();
    assert!(partitions > 0);
    app.stop().await;
}
