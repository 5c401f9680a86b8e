//! Everything that is sealed, by table. A new sealed column belongs here as well.
//!
//! A record says by its first bytes, the stamp, which key it is under.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    endpoints::secrets::{headers_purpose, secret_purpose},
    idempotency,
    seal::{Purpose, VERSION},
    types::{EndpointId, TenantId},
};

/// Records that are locked at once.
const BATCH: i64 = 200;

/// A record with its place.
pub struct Row<P> {
    pub place: P,
    pub sealed: Vec<u8>,
}

/// One kind of sealed records. Places are in the order of the primary key.
pub trait Table {
    type Place;
    const WHAT: &str;

    /// Before the first.
    fn start() -> Self::Place;

    fn purpose(place: &Self::Place) -> Purpose;

    /// For people.
    fn name(place: &Self::Place) -> String;

    /// The next ones that are under another key and that nobody else has locked; ours until the transaction ends.
    async fn lock_next(
        db: &mut PgConnection,
        stamp: &[u8],
        after: &Self::Place,
    ) -> sqlx::Result<Vec<Row<Self::Place>>>;

    async fn store(db: &mut PgConnection, place: &Self::Place, sealed: &[u8]) -> sqlx::Result<()>;

    /// How many are under another key.
    async fn count(db: &mut PgConnection, stamp: &[u8]) -> sqlx::Result<i64>;
}

/// Custom headers of endpoints.
pub struct EndpointHeaders;

impl Table for EndpointHeaders {
    type Place = (Uuid, Uuid);
    const WHAT: &str = "headers of endpoints";

    fn start() -> Self::Place {
        (Uuid::nil(), Uuid::nil())
    }

    fn purpose(&(tenant, endpoint): &Self::Place) -> Purpose {
        headers_purpose(TenantId::from(tenant), EndpointId::from(endpoint))
    }

    fn name(&(tenant, endpoint): &Self::Place) -> String {
        format!("{} of {}", EndpointId::from(endpoint), TenantId::from(tenant))
    }

    async fn lock_next(
        db: &mut PgConnection,
        stamp: &[u8],
        after: &Self::Place,
    ) -> sqlx::Result<Vec<Row<Self::Place>>> {
        let rows = sqlx::query!(
            r#"SELECT tenant_id, id, headers_sealed AS "sealed!" FROM endpoints
               WHERE substring(headers_sealed FROM 1 FOR 5) <> $1 AND (tenant_id, id) > ($2, $3)
               ORDER BY tenant_id, id LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED"#,
            stamp,
            after.0,
            after.1,
            BATCH
        )
        .fetch_all(db)
        .await?;
        Ok(rows.into_iter().map(|row| Row { place: (row.tenant_id, row.id), sealed: row.sealed }).collect())
    }

    async fn store(db: &mut PgConnection, place: &Self::Place, sealed: &[u8]) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE endpoints SET headers_sealed = $3 WHERE tenant_id = $1 AND id = $2",
            place.0,
            place.1,
            sealed
        )
        .execute(db)
        .await?;
        Ok(())
    }

    async fn count(db: &mut PgConnection, stamp: &[u8]) -> sqlx::Result<i64> {
        sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM endpoints WHERE substring(headers_sealed FROM 1 FOR 5) <> $1"#,
            stamp
        )
        .fetch_one(db)
        .await
    }
}

/// Custom headers of the versions of endpoints, the current ones included.
pub struct VersionHeaders;

impl Table for VersionHeaders {
    type Place = (Uuid, Uuid, i32);
    const WHAT: &str = "headers of endpoints' versions";

    fn start() -> Self::Place {
        (Uuid::nil(), Uuid::nil(), 0)
    }

    fn purpose(&(tenant, endpoint, _): &Self::Place) -> Purpose {
        headers_purpose(TenantId::from(tenant), EndpointId::from(endpoint))
    }

    fn name(&(tenant, endpoint, version): &Self::Place) -> String {
        format!("version {version} of {} of {}", EndpointId::from(endpoint), TenantId::from(tenant))
    }

    async fn lock_next(
        db: &mut PgConnection,
        stamp: &[u8],
        after: &Self::Place,
    ) -> sqlx::Result<Vec<Row<Self::Place>>> {
        let rows = sqlx::query!(
            r#"SELECT tenant_id, endpoint_id, version, headers_sealed AS "sealed!" FROM endpoint_versions
               WHERE substring(headers_sealed FROM 1 FOR 5) <> $1 AND (tenant_id, endpoint_id, version) > ($2, $3, $4)
               ORDER BY tenant_id, endpoint_id, version LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED"#,
            stamp,
            after.0,
            after.1,
            after.2,
            BATCH
        )
        .fetch_all(db)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Row { place: (row.tenant_id, row.endpoint_id, row.version), sealed: row.sealed })
            .collect())
    }

    async fn store(db: &mut PgConnection, place: &Self::Place, sealed: &[u8]) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE endpoint_versions SET headers_sealed = $4 WHERE tenant_id = $1 AND endpoint_id = $2 AND version = $3",
            place.0,
            place.1,
            place.2,
            sealed
        )
        .execute(db)
        .await?;
        Ok(())
    }

    async fn count(db: &mut PgConnection, stamp: &[u8]) -> sqlx::Result<i64> {
        sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM endpoint_versions WHERE substring(headers_sealed FROM 1 FOR 5) <> $1"#,
            stamp
        )
        .fetch_one(db)
        .await
    }
}

/// Signing secrets, those that signed once included.
pub struct Secrets;

impl Table for Secrets {
    type Place = (Uuid, Uuid, Uuid);
    const WHAT: &str = "signing secrets";

    fn start() -> Self::Place {
        (Uuid::nil(), Uuid::nil(), Uuid::nil())
    }

    fn purpose(&(tenant, endpoint, secret): &Self::Place) -> Purpose {
        secret_purpose(TenantId::from(tenant), EndpointId::from(endpoint), secret)
    }

    fn name(&(tenant, endpoint, secret): &Self::Place) -> String {
        format!("{secret} of {} of {}", EndpointId::from(endpoint), TenantId::from(tenant))
    }

    async fn lock_next(
        db: &mut PgConnection,
        stamp: &[u8],
        after: &Self::Place,
    ) -> sqlx::Result<Vec<Row<Self::Place>>> {
        let rows = sqlx::query!(
            "SELECT tenant_id, endpoint_id, id, sealed FROM endpoint_secrets
             WHERE substring(sealed FROM 1 FOR 5) <> $1 AND (tenant_id, endpoint_id, id) > ($2, $3, $4)
             ORDER BY tenant_id, endpoint_id, id LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED",
            stamp,
            after.0,
            after.1,
            after.2,
            BATCH
        )
        .fetch_all(db)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Row { place: (row.tenant_id, row.endpoint_id, row.id), sealed: row.sealed })
            .collect())
    }

    async fn store(db: &mut PgConnection, place: &Self::Place, sealed: &[u8]) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE endpoint_secrets SET sealed = $4 WHERE tenant_id = $1 AND endpoint_id = $2 AND id = $3",
            place.0,
            place.1,
            place.2,
            sealed
        )
        .execute(db)
        .await?;
        Ok(())
    }

    async fn count(db: &mut PgConnection, stamp: &[u8]) -> sqlx::Result<i64> {
        sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM endpoint_secrets WHERE substring(sealed FROM 1 FOR 5) <> $1"#,
            stamp
        )
        .fetch_one(db)
        .await
    }
}

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
