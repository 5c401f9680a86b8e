//! The table of first answers.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::Place;
use crate::types::{EventId, TenantId};

/// What is known of a key.
pub struct Stored {
    pub id: Uuid,
    /// A mark of the request.
    pub fingerprint: Vec<u8>,
    /// Sealed. `None`: reserved, and not answered yet.
    pub answer: Option<Vec<u8>>,
    /// Whoever reserved it may still come back.
    pub is_leased: bool,
}

/// Held until the transaction ends. False: somebody else has it.
pub async fn lock(db: &mut PgConnection, lock: i64) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock($1) AS "locked!""#, lock).fetch_one(db).await
}

pub async fn find(db: &mut PgConnection, place: &Place) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT claim AS id, fingerprint, nullif(answer, '') AS answer, coalesce(leased_until > now(), false) AS "is_leased!"
           FROM idempotency WHERE shard = $1 AND tenant_id = $2 AND route = $3 AND key = $4"#,
        place.shard.column(),
        place.tenant,
        place.key.route,
        place.key.key
    )
    .fetch_optional(db)
    .await
}

pub async fn reserve(db: &mut PgConnection, place: &Place, mark: &[u8], lease_s: u32) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO idempotency (shard, tenant_id, route, key, claim, fingerprint, answer, created_at, leased_until)
         VALUES ($1, $2, $3, $4, $5, $6, '', now(), now() + $7 * interval '1 second')
         ON CONFLICT (shard, tenant_id, route, key)
         DO UPDATE SET claim = excluded.claim, leased_until = excluded.leased_until",
        place.shard.column(),
        place.tenant,
        place.key.route,
        place.key.key,
        place.id,
        mark,
        f64::from(lease_s)
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn release(db: &mut PgConnection, place: &Place) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM idempotency WHERE shard = $1 AND tenant_id = $2 AND route = $3 AND key = $4 AND claim = $5",
        place.shard.column(),
        place.tenant,
        place.key.route,
        place.key.key,
        place.id
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn store(db: &mut PgConnection, place: &Place, mark: &[u8], sealed: &[u8]) -> sqlx::Result<()> {
    if let Some(reserved) = place.reserved {
        return answer(db, place, reserved, sealed).await;
    }
    sqlx::query!(
        "INSERT INTO idempotency (shard, tenant_id, route, key, claim, fingerprint, answer, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, now())",
        place.shard.column(),
        place.tenant,
        place.key.route,
        place.key.key,
        place.id,
        mark,
        sealed
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Another answer than was stored.
pub async fn amend(db: &mut PgConnection, place: &Place, sealed: &[u8]) -> sqlx::Result<()> {
    answer(db, place, place.id, sealed).await
}

/// Only by whoever claimed it last, under this id.
async fn answer(db: &mut PgConnection, place: &Place, claimed: Uuid, sealed: &[u8]) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE idempotency SET answer = $6, claim = $7
         WHERE shard = $1 AND tenant_id = $2 AND route = $3 AND key = $4 AND claim = $5",
        place.shard.column(),
        place.tenant,
        place.key.route,
        place.key.key,
        claimed,
        sealed,
        place.id
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets the answers that may show an event's data: those of its routes, and that of the test that made it.
pub async fn forget(db: impl PgExecutor<'_>, tenant: TenantId, event: EventId) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM idempotency WHERE shard = $1 AND tenant_id = $2 AND (claim = $3 OR starts_with(route, $4))",
        tenant.shard().column(),
        tenant.uuid(),
        event.uuid(),
        format!("POST /v1/events/{event}/")
    )
    .execute(db)
    .await?;
    Ok(())
}
