//! Event types: the catalogue of a tenant's preset, and types of the tenant's own.
//!
//! A preset's types are part of the program and can't be changed. A tenant's own ones may have a JSON Schema; publishing is
//! checked against it where the tenant asks for that. Deleting a type archives it: it takes no new subscriptions, and
//! those that it has go on. Posthaste's own types ([`operational`]) are in every catalogue.

mod api;
mod bounds;
mod catalogue;
#[cfg(test)]
mod fuzz;
mod model;
pub mod operational;
mod payload_schema;
mod queries;
#[cfg(test)]
mod tests;

pub use api::router;
pub use catalogue::{Catalogue, Sample, load};
pub use payload_schema::{PayloadSchema, aside};
