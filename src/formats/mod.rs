//! Wire formats: how an event becomes the body and the rules of an HTTP request. A format is data, not code: an
//! [`Envelope`] around the event's data, signature headers, what counts as success, timeout and retry schedule.
//!
//! Guarantees: a [`Format`] that exists is valid; rendering can't fail and gives the same bytes for the same event and version,
//! each time; a [`FormatVersion`] means one format for ever, since deliveries store only that number. An edit is a new
//! version.
//!
//! Built-in formats come with their [`presets`]. Tenants' own formats are kept in the database; see `crate::format_book`.

mod envelope;
mod format;
pub mod presets;
mod slot;
mod success;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use envelope::{Envelope, EnvelopeError};
pub use format::{
    DEFAULT_RETRY_SCHEDULE_S, DEFAULT_TIMEOUT_MS, Format, FormatError, FormatName, FormatVersion,
    MAX_RETRY_STEPS, MAX_RETRY_TOTAL_S, MAX_SIGNATURES, TIMEOUT_RANGE_MS, check_retry_schedule_s,
    check_timeout_ms,
};
pub use success::{SuccessError, SuccessRule};

/// What an envelope can say about an event.
#[derive(Debug, Clone, Copy)]
pub struct EventView<'a> {
    pub id: &'a str,
    pub event_type: &'a str,
    /// When it happened, not when it is sent.
    pub occurred_at: time::OffsetDateTime,
    pub tenant_id: &'a str,
    pub location_id: &'a str,
    pub channel: Option<&'a str>,
    pub api_version: Option<&'a str>,
    pub live_mode: bool,
    /// JSON text in the normal form of [`crate::types::ecma_json`].
    pub data: &'a [u8],
}
