//! Endpoints: where deliveries go, how, and signed with what.
//!
//! Every change counts the endpoint's version up, has publishes to its location routed anew, and is obeyed by the owner of
//! its shard before the API answers (202 where that takes too long).

mod api;
pub mod attempt;
mod change;
pub mod client_certificate;
mod create;
mod draft;
mod formats;
mod model;
pub mod queries;
pub mod secrets;
mod signing_secret;
mod states;
mod subscriptions;
pub mod target;
mod tester;
mod view;

#[cfg(test)]
mod fuzz;

pub use api::{delete, router};
pub use create::add;
pub use draft::CreateBody;
pub use formats::check_new_format;
pub use model::{Endpoint, FAILING_REASON};
pub use target::Target;
pub use tester::Tester;
