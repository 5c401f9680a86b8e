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

use utoipa_axum::router::OpenApiRouter;

use crate::auth::Context;

pub use attempts::readable;
pub use model::Delivery;
pub use queries::{describe, last_error};
pub use test_event::router as test_router;

pub fn router() -> OpenApiRouter<Context> {
    api::router().merge(history::router()).merge(attempt_history::router()).merge(stats::router())
}
