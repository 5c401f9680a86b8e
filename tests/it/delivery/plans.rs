//! What reading the queue costs: the same however many rows wait, and little more among rows that are dead but can't be
//! removed. Apart from the other tests, for the time that it takes (`cargo test --test it -- --ignored plans`).

use std::{collections::BTreeSet, time::Duration};

use posthaste::{
    db::{self, Pools},
    queue::refill::{self, LaneRoom},
    types::{EndpointId, SHARD_COUNT, Shard, Timestamp},
};
use uuid::Uuid;

use crate::helpers::{
    cluster::{fresh_database, superuser},
    explain::{Explained, Explainer},
    sql::Sql,
};

const LANES: usize = 50;
const ROWS_A_LANE: u32 = 8;
const FEW_ROWS: i64 = 20_000;
const MANY_ROWS: i64 = 2_000_000;
const DEAD_ROWS: i64 = 300_000;
/// Numbers of events: those that are to die come first.
const FIRST_ALIVE: i64 = DEAD_ROWS / LANES as i64;

/// A database with a queue, the engine's connections to it, and lanes.
struct Stage {
    sql: Sql,
    pools: Pools,
    lanes: Vec<EndpointId>,
    explainer: Explainer,
    name: String,
}

/// An event's id by its number: in order.
fn event(number: i64) -> Uuid {
    Uuid::from_u128(
        (0x0193_0000_0000_7000_8000_0000_0000_0000_u128 & !0xFFFF_FFFF) + number.unsigned_abs() as u128,
    )
}

impl Stage {
    async fn set() -> Self {
        let (database, name) = fresh_database().await;
        let explainer = Explainer::on(&mut Sql(superuser(&name).await)).await;
        let sql = Sql::open(&database).await;
        let pools = db::connect(database).await.unwrap();
        let lanes = (0..LANES).map(|_| pools.clock.mint()).collect();
        Self { sql, pools, lanes, explainer, name }
    }

    /// Puts so many rows into the queue, evenly over the lanes, with events from this number on.
    async fn fill(&mut self, rows: i64, from: i64, due: &str) {
        let per_lane = rows / LANES as i64;
        for lane in &self.lanes {
            let (shard, endpoint) = (lane.shard().column(), lane.uuid());
            // The last 48 bits of the id count.
            self.sql
                .run(&format!(
                    "INSERT INTO queue (shard, endpoint_id, event_id, format_version, due_at)
                     SELECT {shard}, '{endpoint}', ('01930000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 1, {due}
                     FROM generate_series({from}::bigint, {from} + {per_lane} - 1) n"
                ))
                .await;
        }
    }

    /// Pages that a refill of all lanes looks at. It finds all that it asks for, and reads no table from end to end.
    async fn refill(&self, after: Uuid, fresh: u32) -> i64 {
        self.read(LaneRoom { after, fresh, ..self.nothing() }).await
    }

    async fn refill_due(&self, due_from: Timestamp, timed: u32) -> i64 {
        self.read(LaneRoom { due_from, timed, ..self.nothing() }).await
    }

    fn nothing(&self) -> LaneRoom {
        let due_from = Timestamp::from_unix_us(0);
        LaneRoom { endpoint_id: self.lanes[0], after: Uuid::nil(), fresh: 0, due_from, timed: 0 }
    }

    /// Deletes the first rows while somebody looks at an old picture of the database, for hours.
    async fn kill_first(&mut self) -> Sql {
        let mut holder = Sql(superuser(&self.name).await);
        holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
        holder.count("SELECT count(*) FROM nodes").await;
        let dead = format!("DELETE FROM queue WHERE event_id < '{}'", event(FIRST_ALIVE));
        self.sql.run(&dead).await;
        holder
    }

    /// The lanes that a sweep of these shards finds, and the pages that it looks at.
    async fn sweep(&self, shards: &[Shard]) -> (BTreeSet<EndpointId>, i64) {
        self.explainer.take();
        let lanes = refill::waiting_lanes(&self.pools.engine, shards).await.unwrap();
        let pages = self.explainer.take().iter().map(Explained::buffers).sum();
        let found: BTreeSet<EndpointId> = lanes.iter().copied().collect();
        assert_eq!(found.len(), lanes.len(), "each once");
        (found, pages)
    }

    async fn read(&self, room: LaneRoom) -> i64 {
        let lanes: Vec<LaneRoom> =
            self.lanes.iter().map(|lane| LaneRoom { endpoint_id: *lane, ..room }).collect();
        self.explainer.take();
        let rows = refill::read(&self.pools.engine, &lanes, self.pools.clock.now()).await.unwrap();
        assert!(rows.len() >= LANES * (room.fresh + room.timed) as usize, "{} rows", rows.len());
        let explained = self.explainer.take();
        let scanned: Vec<String> = explained.iter().flat_map(|one| one.scanned()).collect();
        assert!(scanned.is_empty(), "reads {scanned:?} from end to end");
        explained.iter().map(|one| one.buffers()).sum()
    }
}

#[tokio::test]
async fn a_sweep_looks_at_one_row_of_each_lane_of_its_own_shards() {
    let mut stage = Stage::set().await;
    stage.fill(FEW_ROWS / 10, 0, "NULL").await;
    let all: Vec<Shard> = (0..i32::from(SHARD_COUNT)).map(Shard::from_column).collect();
    let half: Vec<Shard> = all.iter().copied().filter(|shard| shard.column() % 2 == 0).collect();
    let one = vec![stage.lanes[0].shard()];
    stage.sweep(&all).await;
    let mut costs = Vec::new();
    for shards in [&all, &half, &one, &Vec::new()] {
        let (found, pages) = stage.sweep(shards).await;
        let wanted = stage.lanes.iter().filter(|lane| shards.contains(&lane.shard()));
        assert_eq!(found, wanted.copied().collect());
        costs.push(pages);
    }
    println!("a sweep over {LANES} lanes: {costs:?} pages, of all shards, half of them, one, none");
    // The way down the index, and its leaf's neighbour where the lane ends with the leaf.
    assert!(costs[0] <= 5 * i64::try_from(LANES).unwrap(), "{costs:?}");
    assert!(costs.is_sorted_by(|more, fewer| more >= fewer), "{costs:?}");
}

#[tokio::test]
#[ignore = "takes a while: .ci/run runs it apart"]
async fn a_refill_costs_the_same_however_many_rows_wait() {
    let mut stage = Stage::set().await;
    stage.fill(FEW_ROWS, 0, "NULL").await;
    // What a connection reads once, of the catalogues, is not the queue's.
    stage.refill(Uuid::nil(), ROWS_A_LANE).await;
    let few = stage.refill(Uuid::nil(), ROWS_A_LANE).await;
    stage.fill(MANY_ROWS - FEW_ROWS, FEW_ROWS, "NULL").await;
    let many = stage.refill(Uuid::nil(), ROWS_A_LANE).await;
    stage.sql.run("ANALYZE queue").await;
    let known = stage.refill(Uuid::nil(), ROWS_A_LANE).await;
    println!(
        "a refill of {LANES} lanes: {few} pages of {FEW_ROWS} rows, {many} of {MANY_ROWS}, {known} with statistics"
    );
    // A deeper tree has one more page on the way to each lane, for each of the parts of the statement.
    let deeper = i64::try_from(LANES * 3).unwrap();
    assert!(many <= few + few / 10 + deeper && known <= many, "{few}, {many}, {known}");
}

#[tokio::test]
#[ignore = "takes a while: .ci/run runs it apart"]
async fn a_refill_steps_over_what_is_dead() {
    let mut stage = Stage::set().await;
    stage.fill(DEAD_ROWS, 0, "NULL").await;
    stage.fill(FEW_ROWS, FIRST_ALIVE, "NULL").await;
    stage.refill(event(FIRST_ALIVE - 1), ROWS_A_LANE).await;
    let before = stage.refill(event(FIRST_ALIVE - 1), ROWS_A_LANE).await;
    let mut holder = stage.kill_first().await;
    let after = stage.refill(event(FIRST_ALIVE - 1), ROWS_A_LANE).await;
    println!("a refill beside {DEAD_ROWS} dead rows: {after} pages, {before} before they died");
    assert!(after <= before * 2, "{before}, {after}");
    holder.run("ROLLBACK").await;
}

#[tokio::test]
#[ignore = "takes a while: .ci/run runs it apart"]
async fn a_refill_of_what_is_due_steps_over_what_is_dead() {
    let mut stage = Stage::set().await;
    stage.fill(DEAD_ROWS, 0, "now() - interval '2 hours'").await;
    stage.fill(FEW_ROWS, FIRST_ALIVE, "now() - interval '1 minute'").await;
    // Since the last read that found all that was due.
    let from = stage.pools.clock.now().minus(Duration::from_secs(3_600));
    stage.refill_due(from, ROWS_A_LANE).await;
    let before = stage.refill_due(from, ROWS_A_LANE).await;
    let mut holder = stage.kill_first().await;
    let after = stage.refill_due(from, ROWS_A_LANE).await;
    println!("a refill of due rows beside {DEAD_ROWS} dead ones: {after} pages, {before} before they died");
    assert!(after <= before * 2, "{before}, {after}");
    holder.run("ROLLBACK").await;
}
