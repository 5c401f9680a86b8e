//! The API from outside, against the contract.
mod audit;
mod bad_fields;
mod bad_input;
mod endpoint_lists;
mod endpoint_states;
mod endpoints;
mod isolation;
mod locations;
mod routes;
mod tenants;
