//! Who may do what: API keys, and extractors that hand a handler its tenant only when the caller may.

pub mod context;
pub mod extract;
pub mod keys;
pub mod queries;

#[cfg(test)]
mod fuzz;

pub use context::{Context, ContextParts};
pub use extract::{Actor, Asker, Caller, Operator, PastTenant, Publisher, Tenant, scope};
pub use keys::{ApiKey, KeyHash};
