//! SQL that forgets about tenants, as the role that their requests run as: generated for every table there is.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{REFUSED, TENANT_ROLE, UNWALLED, catalogue};
use crate::{
    api::routes::household,
    helpers::{Receiver, TestApp, spawn},
};

/// As Postgres says that a foreign key leads nowhere.
const NO_SUCH_KEY: &str = "23503";
/// Tables that a household leaves empty: what is in them is deleted, or under way.
const AT_REST_EMPTY: [&str; 3] = ["queue", "notices", "idempotency"];

/// Two households, and rows of both in every table that has a wall.
async fn scene() -> (TestApp, [String; 2]) {
    let app = spawn().await;
    let mut receiver = Receiver::start().await;
    let mut tenants = Vec::new();
    let mut db = app.sql().await;
    for _ in 0..2 {
        let house = household(&app, &mut receiver).await;
        tenants.push(house.tenant.id.trim_start_matches("ten_").to_owned());
        // Not due for a century.
        for sql in [
            "INSERT INTO queue (shard, endpoint_id, event_id, due_at, format_version)
             SELECT shard, endpoint_id, event_id, now() + interval '100 years', 1 FROM attempts ON CONFLICT DO NOTHING",
            "INSERT INTO settled (shard, endpoint_id, event_id, tenant_id, status, reason, at)
             SELECT shard, endpoint_id, event_id, tenant_id, 'failed', 'seeded', now() FROM attempts ON CONFLICT DO NOTHING",
            "INSERT INTO idempotency (shard, tenant_id, route, key, claim, fingerprint, answer, created_at)
             SELECT 0, id, 'r', 'k', id, '', '', now() FROM tenants ON CONFLICT DO NOTHING",
        ] {
            sqlx::query(sql).execute(&mut db).await.unwrap();
        }
    }
    (app, tenants.try_into().unwrap())
}

/// Becomes the role, for as long as the connection lives, with this tenant.
async fn behind_the_wall(app: &TestApp, tenant: Option<&str>) -> PgConnection {
    let mut db = app.sql().await;
    sqlx::query(AssertSqlSafe(format!("SET ROLE {TENANT_ROLE}"))).execute(&mut db).await.unwrap();
    if let Some(tenant) = tenant {
        let set = "SELECT set_config('posthaste.tenant', $1, false)";
        sqlx::query(set).bind(tenant).execute(&mut db).await.unwrap();
    }
    db
}

/// Tables with a wall, and how rows are told apart: by the column of their tenant, or of their endpoint.
async fn walled(app: &TestApp) -> Vec<(String, &'static str)> {
    let mut db = app.sql().await;
    let mut found = Vec::new();
    for (table, _) in catalogue::tables(&mut db).await {
        if UNWALLED.iter().any(|(name, _)| *name == table) {
            continue;
        }
        let has_tenant: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = $1::regclass AND attname = 'tenant_id')",
        )
        .bind(&table)
        .fetch_one(&mut db)
        .await
        .unwrap();
        let own = match table.as_str() {
            "tenants" => "id = $1::uuid",
            _ if has_tenant => "tenant_id = $1::uuid",
            _ => "endpoint_id IN (SELECT id FROM endpoints WHERE tenant_id = $1::uuid)",
        };
        found.push((table, own));
    }
    found
}

/// Rows that it sees; `None` where it may not look at all.
async fn seen(db: &mut PgConnection, table: &str) -> Option<i64> {
    let counted =
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(db).await;
    match counted {
        Ok(count) => Some(count),
        Err(error) => {
            assert_eq!(error.as_database_error().unwrap().code().unwrap(), REFUSED, "{table}: {error}");
            None
        }
    }
}

/// Rows that it changed; none where it may not.
async fn changed(db: &mut PgConnection, statement: String) -> u64 {
    match sqlx::query(AssertSqlSafe(statement.clone())).execute(db).await {
        Ok(done) => done.rows_affected(),
        Err(error) => {
            assert_eq!(error.as_database_error().unwrap().code().unwrap(), REFUSED, "{statement}: {error}");
            0
        }
    }
}

#[tokio::test]
async fn without_a_tenant_nothing_is_seen_and_nothing_written() {
    let (mut app, _) = scene().await;
    let tables = walled(&app).await;
    let mut owner = app.sql().await;
    // Never set; set once and over, as on a connection that was used; no text that is a UUID can be a tenant's by chance.
    for tenant in [None, Some(""), Some("00000000-0000-0000-0000-000000000000")] {
        let mut db = behind_the_wall(&app, tenant).await;
        for (table, _) in &tables {
            assert!(matches!(seen(&mut db, table).await, None | Some(0)), "{table} as {tenant:?}");
            assert_eq!(changed(&mut db, format!("DELETE FROM {table}")).await, 0, "{table} as {tenant:?}");
            let columns: Vec<String> = sqlx::query_scalar(
                "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND attidentity = ''",
            )
            .bind(table)
            .fetch_all(&mut owner)
            .await
            .unwrap();
            for column in columns {
                let update = format!("UPDATE {table} SET {column} = {column}");
                assert_eq!(changed(&mut db, update).await, 0, "{table} as {tenant:?}");
            }
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn with_a_tenant_its_own_rows_are_seen_and_no_others() {
    let (mut app, tenants) = scene().await;
    let mut owner = app.sql().await;
    for tenant in &tenants {
        let mut db = behind_the_wall(&app, Some(tenant)).await;
        for (table, own) in walled(&app).await {
            let sql = format!("SELECT count(*), count(*) FILTER (WHERE {own}) FROM {table}");
            let row = sqlx::query(AssertSqlSafe(sql)).bind(tenant).fetch_one(&mut owner).await.unwrap();
            let (all, of_tenant): (i64, i64) = (row.get(0), row.get(1));
            if table != "notices" {
                assert!(0 < of_tenant && of_tenant < all, "{table} tells nothing: {of_tenant} of {all}");
                assert_eq!(seen(&mut db, &table).await, Some(of_tenant), "{table}");
            }
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn another_tenants_row_can_not_be_put_in_or_made_of_an_own_one() {
    let (mut app, [one, other]) = scene().await;
    let mut owner = app.sql().await;
    let mut db = behind_the_wall(&app, Some(&one)).await;
    let mut moved = 0;
    for (table, own) in walled(&app).await {
        let sql = format!("SELECT to_jsonb(t) FROM {table} t WHERE {own} LIMIT 1");
        let row: Option<serde_json::Value> =
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(&other).fetch_optional(&mut owner).await.unwrap();
        let Some(row) = row else {
            assert!(AT_REST_EMPTY.contains(&table.as_str()), "{table} tells nothing");
            continue;
        };
        let sql = format!(
            "INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM jsonb_populate_record(NULL::{table}, $1)"
        );
        let refused = sqlx::query(AssertSqlSafe(sql)).bind(&row).execute(&mut db).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), REFUSED, "{table}: {refused}");

        let may_move: bool = sqlx::query_scalar(
            "SELECT coalesce(bool_or(has_column_privilege($1, a.attrelid, a.attnum, 'UPDATE')), false)
             FROM pg_attribute a WHERE a.attrelid = $2::regclass AND a.attname = 'tenant_id'",
        )
        .bind(TENANT_ROLE)
        .bind(&table)
        .fetch_one(&mut owner)
        .await
        .unwrap();
        if may_move {
            moved += 1;
            let sql = format!("UPDATE {table} SET tenant_id = $1::uuid");
            let refused = sqlx::query(AssertSqlSafe(sql)).bind(&other).execute(&mut db).await.unwrap_err();
            assert_eq!(refused.as_database_error().unwrap().code().unwrap(), REFUSED, "{table}: {refused}");
        }
    }
    assert!(moved > 0);
    app.stop().await;
}

#[tokio::test]
async fn another_tenants_wire_format_can_not_be_named() {
    let (mut app, [one, other]) = scene().await;
    let mut owner = app.sql().await;
    let version = async |owner: &mut PgConnection, tenant: &str| -> i32 {
        sqlx::query_scalar(
            "INSERT INTO wire_format_versions (tenant_id, name, definition, created_at)
             VALUES ($1::uuid, 'apart', '{}', now()) RETURNING version",
        )
        .bind(tenant)
        .fetch_one(owner)
        .await
        .unwrap()
    };
    let (own, foreign) = (version(&mut owner, &one).await, version(&mut owner, &other).await);
    let mut db = behind_the_wall(&app, Some(&one)).await;
    let name = |version: i32| {
        format!("INSERT INTO wire_formats (tenant_id, name, version, created_at, updated_at)
                 VALUES ('{one}', 'apart', {version}, now(), now()) ON CONFLICT (tenant_id, name) DO UPDATE SET version = {version}")
    };
    let refused = sqlx::query(AssertSqlSafe(name(foreign))).execute(&mut db).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), NO_SUCH_KEY, "{refused}");
    assert_eq!(changed(&mut db, name(own)).await, 1);
    let refused = sqlx::query(AssertSqlSafe(name(foreign))).execute(&mut db).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), NO_SUCH_KEY, "{refused}");

    let give = |version: i32| format!("UPDATE endpoints SET format_version = {version}");
    assert_eq!(changed(&mut db, give(foreign)).await, 0);
    for version in [own, 1] {
        assert!(changed(&mut db, give(version)).await > 0, "{version}");
    }
    app.stop().await;
}
