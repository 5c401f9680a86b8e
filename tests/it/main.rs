//! One test binary for everything that needs a database, a process or a socket.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod api;
mod beyond;
mod cli;
mod delivery;
mod docs;
mod embedded;
mod floors;
mod helpers;
mod metrics;
mod rekey;
mod supply;
mod systems;
mod walls;
