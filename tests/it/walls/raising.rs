//! How the walls come to be: over what older versions left, and where the program may not make roles.

use std::time::Duration;

use posthaste::{
    app::{App, Database, Extras, Roles},
    db::MIGRATOR,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

use super::TENANT_ROLE;
use crate::helpers::{
    app::{settings, start},
    cluster::bare_database,
};

/// The last migration before the walls.
const BEFORE: i64 = 20261121120100;
const API_ONLY: Roles = Roles { api: true, worker: false };

async fn run(db: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(db).await.expect(sql);
}

async fn count(db: &mut PgConnection, table: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(db).await.unwrap()
}

async fn grant(superuser: &PgConnectOptions, user: &PgConnectOptions, what: &str) {
    let mut db = superuser.connect().await.unwrap();
    let grant = format!("{what} \"{}\"", user.get_username());
    run(&mut db, &grant).await;
}

const GRANT: &str = "GRANT posthaste_tenant, posthaste_engine TO";

#[tokio::test]
async fn they_rise_over_data_and_nodes_of_the_version_before() {
    let (user, superuser) = bare_database().await;
    grant(&superuser, &user, GRANT).await;
    let mut old = user.connect().await.unwrap();
    MIGRATOR.run_to(BEFORE, &mut old).await.unwrap();
    let tenants = [Uuid::now_v7(), Uuid::now_v7()];
    for tenant in tenants {
        let (location, endpoint, event) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS events_all PARTITION OF events DEFAULT;
             CREATE TABLE IF NOT EXISTS attempts_all PARTITION OF attempts DEFAULT;
             INSERT INTO tenants VALUES ('{tenant}', 't', 'standard', NULL, false, false, NULL, 5, '{{}}', now(), now());
             INSERT INTO locations (shard, id, tenant_id, external_id, name, channels, metadata, created_at, updated_at)
             VALUES (0, '{location}', '{tenant}', 'default', 'old', '{{}}', '{{}}', now(), now());
             INSERT INTO endpoints (tenant_id, id, shard, location_id, name, url, format, format_version, max_in_flight, metadata,
                 created_at, updated_at)
             VALUES ('{tenant}', '{endpoint}', 0, '{location}', 'e', 'https://e.example.com/', 'standard', 1, 8, '{{}}', now(), now());
             INSERT INTO queue (shard, endpoint_id, event_id, format_version) VALUES (0, '{endpoint}', '{event}', 1);
             INSERT INTO events (shard, id, tenant_id, location_id, event_type, occurred_at, live_mode, endpoint_ids, data)
             VALUES (0, '{event}', '{tenant}', '{location}', 'message.sent', now(), true, '{{}}', '{{}}');"
        );
        run(&mut old, &sql).await;
    }
    // A statement that a node of the version before has prepared, and uses on.
    let prepared =
        "SELECT count(*) FROM queue q JOIN endpoints e ON e.shard = q.shard AND e.id = q.endpoint_id";
    let rows =
        async |db: &mut PgConnection| -> i64 { sqlx::query_scalar(prepared).fetch_one(db).await.unwrap() };
    assert_eq!(rows(&mut old).await, 2);

    let mut new = user.connect().await.unwrap();
    MIGRATOR.run(&mut new).await.unwrap();
    assert_eq!(rows(&mut old).await, 2, "the version before works on");
    old.close().await.unwrap();
    for tenant in tenants {
        let mut transaction = new.begin().await.unwrap();
        let set = format!("SET LOCAL ROLE {TENANT_ROLE}; SET LOCAL posthaste.tenant = '{tenant}'");
        run(&mut transaction, &set).await;
        for table in ["tenants", "locations", "endpoints", "queue", "events"] {
            assert_eq!(count(&mut transaction, table).await, 1, "{table}");
        }
    }
    run(&mut new, "DROP TABLE events_all, attempts_all").await;
    new.close().await.unwrap();

    let mut app = start(settings(&user, &[]), user, API_ONLY).await;
    let key = app.key(&format!("ten_{}", tenants[0]), &["read"]).await;
    let found = app.with_key(&key).get("/v1/locations").await.expect(200);
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    assert_eq!(found["data"][0]["name"], "old");
    app.stop().await;
}

#[tokio::test]
async fn a_user_who_may_not_make_roles_is_told_what_to_grant() {
    let (user, superuser) = bare_database().await;
    let told = format!("TO {}", user.get_username());
    let mut db = user.connect().await.unwrap();
    let refused = MIGRATOR.run(&mut db).await.unwrap_err().to_string();
    assert!(
        refused.contains("GRANT posthaste_tenant, posthaste_engine") && refused.contains(&told),
        "{refused}"
    );
    assert_eq!(count(&mut db, "pg_policies").await, 0, "nothing of it is left");

    grant(&superuser, &user, GRANT).await;
    MIGRATOR.run(&mut db).await.unwrap();
    db.close().await.unwrap();
    let settings = settings(&user, &[]);
    start(settings.clone(), user.clone(), API_ONLY).await.stop().await;

    // As where a database was restored, and its user is another one.
    for role in ["posthaste_tenant", "posthaste_engine"] {
        grant(&superuser, &user, &format!("REVOKE {role} FROM")).await;
        let Err(refused) = App::start(&settings, API_ONLY, Extras::default(), |_| {}).await else {
            panic!("started without {role}");
        };
        // Without them a rekey would find nothing under an older key, and say that it may go.
        let database = Database::open(&settings, |_| {}).await.unwrap();
        let Err(also_refused) = database.connect().await else { panic!("connected without {role}") };
        for refused in [refused, also_refused] {
            let told = format!("{refused:#}");
            assert!(told.contains("GRANT posthaste_tenant, posthaste_engine TO"), "{told}");
        }
        grant(&superuser, &user, GRANT).await;
    }
    start(settings, user, API_ONLY).await.stop().await;
}

/// Each database of a cluster raises its own walls, between the same two roles.
#[tokio::test]
async fn many_databases_of_a_cluster_raise_them_at_once() {
    let migrations = (0..4).map(async |_| {
        let (user, superuser) = bare_database().await;
        grant(&superuser, &user, GRANT).await;
        let mut db = user.connect().await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), MIGRATOR.run(&mut db)).await.unwrap().unwrap();
    });
    futures_util::future::join_all(migrations).await;
}
