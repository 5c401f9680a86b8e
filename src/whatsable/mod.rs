//! The three routes of WhatsAble's own webhook API, for tenants of that preset: a dashboard written for it works unchanged.
//!
//! Bodies and statuses are those of its page, not those of `/v1`: a bare array, integer ids, 400 for whatever is wrong with a
//! request, 403 for another account's webhook, 500 when the database fails. Authentication, scopes, limits and
//! `Idempotency-Key` are as everywhere.

mod api;
mod queries;

pub use api::router;
