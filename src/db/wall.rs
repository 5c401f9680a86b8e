//! The wall between tenants, in the database: a transaction that belongs to one tenant, under a role that sees no other's rows.
//!
//! Guarantees: what a tenant's request does runs as [`TENANT_ROLE`], which owns nothing and which row-level security binds
//! (`migrations/…_raise_walls.sql`), with the tenant set beside it. A query that forgets its `tenant_id = $1` finds what is
//! the tenant's own, or nothing. Role and tenant are of the transaction: both are gone when it ends, also where a pooler
//! hands the connection on.
//!
//! What it does not do: stop somebody who can send SQL of their own. `RESET ROLE` is open to whoever logged in.

use sqlx::{PgExecutor, PgPool, PgTransaction};

use super::shared::SharedPool;
use crate::types::TenantId;

/// What tenants' requests run as.
const TENANT_ROLE: &str = "posthaste_tenant";
/// What the program itself must be a member of: its policies show it every tenant.
const ENGINE_ROLE: &str = "posthaste_engine";

/// Connections that are only ever used behind the wall.
///
/// Apart from those of the engine: plans are made for a role, and a statement that both prepared would be planned anew each time
/// that its connection changes hands.
#[derive(Clone, Debug)]
pub struct TenantPool(SharedPool);

impl TenantPool {
    pub(super) fn new(pool: SharedPool) -> Self {
        Self(pool)
    }

    /// Opens a transaction of this tenant. Dropped, it changes nothing.
    pub async fn begin(&self, tenant: TenantId) -> sqlx::Result<PgTransaction<'static>> {
        // A UUID needs no quoting.
        let wall = format!(
            "SELECT set_config('role', '{TENANT_ROLE}', true), set_config('posthaste.tenant', '{}', true);",
            tenant.uuid()
        );
        self.0.begin_with(&wall).await
    }

    /// For metrics, and to close it.
    pub fn pool(&self) -> &PgPool {
        self.0.pool()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RolesError {
    #[error(
        "The database's user {user} can't act as {TENANT_ROLE} or is no member of {ENGINE_ROLE}, the roles of the walls between \
         tenants; as a superuser: GRANT {TENANT_ROLE}, {ENGINE_ROLE} TO \"{user}\""
    )]
    Missing { user: String },
    #[error("{0}")]
    Database(#[from] sqlx::Error),
}

/// Whether whoever is logged in may work on both sides of the wall: without the engine's role everything would look empty. A
/// restored database may have another user than the one that the migrations were applied by. Before there are walls
/// there are no roles, and all is well.
pub async fn check_roles(db: impl PgExecutor<'_>) -> Result<(), RolesError> {
    // Before Postgres 16 whoever is a member may change into the role.
    let row = sqlx::query!(
        r#"SELECT current_user::text AS "user!", coalesce(
               pg_has_role(to_regrole($1), CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END)
               AND pg_has_role(to_regrole($2), 'USAGE'), true) AS "both!"
        "#,
        TENANT_ROLE,
        ENGINE_ROLE
    )
    .fetch_one(db)
    .await?;
    if row.both { Ok(()) } else { Err(RolesError::Missing { user: row.user }) }
}
