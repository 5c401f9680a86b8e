//! The API from outside, against the contract.
mod bad_fields;
mod bad_input;
mod endpoint_lists;
mod endpoints;
mod isolation;
mod locations;
mod routes;
mod tenants;
