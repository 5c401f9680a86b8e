//! SQL of the keys.

use sqlx::PgExecutor;

use super::keys::KeyHash;
use crate::{
    types::{KeyId, TenantId, Timestamp},
    web::page::Keyset,
};

/// A key as it is stored: everything but the key.
#[derive(Debug)]
pub struct StoredKey {
    pub tenant_id: TenantId,
    pub id: KeyId,
    pub name: String,
    pub scopes: Vec<String>,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// The live key of this hash. Notes its use, at most once a minute.
pub async fn find_live(db: impl PgExecutor<'_>, hash: &KeyHash) -> sqlx::Result<Option<StoredKey>> {
    sqlx::query_as!(
        StoredKey,
        r#"
        WITH used AS (
            UPDATE api_keys SET last_used_at = now()
            WHERE hash = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
        )
        SELECT tenant_id AS "tenant_id: TenantId", id AS "id: KeyId", name, scopes, expires_at AS "expires_at: Timestamp",
            last_used_at AS "last_used_at: Timestamp", created_at AS "created_at: Timestamp"
        FROM api_keys
        WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
        "#,
        hash.as_bytes()
    )
    .fetch_optional(db)
    .await
}

pub async fn tenant_exists(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM tenants WHERE id = $1 AND deleted_at IS NULL) AS "exists!""#,
        tenant.uuid()
    )
    .fetch_one(db)
    .await
}

/// Whether there was such a tenant: the job that purges it is kept for a while.
pub async fn tenant_existed(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM jobs WHERE tenant_id = $1 AND kind = 'purge') AS "existed!""#,
        tenant.uuid()
    )
    .fetch_one(db)
    .await
}

pub struct NewKey<'a> {
    pub id: KeyId,
    pub name: &'a str,
    pub hash: &'a KeyHash,
    pub scopes: &'a [String],
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// False where the tenant does not exist.
pub async fn insert(db: impl PgExecutor<'_>, tenant: TenantId, key: NewKey<'_>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO api_keys (tenant_id, id, name, hash, scopes, expires_at, created_at)
         SELECT t.id, $2, $3, $4, $5, $6, $7 FROM tenants t WHERE t.id = $1 AND t.deleted_at IS NULL",
        tenant.uuid(),
        key.id.uuid(),
        key.name,
        key.hash.as_bytes(),
        key.scopes,
        key.expires_at.map(Timestamp::datetime),
        key.created_at.datetime()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Live keys; an expired one is shown until it is revoked.
pub async fn page(db: impl PgExecutor<'_>, tenant: TenantId, page: Keyset) -> sqlx::Result<Vec<StoredKey>> {
    sqlx::query_as!(
        StoredKey,
        r#"
        SELECT tenant_id AS "tenant_id!: TenantId", id AS "id!: KeyId", name AS "name!", scopes AS "scopes!",
            expires_at AS "expires_at: Timestamp", last_used_at AS "last_used_at: Timestamp",
            created_at AS "created_at!: Timestamp"
        FROM (
            (SELECT * FROM api_keys WHERE NOT $2 AND tenant_id = $1 AND revoked_at IS NULL AND id < $3 ORDER BY id DESC LIMIT $4)
            UNION ALL
            (SELECT * FROM api_keys WHERE $2 AND tenant_id = $1 AND revoked_at IS NULL AND id > $3 ORDER BY id LIMIT $4)
        ) p ORDER BY id DESC
        "#,
        tenant.uuid(),
        page.backwards,
        page.edge,
        page.fetch()
    )
    .fetch_all(db)
    .await
}

/// False where there is no such live key.
pub async fn revoke(db: impl PgExecutor<'_>, tenant: TenantId, key: KeyId) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE api_keys SET revoked_at = now() WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL",
        tenant.uuid(),
        key.uuid()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}
