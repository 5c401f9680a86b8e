//! How HTTP looks here, whatever the feature: errors, bodies, pages, request ids.

pub mod answer;
pub mod entries;
pub mod error;
pub mod failed_auth;
pub mod fields;
pub mod filter;
pub mod headers;
pub mod json;
pub mod page;
pub mod rate_limit;
pub mod request;

#[cfg(test)]
mod fuzz;

pub use answer::Answer;
pub use error::{ApiError, FieldError, OnConstraint};
pub use json::{Json, Patch, Path, Query};
