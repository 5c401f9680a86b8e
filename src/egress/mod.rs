//! Sending to URLs that strangers typed in, without being used by them.
//!
//! - `policy` decides where a request may go; `ranges`, `names` and `ports` are its tables. Pure.
//! - `url` has [`EndpointUrl`], the only kind of URL that can be sent to; `headers` has [`CustomHeaders`].
//! - `resolver` turns names into addresses that were judged, and only those.
//! - `send` has [`Sender`], the one place that POSTs. `connect` makes connections (`tls`), `pool` keeps them within the
//!   `room` that there is, `http1` and `http2` speak on them, `wire` (with `heads` and `frames`) watches their bytes;
//!   `proxy` is the way out that an operator may set; `response`, `timings` and `failure` tell how it went.
//! - `identity` has [`ClientIdentity`], which a request may show to its receiver.
//!
//! Guarantees: no request leaves for an address that the policy forbids, whatever the spelling, the DNS answers,
//! redirects or environment; whatever a receiver does ends in an [`Exchange`], within the time-out and in
//! bounded memory; open connections are bounded over all receivers.
//!
//! Deliberately not here: retries, what counts as success, rate limits, and how many requests are under way at
//! once (the worker's), counting refusals (whoever calls knows the tenant).

mod connect;
mod failure;
mod frames;
mod headers;
mod heads;
mod http1;
mod http2;
mod identity;
mod names;
mod policy;
mod pool;
mod ports;
mod proxy;
mod ranges;
mod resolver;
mod response;
mod room;
mod send;
mod timings;
mod tls;
mod url;
mod wire;

#[cfg(test)]
mod tests;

pub use connect::CONNECT_TIMEOUT;
pub use failure::{ErrorClass, SendError};
pub use headers::{
    CustomHeaders, HeaderRefusal, MAX_CUSTOM_HEADER_BYTES, MAX_CUSTOM_HEADERS, headers_schema, is_forbidden,
};
pub use identity::{
    CertificateFacts, ClientIdentity, IdentityPart, IdentityRefusal, MAX_CHAIN_CERTIFICATES,
    MAX_CHAIN_PEM_BYTES, MAX_KEY_PEM_BYTES,
};
pub use policy::{Policy, PolicySettings, Refused, SchemeRule};
pub use proxy::{BadProxy, EgressProxy};
pub use resolver::{LOOKUP_TIMEOUT, NameServers};
pub use response::{MAX_EXCERPT_BYTES, MAX_HEAD_BYTES, MAX_KEPT_HEADER_BYTES, MAX_KEPT_HEADERS, Response};
pub use send::{Exchange, Outbound, Sender, SenderError, SenderOptions, USER_AGENT};
pub use timings::Timings;
pub use tls::ExtraCaError;
pub use url::{EndpointUrl, MAX_URL_BYTES, UrlRefusal};
