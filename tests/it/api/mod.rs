//! The API from outside, against the contract.
mod isolation;
mod routes;
