//! The words that every floor shares: ids, time, texts, secrets, JSON text. Pure: no I/O but for reading clocks.

pub mod clock;
pub mod duplicates;
pub mod ecma_json;
pub mod event_type;
mod hex;
pub mod ids;
pub mod rfc3339;
pub mod schema;
pub mod secret;
pub mod text;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
pub(crate) mod hostile;

pub use clock::{Clock, Timestamp};
pub use hex::hex;
pub use ids::{
    AttemptId, AuditId, EndpointId, EventId, JobId, KeyId, LocationId, SHARD_COUNT, Shard, TenantId,
};
