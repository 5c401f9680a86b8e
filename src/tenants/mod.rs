//! Tenants and their keys: what the operator makes first.

mod api;
mod keys;
mod model;
mod queries;

pub use api::router;
