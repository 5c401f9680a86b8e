//! What every handler works with: the database, the clock, the vault, the rules of the road.

use std::{ops::Deref, sync::Arc, time::Duration};

use moka::future::Cache;
use sqlx::PgTransaction;

use super::{keys::KeyHash, queries::StoredKey};
use crate::{
    db::{self, SharedPool, TenantPool},
    egress::Policy,
    format_book::FormatBook,
    queue::control::Owners,
    seal::Vault,
    types::{Clock, TenantId, Timestamp},
};

/// Keys remembered for publishing; a remembered one is checked again in the statement that publishes.
const KEY_CACHE_ENTRIES: u64 = 10_000;
const KEY_CACHE_TTL: Duration = Duration::from_secs(60);

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Parts>);

pub struct Parts {
    /// Sees every tenant: for keys, and for the operator.
    pub(super) pool: SharedPool,
    tenants: TenantPool,
    pub owners: Owners,
    pub clock: Clock,
    pub vault: Arc<Vault>,
    pub policy: Arc<Policy>,
    pub formats: FormatBook,
    pub operator: KeyHash,
    /// Addresses that deliveries come from, for information.
    pub egress_ips: Vec<String>,
    retention_days: u16,
    pub(super) keys: Cache<KeyHash, Arc<StoredKey>>,
}

/// What a [`Context`] is made of.
pub struct ContextParts {
    pub pool: SharedPool,
    pub tenants: TenantPool,
    pub clock: Clock,
    pub vault: Arc<Vault>,
    pub policy: Arc<Policy>,
    pub formats: FormatBook,
    pub operator: KeyHash,
    pub egress_ips: Vec<String>,
    pub retention_days: u16,
}

impl Context {
    pub fn new(parts: ContextParts) -> Self {
        let ContextParts {
            pool,
            tenants,
            clock,
            vault,
            policy,
            formats,
            operator,
            egress_ips,
            retention_days,
        } = parts;
        let keys = Cache::builder().max_capacity(KEY_CACHE_ENTRIES).time_to_live(KEY_CACHE_TTL).build();
        Self(Arc::new(Parts {
            owners: Owners::new(pool.clone()),
            pool,
            tenants,
            clock,
            vault,
            policy,
            formats,
            operator,
            egress_ips,
            retention_days,
            keys,
        }))
    }
}

impl Parts {
    /// Whether Postgres answers, and has what this program needs.
    pub async fn is_migrated(&self) -> sqlx::Result<bool> {
        db::is_migrated(&mut *self.pool.lease().await?).await
    }

    /// A transaction behind the tenant's wall: the one way to the database that a handler of tenants has. Whoever only reads
    /// drops it.
    pub async fn begin(&self, tenant: TenantId) -> sqlx::Result<PgTransaction<'static>> {
        self.tenants.begin(tenant).await
    }

    /// History that is older has expired, but for deliveries that still wait. It goes by whole days.
    pub fn oldest(&self) -> Timestamp {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        self.clock.now().minus(DAY * (u32::from(self.retention_days) + 1))
    }
}

impl Deref for Context {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
