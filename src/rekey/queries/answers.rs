//! Idempotent answers.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{BATCH, Row, Table};
use crate::{
    idempotency,
    seal::{Purpose, VERSION},
    types::TenantId,
};

/// First answers to POSTs. Those to publishes are in clear in the same table; JSON never begins with a record's version.
pub struct Answers;

/// A key's place, with its claim.
pub struct Answer {
    shard: i32,
    tenant: Uuid,
    route: String,
    key: String,
    claim: Uuid,
}

impl Table for Answers {
    type Place = Answer;
    const WHAT: &str = "idempotent answers";

    fn start() -> Answer {
        Answer {
            shard: -1,
            tenant: Uuid::nil(),
            route: String::new(),
            key: String::new(),
            claim: Uuid::nil(),
        }
    }

    fn purpose(place: &Answer) -> Purpose {
        idempotency::answer_purpose(place.tenant, place.claim)
    }

    fn name(place: &Answer) -> String {
        format!("{} of {}, {}", place.claim, TenantId::from(place.tenant), place.route)
    }

    async fn lock_next(
        db: &mut PgConnection,
        stamp: &[u8],
        after: &Answer,
    ) -> sqlx::Result<Vec<Row<Answer>>> {
        let rows = sqlx::query!(
            "SELECT shard, tenant_id, route, key, claim, answer FROM idempotency
             WHERE substring(answer FROM 1 FOR 1) = $7 AND substring(answer FROM 1 FOR 5) <> $1
                 AND (shard, tenant_id, route, key) > ($2, $3, $4, $5)
             ORDER BY shard, tenant_id, route, key LIMIT $6 FOR NO KEY UPDATE SKIP LOCKED",
            stamp,
            after.shard,
            after.tenant,
            after.route,
            after.key,
            BATCH,
            &[VERSION][..]
        )
        .fetch_all(db)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Row {
                place: Answer {
                    shard: row.shard,
                    tenant: row.tenant_id,
                    route: row.route,
                    key: row.key,
                    claim: row.claim,
                },
                sealed: row.answer,
            })
            .collect())
    }

    async fn store(db: &mut PgConnection, place: &Answer, sealed: &[u8]) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE idempotency SET answer = $5 WHERE shard = $1 AND tenant_id = $2 AND route = $3 AND key = $4",
            place.shard,
            place.tenant,
            place.route,
            place.key,
            sealed
        )
        .execute(db)
        .await?;
        Ok(())
    }

    async fn count(db: &mut PgConnection, stamp: &[u8]) -> sqlx::Result<i64> {
        sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM idempotency
               WHERE substring(answer FROM 1 FOR 1) = $2 AND substring(answer FROM 1 FOR 5) <> $1"#,
            stamp,
            &[VERSION][..]
        )
        .fetch_one(db)
        .await
    }
}
