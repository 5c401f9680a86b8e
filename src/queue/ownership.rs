//! Who sends what: nodes that beat, shards that they own.
//!
//! A node that stops beating is declared dead by another one, which takes its shards in the same transaction. The one that
//! takes has seen the beat unchanged for [`DEAD_AFTER`] on its own clock; the one that holds stops sending [`HOLD_FOR`]
//! after the start of its last successful beat. The gap between the two is what keeps them from sending at once.

use std::time::Duration;

use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use crate::types::Shard;

/// How often a node beats.
pub const BEAT_EVERY: Duration = Duration::from_secs(3);
/// A holder sends nothing later than this after the start of its last successful beat.
pub const HOLD_FOR: Duration = Duration::from_secs(12);
/// How often a node looks at the others, and at what is free.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A taker must have seen a beat unchanged for this long.
pub const DEAD_AFTER: Duration = Duration::from_secs(15);

/// After a kill all shards have owners within this time, while Postgres answers.
const REBALANCED_WITHIN: Duration = Duration::from_secs(20);
// A look sees the last beat for the first time; from then on it must stay the same; the look that finds that out may be late by
// one; those who get the rest find it free at their next.
const _: () = assert!(DEAD_AFTER.as_secs() + 3 * LOOK_EVERY.as_secs() <= REBALANCED_WITHIN.as_secs());

/// Enters a node. It owns nothing yet.
pub async fn register(db: impl PgExecutor<'_>, node: Uuid) -> sqlx::Result<()> {
    sqlx::query!("INSERT INTO nodes (id, started_at) VALUES ($1, now())", node).execute(db).await?;
    Ok(())
}

/// Beats. `None` where another node has declared this one dead; otherwise the database's time, µs since 1970.
pub async fn beat(db: impl PgExecutor<'_>, node: Uuid) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        r#"UPDATE nodes SET beat = beat + 1 WHERE id = $1 AND NOT dead
           RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS "now_us!""#,
        node
    )
    .fetch_optional(db)
    .await
}

/// Another living node.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub id: Uuid,
    pub beat: i64,
    /// It takes nothing more, and gives back what it has.
    pub leaving: bool,
}

/// The other living nodes.
pub async fn peers(db: impl PgExecutor<'_>, node: Uuid) -> sqlx::Result<Vec<Peer>> {
    sqlx::query_as!(Peer, "SELECT id, beat, leaving FROM nodes WHERE NOT dead AND id <> $1", node)
        .fetch_all(db)
        .await
}

/// Tells the others that this node gives back what it has, as soon as each shard is at rest.
pub async fn leave(db: impl PgExecutor<'_>, node: Uuid) -> sqlx::Result<()> {
    sqlx::query!("UPDATE nodes SET leaving = true WHERE id = $1", node).execute(db).await?;
    Ok(())
}

/// A shard that is owned.
#[derive(Clone, Copy, Debug)]
pub struct Owned {
    pub shard: Shard,
    /// A node that owned it has died, and none has given it back in order since.
    pub unclean: bool,
}

/// Takes at most `room` of the shards that nobody owns, or a node that is dead: its last statement may have taken shards
/// after it gave everything back.
pub async fn take_free(db: impl PgExecutor<'_>, node: Uuid, room: usize) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE shards s SET node = $1, epoch = s.epoch + 1
         WHERE s.shard IN (
                 SELECT f.shard FROM shards f
                 WHERE f.node IS NULL OR f.node IN (SELECT d.id FROM nodes d WHERE d.dead) LIMIT $2 FOR UPDATE SKIP LOCKED)
             AND EXISTS (SELECT 1 FROM nodes n WHERE n.id = $1 AND NOT n.dead)",
        node,
        i64::try_from(room).unwrap_or(i64::MAX)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The shards of this node.
pub async fn owned(db: impl PgExecutor<'_>, node: Uuid) -> sqlx::Result<Vec<Owned>> {
    let row = sqlx::query!(
        r#"SELECT coalesce(array_agg(shard), '{}') AS "shards!", coalesce(array_agg(unclean), '{}') AS "unclean!"
           FROM shards WHERE node = $1"#,
        node
    )
    .fetch_one(db)
    .await?;
    let shards = row.shards.into_iter().map(Shard::from_column);
    Ok(shards.zip(row.unclean).map(|(shard, unclean)| Owned { shard, unclean }).collect())
}

/// Declares `peer` dead, if its beat is still the one that was seen, and takes at most `room` of its shards; the others are
/// free. Waits for its finishes under way. False where it is not dead, or another node is at it.
pub async fn take_over(
    db: &PgPool,
    node: Uuid,
    peer: Uuid,
    seen_beat: i64,
    room: usize,
) -> sqlx::Result<bool> {
    let mut transaction = db.begin().await?;
    let dead = sqlx::query_scalar!(
        "SELECT id FROM nodes WHERE id = $1 AND beat = $2 AND NOT dead FOR UPDATE SKIP LOCKED",
        peer,
        seen_beat
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if dead.is_none() {
        return Ok(false);
    }
    sqlx::query!("UPDATE nodes SET dead = true WHERE id = $1", peer).execute(&mut *transaction).await?;
    let mut taken =
        sqlx::query_scalar!("SELECT shard FROM shards WHERE node = $1 ORDER BY shard FOR UPDATE", peer)
            .fetch_all(&mut *transaction)
            .await?;
    taken.truncate(room);
    sqlx::query!(
        "UPDATE shards SET node = CASE WHEN shard = ANY($3) THEN $1::uuid END, epoch = epoch + 1, unclean = true WHERE node = $2",
        node,
        peer,
        &taken
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// Gives back shards of which nothing is in flight any more, nor waits to be written.
pub async fn give_back(db: impl PgExecutor<'_>, node: Uuid, shards: &[Shard]) -> sqlx::Result<()> {
    let shards: Vec<i32> = shards.iter().map(|shard| shard.column()).collect();
    sqlx::query!(
        "UPDATE shards SET node = NULL, epoch = epoch + 1, unclean = false WHERE shard = ANY($2) AND node = $1",
        node,
        &shards
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Gives everything back at a clean stop.
pub async fn release(db: &PgPool, node: Uuid) -> sqlx::Result<()> {
    let mut transaction = db.begin().await?;
    // The node before its shards, as a takeover does it: otherwise two could wait for each other.
    sqlx::query!("UPDATE nodes SET dead = true, clean = true WHERE id = $1 AND NOT dead", node)
        .execute(&mut *transaction)
        .await?;
    sqlx::query!("UPDATE shards SET node = NULL, epoch = epoch + 1, unclean = false WHERE node = $1", node)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
