//! Locations: a tenant's sites, brands or numbers. Each one's events, endpoints and deliveries share its shard.

mod api;
mod model;
pub mod queries;

pub use api::router;
pub use model::{Channel, Location, LocationRef};

use sqlx::PgConnection;

use crate::types::{Clock, LocationId, TenantId};

/// `external_id` of the location that every tenant is born with.
pub const DEFAULT_EXTERNAL_ID: &str = "default";

/// Makes the location that every tenant is born with.
pub async fn make_default(db: &mut PgConnection, tenant: TenantId, clock: &Clock) -> sqlx::Result<()> {
    let new = model::NewLocation::default_of_tenant();
    queries::insert(db, tenant, mint(clock), &new, clock.now()).await?;
    Ok(())
}

/// A new location's id decides its shard: its own random bits.
fn mint(clock: &Clock) -> LocationId {
    clock.mint()
}
