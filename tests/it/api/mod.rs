//! The API from outside, against the contract.
mod bad_fields;
mod bad_input;
mod isolation;
mod locations;
mod routes;
mod tenants;
