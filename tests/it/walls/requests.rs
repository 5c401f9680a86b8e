//! The program behind the walls: its handlers use no other way, and what was set for one tenant is gone for the next.

use std::{pin::pin, task::Poll};

use posthaste::{
    app::Roles,
    db::{self, Pools},
    types::TenantId,
};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

use super::TENANT_ROLE;
use crate::{
    api::routes::{ROUTES, Route, Who, household},
    helpers::{
        Receiver, Stored,
        app::{settings, start},
        cluster::bare_database,
        spawn,
    },
};

/// Asks the database for nothing where the wire format is built in.
const WITHOUT_ROWS: &str = "/v1/formats/preview";

fn of_tenants() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| matches!(route.who, Who::Scope(_)))
}

/// Who a connection is, and for whom.
async fn who(db: &mut PgConnection) -> (String, String) {
    sqlx::query_as("SELECT current_user::text, coalesce(current_setting('posthaste.tenant', true), '')")
        .fetch_one(db)
        .await
        .unwrap()
}

/// Once the connection is back in its pool.
async fn is_back(pools: &Pools) {
    while pools.tenants.pool().num_idle() == 0 {
        tokio::task::yield_now().await;
    }
}

/// Without its rights the role can do nothing, and so can't any route of tenants: none has another way to their rows.
#[tokio::test]
async fn every_route_of_tenants_runs_behind_the_wall() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let house = household(&app, &mut receiver).await;
    let mut db = app.sql().await;
    let before = Stored::read(&mut db).await;
    sqlx::query("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM posthaste_tenant")
        .execute(&mut db)
        .await
        .unwrap();
    // Rights to columns go with those to their tables.
    for route in of_tenants() {
        let reply = route.call(&house.tenant.client, &house.ids).await;
        if route.path == WITHOUT_ROWS {
            continue;
        }
        assert_eq!(reply.status, 500, "{}: {}", route.told(), reply.text);
        Stored::read(&mut db).await.assert_same(&before, &route.told());
    }
    app.stop().await;
}

/// The other way round: whoever the program logs in as sees nothing any more, but for keys, and tenants read all the same.
#[tokio::test]
async fn no_read_of_tenants_goes_around_the_wall() {
    let (user, superuser) = bare_database().await;
    let mut db = superuser.connect().await.unwrap();
    let name = user.get_username().to_owned();
    let mut run = async |sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
    };
    run(format!("GRANT posthaste_tenant, posthaste_engine TO {name}")).await;
    let mut app = start(settings(&user, &[]), user, Roles { api: true, worker: true }).await;
    let mut receiver = Receiver::start().await;
    let house = household(&app, &mut receiver).await;
    let mut reader = app.another(Roles { api: true, worker: false }).await;
    app.stop().await;
    run(format!(
        "REVOKE posthaste_engine FROM {name}; CREATE POLICY keys ON api_keys TO {name} USING (true)"
    ))
    .await;
    let client = reader.with_key(&house.tenant.key);
    for route in of_tenants().filter(|route| route.method == "GET") {
        let reply = route.call(&client, &house.ids).await;
        assert_eq!(reply.status, 200, "{}: {}", route.told(), reply.text);
        let is_empty = reply.json()["data"].as_array().is_some_and(Vec::is_empty);
        assert!(!is_empty, "{} shows nothing", route.told());
    }
    let all = reader.operator().get("/v1/tenants").await.expect(200);
    assert_eq!(all["data"], serde_json::json!([]), "the operator reads as whoever is logged in");
    reader.stop().await;
}

#[tokio::test]
async fn a_query_without_a_filter_finds_the_tenants_own_and_nothing_stays_behind() {
    let mut app = spawn().await;
    let (one, other) = (app.tenant().await, app.tenant().await);
    for tenant in [&one, &one, &other] {
        tenant.endpoint("https://e.example.com/", serde_json::json!({})).await;
    }
    let id = |tenant: &crate::helpers::Tenant| -> TenantId { tenant.id.parse().unwrap() };
    let pools = db::connect(app.database.clone()).await.unwrap();
    let forgetful = "SELECT count(*) FROM endpoints";
    for (tenant, endpoints) in [(&one, 2), (&other, 1), (&one, 2)] {
        let mut transaction = pools.tenants.begin(id(tenant)).await.unwrap();
        let uuid = id(tenant).uuid().to_string();
        assert_eq!(who(&mut transaction).await, (TENANT_ROLE.to_owned(), uuid));
        let found: i64 = sqlx::query_scalar(forgetful).fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(found, endpoints);
        // Committed, or dropped as it is, or with an error in it.
        match endpoints {
            1 => transaction.commit().await.unwrap(),
            _ => {
                sqlx::query("SELECT nothing").execute(&mut *transaction).await.unwrap_err();
                drop(transaction);
            }
        }
        is_back(&pools).await;
        let mut next = pools.tenants.pool().acquire().await.unwrap();
        assert_eq!(who(&mut next).await, ("posthaste_owner".to_owned(), String::new()));
        drop(next);
        is_back(&pools).await;
        assert_eq!(pools.tenants.pool().size(), 1, "it was the same connection each time");
    }
    pools.close().await;
    app.stop().await;
}

/// A caller who hangs up: the handler's future is dropped wherever it is.
#[tokio::test]
async fn a_request_that_is_cut_off_leaves_the_next_one_its_own_tenant() {
    let mut app = spawn().await;
    let (one, other) = (app.tenant().await, app.tenant().await);
    one.endpoint("https://e.example.com/", serde_json::json!({})).await;
    let ids: [TenantId; 2] = [one.id.parse().unwrap(), other.id.parse().unwrap()];
    let pools = db::connect(app.database.clone()).await.unwrap();
    pools.tenants.begin(ids[0]).await.unwrap().commit().await.unwrap();
    for polls in 1..8 {
        let mut begin = pin!(pools.tenants.begin(ids[0]));
        let mut left = polls;
        let cut = std::future::poll_fn(|cx| {
            left -= 1;
            let is_ready = begin.as_mut().poll(cx).is_ready();
            if is_ready || left == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        cut.await;
        let mut transaction = pools.tenants.begin(ids[1]).await.unwrap();
        assert_eq!(who(&mut transaction).await.1, ids[1].uuid().to_string(), "cut off after {polls} polls");
        let found: i64 =
            sqlx::query_scalar("SELECT count(*) FROM endpoints").fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(found, 0);
    }
    pools.close().await;
    app.stop().await;
}
