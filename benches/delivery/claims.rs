//! What reading the next rows costs, however many wait behind them. On a database of its own, so that nobody else reads.

use posthaste::{
    db::{self, MIGRATOR, Pools},
    queue::refill::{self, LaneRoom},
    types::{EndpointId, Timestamp},
};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{Bench, report::Section};

const BACKLOGS: [i64; 3] = [20_000, 200_000, 2_000_000];
const LANES: usize = 50;
const ROWS_A_LANE: u32 = 8;
/// Reads that are averaged.
const READS: i64 = 20;

pub async fn measure(bench: &mut Bench, report: &mut Vec<Section>) {
    bench.program.run("CREATE DATABASE bench_claims").await;
    let options = bench.program.options().database("bench_claims");
    let pools = db::connect(options.clone()).await.unwrap();
    MIGRATOR.run(pools.api.pool()).await.unwrap();
    let mut sql = PgConnection::connect_with(&options).await.unwrap();
    let lanes: Vec<LaneRoom> = (0..LANES).map(|_| lane(&pools)).collect();
    let about = format!("pages of 8 KiB looked at to read {ROWS_A_LANE} rows of each of {LANES} lanes");
    let mut section = Section::new("claims", about);
    for backlog in BACKLOGS {
        fill(&mut sql, &lanes, backlog).await;
        section.chart(format!("{backlog} rows waiting"), cost(&mut sql, &pools, &lanes).await, "pages");
    }
    section.print();
    report.push(section);
    bench.program.run("DROP DATABASE bench_claims WITH (FORCE)").await;
}

fn lane(pools: &Pools) -> LaneRoom {
    LaneRoom {
        endpoint_id: pools.clock.mint::<EndpointId>(),
        after: Uuid::nil(),
        fresh: ROWS_A_LANE,
        due_from: Timestamp::from_unix_us(0),
        timed: ROWS_A_LANE,
    }
}

/// So many rows, spread over the lanes.
async fn fill(sql: &mut PgConnection, lanes: &[LaneRoom], rows: i64) {
    let shards: Vec<i32> = lanes.iter().map(|lane| lane.endpoint_id.shard().column()).collect();
    let endpoints: Vec<Uuid> = lanes.iter().map(|lane| lane.endpoint_id.uuid()).collect();
    sqlx::raw_sql("TRUNCATE queue").execute(&mut *sql).await.unwrap();
    sqlx::query(
        "INSERT INTO queue (shard, endpoint_id, event_id, format_version)
         SELECT lane.shard, lane.endpoint_id, gen_random_uuid(), 1
         FROM unnest($1::int[], $2::uuid[]) AS lane(shard, endpoint_id), generate_series(1, $3)",
    )
    .bind(shards)
    .bind(endpoints)
    .bind(rows / i64::try_from(lanes.len()).unwrap())
    .execute(&mut *sql)
    .await
    .unwrap();
    sqlx::raw_sql("VACUUM queue").execute(&mut *sql).await.unwrap();
}

/// Pages looked at by one read.
async fn cost(sql: &mut PgConnection, pools: &Pools, lanes: &[LaneRoom]) -> f64 {
    let mut engine = pools.engine.acquire().await.unwrap();
    // The first read also looks at the catalogues.
    refill::read(&mut *engine, lanes, pools.clock.now()).await.unwrap();
    let before = pages(sql, &mut engine).await;
    for _ in 0..READS {
        let rows = refill::read(&mut *engine, lanes, pools.clock.now()).await.unwrap();
        assert_eq!(rows.len(), LANES * ROWS_A_LANE as usize);
    }
    (pages(sql, &mut engine).await - before) as f64 / READS as f64
}

async fn pages(sql: &mut PgConnection, engine: &mut PgConnection) -> i64 {
    // What a connection has counted is seen by others when it next tells.
    sqlx::raw_sql("SELECT pg_stat_force_next_flush()").execute(&mut *engine).await.unwrap();
    sqlx::query_scalar(
        "SELECT (heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
         FROM pg_statio_user_tables WHERE relname = 'queue'",
    )
    .fetch_one(sql)
    .await
    .unwrap()
}
