//! The API as its users see it.
mod event_types;
mod isolation;
mod manners;
