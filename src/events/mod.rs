//! Events: published once, stored once, delivered to whoever subscribes.
//!
//! A publish is routed in memory (`routing`), batched with others ([`ingest`]) and answered when it is on disk. What was
//! routed by an outdated table is routed again; nobody gets a 202 for an event that missed an endpoint.

mod admission;
mod announce;
mod api;
mod expunge;
pub mod ingest;
mod model;
mod publish;
pub mod queries;
mod reasons;
mod routing;
mod trial;

#[cfg(test)]
mod fuzz;

pub use announce::Announcer;
pub use api::{EventsState, router};
pub use ingest::Ingest;
pub use model::PublishBody;
