//! Keys of client certificates.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{BATCH, Row, Table};
use crate::{
    endpoints::client_certificate::key_purpose,
    seal::Purpose,
    types::{EndpointId, TenantId},
};

/// Private keys of endpoints' client certificates.
pub struct ClientKeys;

impl Table for ClientKeys {
    type Place = (Uuid, Uuid);
    const WHAT: &str = "client keys of endpoints";

    fn start() -> Self::Place {
        (Uuid::nil(), Uuid::nil())
    }

    fn purpose(&(tenant, endpoint): &Self::Place) -> Purpose {
        key_purpose(TenantId::from(tenant), EndpointId::from(endpoint))
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
            r#"SELECT tenant_id, id, client_key_sealed AS "sealed!" FROM endpoints
               WHERE substring(client_key_sealed FROM 1 FOR 5) <> $1 AND (tenant_id, id) > ($2, $3)
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
            "UPDATE endpoints SET client_key_sealed = $3 WHERE tenant_id = $1 AND id = $2",
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
            r#"SELECT count(*) AS "count!" FROM endpoints WHERE substring(client_key_sealed FROM 1 FOR 5) <> $1"#,
            stamp
        )
        .fetch_one(db)
        .await
    }
}
