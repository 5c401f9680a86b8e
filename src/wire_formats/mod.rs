//! Wire formats as a tenant sees them: the built-in ones to read, and the tenant's own.
//!
//! An edit makes a new version; endpoints use it from the next publish on, while a delivery keeps the version that it was
//! created with, also after the format was deleted. A format is edited only to what every endpoint that uses it can
//! take, and deleted only when none does.
//!
//! How a format works is in [`crate::formats`]; how it is found again by number is in [`crate::format_book`].

mod api;
mod model;
mod preview;
mod queries;

pub use api::router;
