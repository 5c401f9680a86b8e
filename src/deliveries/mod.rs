//! Deliveries: one event to one endpoint, its state, its attempts, and a second chance by hand.
//!
//! A delivery has no row of its own. Its state is where it is found: in the queue it is pending (held, where the endpoint
//! is paused or disabled), else among the settled ones it failed or was canceled, else one of its attempts succeeded.

mod api;
mod attempt_history;
mod attempts;
mod history;
mod model;
mod queries;
mod stats;
mod test_event;
mod walk;

use axum::Router;

use crate::auth::Context;

pub use model::Delivery;
pub use queries::{describe, last_error};
pub use test_event::router as test_router;

pub fn router(context: &Context) -> Router {
    api::router(context.clone())
        .merge(history::router(context.clone()))
        .merge(attempt_history::router(context.clone()))
        .merge(stats::router(context.clone()))
}
