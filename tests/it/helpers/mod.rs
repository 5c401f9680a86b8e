//! What the tests share: Posthaste on a database of its own, a client, a receiver.

pub mod app;
pub mod authority;
pub mod client;
pub mod cluster;
pub mod conformance;
pub mod explain;
pub mod hostile;
pub mod pooler;
pub mod process;
pub mod receiver;
pub mod sql;
pub mod stored;
pub mod tls_receiver;

pub use app::{Tenant, TestApp, spawn, spawn_with};
pub use authority::{Authority, Identity};
pub use receiver::{Answer, Receiver};
pub use stored::Stored;
