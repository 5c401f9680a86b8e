//! What is sealed of endpoints.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{BATCH, Row, Table};
use crate::{
    endpoints::secrets::{headers_purpose, secret_purpose},
    seal::Purpose,
    types::{EndpointId, TenantId},
};

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
