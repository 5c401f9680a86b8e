//! Bytes in, headers out: how a request proves that it comes from Posthaste.
//!
//! A wire format lists [`SignatureSpec`]s; an endpoint's live secrets turn them into a [`Signer`] once, which then signs every
//! attempt. [`verify()`] is the other side, as an integrator would write it.
//!
//! Who sends which header:
//! - [`WEBHOOK_ID`] and [`POSTHASTE_ATTEMPT`] go with every request of every format, so whoever builds the request adds them;
//! - [`WEBHOOK_TIMESTAMP`], or the header that a signature names instead, goes with the formats that sign it (some `content` has
//!   `{{timestamp}}`): a timestamp that nothing vouches for would invite receivers to trust it. [`Signer::sign`] adds it;
//! - the signature headers are the format's own. [`Signer::sign`] adds them.
//!
//! Deliberately not here: choosing secrets, their grace periods, sealing them, and the clock.

mod ed25519;
mod key;
mod signer;
mod spec;
mod template;
mod verify;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use axum::http::HeaderName;

pub use ed25519::{PublicKey, public_key};
pub use signer::{MAX_LIVE_SECRETS, Signer, SignerError};
pub use spec::{Algorithm, Encoding, KeyKind, SignatureSpec, SpecError, SpecText};
pub use template::TemplateError;
pub use verify::{TIMESTAMP_TOLERANCE_S, VerifyError, verify, verify_hex};

/// The event's id: the same for every attempt, what receivers deduplicate by.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// Unix seconds of this attempt.
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The signature header of Standard Webhooks.
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Which attempt of its delivery a request is, from 1.
pub const POSTHASTE_ATTEMPT: HeaderName = HeaderName::from_static("x-posthaste-attempt");
