//! The API from outside, against the contract.
mod bad_input;
mod isolation;
mod routes;
