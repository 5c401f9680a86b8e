//! From a publish to a POST and its history.
mod first;
