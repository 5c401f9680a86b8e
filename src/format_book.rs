//! Wire formats by number or name: the built-in ones, and tenants' own ones from the database.
//!
//! Deliveries store only a format's number, and a number means one format for ever, so a compiled format is remembered
//! without ever being outdated. Names are looked up each time: an edit moves them to another number.

use std::{collections::HashMap, sync::Arc};

use moka::sync::Cache;
use sqlx::{PgConnection, PgExecutor};

use crate::{
    formats::{Format, FormatVersion, presets},
    types::TenantId,
};

/// Tenants' formats that are remembered; a compiled one takes some kilobytes.
const COMPILED_MAX: u64 = 2_000;

/// Cheap to clone; clones remember together.
#[derive(Clone)]
pub struct FormatBook {
    compiled: Arc<Cache<i32, Arc<Format>>>,
}

impl Default for FormatBook {
    fn default() -> Self {
        Self { compiled: Arc::new(Cache::new(COMPILED_MAX)) }
    }
}

impl FormatBook {
    /// The formats of these numbers. What is not known by any is missing.
    pub async fn of(
        &self,
        db: impl PgExecutor<'_>,
        versions: impl IntoIterator<Item = i32>,
    ) -> sqlx::Result<HashMap<i32, Arc<Format>>> {
        let mut found = HashMap::new();
        let mut unknown: Vec<i32> = Vec::new();
        for version in versions {
            let built_in = || presets::format_by_version(FormatVersion(version)).cloned();
            match built_in().or_else(|| self.compiled.get(&version)) {
                Some(format) => {
                    found.insert(version, format);
                }
                None => unknown.push(version),
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        unknown.sort_unstable();
        unknown.dedup();
        let rows = sqlx::query!(
            "SELECT version, definition FROM wire_format_versions WHERE version = ANY($1)",
            &unknown
        )
        .fetch_all(db)
        .await?;
        for row in rows {
            match serde_json::from_str::<Format>(&row.definition) {
                Ok(format) => {
                    let format = Arc::new(format);
                    self.compiled.insert(row.version, Arc::clone(&format));
                    found.insert(row.version, format);
                }
                Err(error) => tracing::error!(version = row.version, %error, "a wire format can't be read"),
            }
        }
        Ok(found)
    }

    /// The format of one number.
    pub async fn one(&self, db: impl PgExecutor<'_>, version: i32) -> sqlx::Result<Option<Arc<Format>>> {
        Ok(self.of(db, [version]).await?.remove(&version))
    }

    /// The format that the tenant means by this name now: a built-in one, or one of its own.
    pub async fn named(
        &self,
        db: &mut PgConnection,
        tenant: TenantId,
        name: &str,
    ) -> sqlx::Result<Option<Arc<Format>>> {
        if let Some(format) = presets::format_by_name(name) {
            return Ok(Some(Arc::clone(format)));
        }
        if !Format::is_name(name) {
            return Ok(None);
        }
        let version = sqlx::query_scalar!(
            "SELECT version FROM wire_formats WHERE tenant_id = $1 AND name = $2",
            tenant.uuid(),
            name
        )
        .fetch_optional(&mut *db)
        .await?;
        match version {
            None => Ok(None),
            Some(version) => self.one(db, version).await,
        }
    }
}
