//! Jobs: what takes longer than a request. Deliveries of a period that are sent again (`recover`), one event to several
//! endpoints (`replay`), and everything of a tenant that goes (`purge`).
//!
//! A job is a row. Any node with the role `worker` does its next [`step`]: some rows, and how far the job is by then, in one
//! transaction. So a job survives whatever happens to nodes, and does nothing twice. Jobs take turns step by step; one
//! with a rate comes when it is due. What is pending already is left alone.

mod api;
mod model;
pub mod purge;
mod queries;
mod recover;
mod replay;
mod run;

pub use api::router;
pub use model::Job;
pub use queries::purge_finished;
pub use run::{Stepped, step};
