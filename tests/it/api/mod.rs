//! The API as its users see it, against the contract.
mod audit;
mod bad_fields;
mod bad_input;
mod batch;
mod bodies;
mod client_certificates;
mod data;
mod deliveries;
mod endpoint_lists;
mod endpoint_states;
mod endpoints;
mod event_types;
mod expunge;
mod failed_auth;
mod filters;
mod formats;
mod histories;
mod idempotency;
mod isolation;
mod jobs;
mod locations;
mod manners;
mod once;
mod plans;
mod publish;
mod rebuilt;
mod reference;
mod replay;
mod rotation;
pub mod routes;
mod secrecy;
mod secrets;
mod stats;
mod styles;
mod subscriptions;
mod tenant_delete;
mod tenants;
mod test_events;

use serde_json::Value;

/// The text of a field.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name}: {value}"))
}

fn array<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("no list {name}: {value}"))
}
