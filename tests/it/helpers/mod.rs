//! What the tests share: Posthaste on a database of its own, a client, a receiver.

pub mod app;
pub mod client;
pub mod cluster;
pub mod conformance;
pub mod hostile;
pub mod process;
pub mod receiver;
pub mod sql;
pub mod stored;

pub use app::{Tenant, TestApp, spawn, spawn_with};
pub use receiver::{Answer, Receiver};
pub use stored::Stored;
