//! A batch finds its rows by index, whatever Postgres believes of the queue. Right after a vacuum that has met it empty, it
//! believes that there is one row, and that reading them all is the cheapest way to find any.

use posthaste::{
    db,
    queue::{
        Cause, Row,
        finish::{Finished, Verdict, finish},
        ownership, refill,
    },
    types::{Clock, EndpointId, TenantId},
};
use uuid::Uuid;

use super::interleavings::ALL;
use crate::helpers::{
    cluster::{fresh_database, superuser},
    explain::Explainer,
    sql::Sql,
};

const WAITING: usize = 5_000;
/// Of each kind of result.
const BATCH: usize = 50;

fn rows(clock: &Clock, endpoint: EndpointId) -> Vec<Row> {
    (0..WAITING)
        .map(|_| Row {
            endpoint_id: endpoint,
            event_id: clock.mint_in(endpoint.shard()),
            due_at: None,
            seq: 0,
            step: 0,
            format_version: 1,
            cause: Cause::Scheduled,
        })
        .collect()
}

async fn store(sql: &mut Sql, rows: &[Row]) {
    let endpoint = rows[0].endpoint_id;
    let events: Vec<Uuid> = rows.iter().map(|row| row.event_id.uuid()).collect();
    sqlx::query("INSERT INTO queue (shard, endpoint_id, event_id, format_version) SELECT $1, $2, unnest($3::uuid[]), 1")
        .bind(endpoint.shard().column())
        .bind(endpoint.uuid())
        .bind(events)
        .execute(&mut sql.0)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_batch_finds_its_rows_by_index_after_a_vacuum_of_an_empty_queue() {
    let (database, name) = fresh_database().await;
    let mut postgres = Sql(superuser(&name).await);
    let explainer = Explainer::on(&mut postgres).await;
    let mut sql = Sql::open(&database).await;
    let pools = db::connect(database).await.unwrap();
    let node = Uuid::now_v7();
    ownership::register(&pools.engine, node).await.unwrap();
    ownership::take_free(&pools.engine, node, ALL).await.unwrap();
    let tenant: TenantId = pools.clock.mint();
    let waiting = rows(&pools.clock, pools.clock.mint());
    postgres.run("VACUUM ANALYZE queue").await;
    store(&mut sql, &waiting).await;

    let verdicts = [
        Verdict::Succeeded,
        Verdict::Retry { delay_ms: 1_000, step: 1 },
        Verdict::Failed { reason: "out of retries" },
    ];
    let results = waiting.iter().zip(verdicts.iter().cycle()).take(verdicts.len() * BATCH);
    let mut results: Vec<Finished> = results
        .map(|(row, verdict)| Finished {
            endpoint_id: row.endpoint_id,
            event_id: row.event_id,
            tenant_id: tenant,
            seq: 0,
            operational: false,
            attempt: None,
            verdict: verdict.clone(),
        })
        .collect();
    results.sort_unstable_by_key(|one| one.event_id.uuid());
    let mut connection = pools.finish.acquire().await.unwrap();
    explainer.take();
    let applied = finish(&mut connection, node, &results, &[], false).await.unwrap();
    assert_eq!(applied.len(), 2 * BATCH, "retries and failures");
    let looked_at: i64 = explainer.take().iter().map(|one| one.rows_of("queue")).sum();
    assert_eq!(looked_at, i64::try_from(results.len()).unwrap(), "as many rows as the batch has");

    let suspects = &waiting[WAITING - BATCH..];
    refill::suspect(&pools.engine, suspects).await.unwrap();
    let looked_at: i64 = explainer.take().iter().map(|one| one.rows_of("queue")).sum();
    assert_eq!(looked_at, i64::try_from(suspects.len()).unwrap());
}
