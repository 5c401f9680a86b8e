//! Posthaste: webhook delivery on Postgres.
//!
//! The floors, top to bottom; a floor imports those below it, never one above (held by `tests/it/floors.rs`):
//!
//! | floor | modules |
//! | --- | --- |
//! | 5 | `cli` → [`app`] |
//! | 4 | [`api`], [`worker`], [`maintenance`] |
//! | 3 | the features: [`tenants`], [`locations`], [`endpoints`], [`event_types`], [`events`], [`deliveries`], [`jobs`], [`wire_formats`], [`audit`], [`rekey`] |
//! | 2 | [`auth`], [`format_book`], [`queue`] |
//! | 1 | [`web`], [`db`], [`signing`], [`formats`], [`filters`], [`egress`], [`seal`] |
//! | 0 | [`types`], [`config`], [`telemetry`], [`open_files`] |
//!
//! See `ARCHITECTURE.md` for the walks through them.

pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod config;
pub mod db;
pub mod deliveries;
pub mod egress;
pub mod endpoints;
pub mod event_types;
pub mod events;
pub mod filters;
pub mod format_book;
pub mod formats;
pub mod idempotency;
pub mod jobs;
pub mod locations;
pub mod maintenance;
pub mod open_files;
pub mod queue;
pub mod rekey;
pub mod seal;
pub mod signing;
pub mod telemetry;
pub mod tenants;
pub mod types;
pub mod web;
pub mod whatsable;
pub mod wire_formats;
pub mod worker;
