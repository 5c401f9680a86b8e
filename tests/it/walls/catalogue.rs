//! What the database's catalogue says of the walls. A new table fails here until it has one, or a reason for none.

use posthaste::db::MIGRATOR;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row};

use super::{TENANT_ROLE, UNWALLED};
use crate::helpers::{cluster::bare_database, spawn};

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

/// Functions that see more than whoever calls them: what is searched for the tables that they name.
async fn doors(db: &mut PgConnection) -> Vec<(String, Option<String>)> {
    let rows = sqlx::query(
        "SELECT p.proname::text AS name, (SELECT substr(c, 13) FROM unnest(p.proconfig) c WHERE starts_with(c, 'search_path=')) AS path
         FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef ORDER BY 1",
    )
    .fetch_all(db)
    .await
    .unwrap();
    rows.iter().map(|row| (row.get("name"), row.get("path"))).collect()
}

#[tokio::test]
async fn what_a_door_names_is_looked_for_among_temporary_tables_last() {
    let mut app = spawn().await;
    let doors = doors(&mut app.sql().await).await;
    let searched = Some("public, pg_temp".to_owned());
    assert_eq!(
        doors,
        [("command_endpoint".to_owned(), searched.clone()), ("webhook_is_taken".to_owned(), searched)]
    );
    app.stop().await;
}

#[tokio::test]
async fn a_temporary_table_stands_for_none_behind_a_door() {
    let mut app = spawn().await;
    app.tenant().await;
    let mut db = app.sql().await;
    // As where the database is somebody else's, who lets everybody make temporary tables.
    let grant = "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO posthaste_tenant', current_database()); END $$";
    let before: i64 = sqlx::query_scalar("SELECT config_version FROM shards WHERE shard = 1")
        .fetch_one(&mut db)
        .await
        .unwrap();
    for sql in [
        grant,
        "SET ROLE posthaste_tenant",
        "CREATE TEMP TABLE stolen (who text, tenants bigint)",
        "GRANT ALL ON stolen TO PUBLIC",
        "CREATE TEMP TABLE endpoints (webhook_id bigint, deleted_at timestamptz)",
        "INSERT INTO endpoints VALUES (424242, NULL)",
        "CREATE TEMP TABLE shards (shard int, config_version bigint, command_versions bigint[] DEFAULT '{}',
             command_endpoints uuid[] DEFAULT '{}')",
        "INSERT INTO shards VALUES (1, 77)",
        "GRANT ALL ON endpoints, shards TO PUBLIC",
        "CREATE FUNCTION pg_temp.steal() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO stolen SELECT current_user, count(*) FROM public.tenants; RETURN NEW; END $$",
        "CREATE TRIGGER steal BEFORE UPDATE ON shards FOR EACH ROW EXECUTE FUNCTION pg_temp.steal()",
    ] {
        sqlx::query(sql).execute(&mut db).await.expect(sql);
    }
    let taken: bool = sqlx::query_scalar("SELECT webhook_is_taken(424242)").fetch_one(&mut db).await.unwrap();
    assert!(!taken, "the table of that name is the caller's");
    let commanded: i64 = sqlx::query_scalar("SELECT version FROM command_endpoint(1, gen_random_uuid(), 10)")
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert!(commanded > before && commanded != 78, "{commanded} is the real shard's after {before}");
    let stolen: Vec<String> = sqlx::query_scalar("SELECT who FROM stolen").fetch_all(&mut db).await.unwrap();
    assert!(stolen.is_empty(), "ran as {stolen:?}");
    app.stop().await;
}

#[tokio::test]
async fn nobody_but_the_owner_makes_tables() {
    let (user, superuser) = bare_database().await;
    let mut db = superuser.connect().await.unwrap();
    let grant = format!("GRANT posthaste_tenant, posthaste_engine TO \"{}\"", user.get_username());
    sqlx::query(AssertSqlSafe(grant)).execute(&mut db).await.unwrap();
    MIGRATOR.run(&mut user.connect().await.unwrap()).await.unwrap();
    let may: (bool, bool) = sqlx::query_as(
        "SELECT has_database_privilege($1, current_database(), 'TEMPORARY'), has_schema_privilege($1, 'public', 'CREATE')",
    )
    .bind(TENANT_ROLE)
    .fetch_one(&mut db)
    .await
    .unwrap();
    assert!(!may.0, "may make temporary tables");
    // Before Postgres 15 the schema is the superuser's, who alone can say so.
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert!(!may.1 || version < 150_000, "may make tables");
}
