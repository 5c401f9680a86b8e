//! Sending to URLs that strangers typed in, without being used by them.
//!
//! - `policy` decides where a request may go; `ranges`, `names` and `ports` are its tables. Pure.
//! - `url` has [`EndpointUrl`], the only kind of URL that can be sent to; `headers` has [`CustomHeaders`];
//!   `identity` has [`ClientIdentity`], what we show to receivers that ask who is calling.
//! - `resolver` turns names into addresses that were judged, and only those.
//! - `send` has [`Sender`], the one place that POSTs; `tls`, `timings`, `response`, `failure` are its parts.
//!
//! Guarantees: no request leaves for an address that the policy forbids, whatever the spelling, the DNS answers,
//! redirects or environment; whatever a receiver does ends in an [`Exchange`], within the time-out and in
//! bounded memory.
//!
//! Deliberately not here: retries, what counts as success, rate limits, and how many requests are under way at
//! once (the worker's), counting refusals (whoever calls knows the tenant), an egress proxy.

mod failure;
mod headers;
mod identity;
mod names;
mod policy;
mod ports;
mod ranges;
mod resolver;
mod response;
mod send;
mod timings;
mod tls;
mod url;

#[cfg(test)]
mod tests;

pub use failure::{ErrorClass, SendError};
pub use headers::{
    CustomHeaders, HeaderRefusal, MAX_CUSTOM_HEADER_BYTES, MAX_CUSTOM_HEADERS, headers_schema, is_forbidden,
};
pub use identity::{
    CertificateFacts, ClientIdentity, IdentityPart, IdentityRefusal, MAX_CHAIN_CERTIFICATES,
    MAX_CHAIN_PEM_BYTES, MAX_KEY_PEM_BYTES,
};
pub use policy::{Policy, PolicySettings, Refused, SchemeRule};
pub use resolver::{LOOKUP_TIMEOUT, NameServers};
pub use response::{MAX_EXCERPT_BYTES, MAX_HEAD_BYTES, MAX_KEPT_HEADER_BYTES, MAX_KEPT_HEADERS, Response};
pub use send::{CONNECT_TIMEOUT, Exchange, Outbound, Sender, SenderError, SenderOptions, USER_AGENT};
pub use timings::Timings;
pub use tls::ExtraCaError;
pub use url::{EndpointUrl, MAX_URL_BYTES, UrlRefusal};
