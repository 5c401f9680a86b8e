//! Deliveries: one event to one endpoint, its state, its attempts, and a second chance by hand.
//!
//! A delivery has no row of its own. Its state is where it is found: in the queue it is pending (held, where the endpoint
//! is paused or disabled), else among the settled ones it failed or was canceled, else one of its attempts succeeded.

mod api;
mod attempts;
mod model;
mod queries;
mod test_event;

pub use api::router;
pub use attempts::readable;
pub use model::Delivery;
pub use queries::describe;
pub use test_event::router as test_router;
