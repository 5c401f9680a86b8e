//! `EndpointUrl`: a URL that the policy has accepted.
//!
//! Guarantees: absolute, https (or http where allowed), no credentials, no fragment, no character that a
//! reader can't see, a port that webhooks use, a host that is a public-looking name or an address that
//! the policy allows; and it can be put into an HTTP request. Whatever spelling an IP address came in
//! (`0x7f.1`, full-width digits), the parsed address is what was judged.
//!
//! It doesn't promise that the name resolves to anything allowed: that is judged at every attempt.
//!
//! What a request needs of it (target, `Host`, the key of the pool) is made once, here: an attempt copies none of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ::url::{Host, Url};
use hyper::Uri;
use hyper::header::HeaderValue;
use utoipa::openapi::SchemaFormat;

use super::names;
use super::policy::{Policy, SchemeRule};
use super::ports;
use crate::types::schema::{described, text};

/// Longest URL, as given and as sent (percent-encoded).
pub const MAX_URL_BYTES: usize = 2_048;

/// Why a URL is refused: sentences for whoever typed it, to go after "url".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefusal {
    #[error("must be at most 2048 bytes long")]
    TooLong,
    #[error("must not contain white space, control or invisible characters, or a backslash")]
    ForbiddenCharacter,
    #[error("must be an absolute URL such as https://example.com/hook")]
    Malformed,
    #[error("must be https")]
    MustBeHttps,
    #[error("must not contain a user name or password")]
    Credentials,
    #[error("must not contain a fragment (#)")]
    Fragment,
    #[error("must not percent-encode its host")]
    EncodedHost,
    #[error("must use port 80 or 443, or one from 1024 up that isn't known for another service")]
    Port,
    #[error("must name its host in full, such as hooks.example.com")]
    SingleLabel,
    #[error("must name its host without a final dot")]
    TrailingDot,
    #[error("must not name a host that is reserved for local use")]
    ReservedName,
    #[error("must not lead to a private or reserved address")]
    Address,
}

/// See the module's documentation. Made by [`Policy::parse_url`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    text: Box<str>,
    origin: Arc<Origin>,
    /// In full, as HTTP/2 wants it.
    absolute: Uri,
    /// Path and query, as HTTP/1.1 wants it.
    path: Uri,
    host_header: HeaderValue,
}

/// Whom a connection is with: URLs that differ in nothing else share connections.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) https: bool,
    /// A name in lower case and punycode, or an address (without brackets).
    pub(super) host: Box<str>,
    pub(super) port: u16,
    literal: Option<IpAddr>,
}

impl Origin {
    /// The address, if the host is one: such a host is never looked up.
    pub(super) fn literal(&self) -> Option<SocketAddr> {
        self.literal.map(|ip| SocketAddr::new(ip, self.port))
    }
}

described!(
    EndpointUrl,
    "EndpointUrl",
    text(
        "Where deliveries go: https (http where the format or the operator allows it), with a public host name or address, \
         without credentials and fragment, on port 80, 443 or one from 1024 up.",
        "https://crm.example.com/hooks/posthaste"
    )
    .format(Some(SchemaFormat::Custom("iri".to_owned())))
    .max_length(Some(MAX_URL_BYTES))
    .pattern(Some("^[Hh][Tt][Tt][Pp][Ss]?://"))
);

impl EndpointUrl {
    pub(super) fn parse(policy: &Policy, raw: &str, rule: SchemeRule) -> Result<Self, UrlRefusal> {
        // The URL standard strips and repairs a good deal (tabs, `///`, backslashes, `http:host`). What
        // people read should be what is sent, so the raw text is checked before the parser mends it.
        if raw.len() > MAX_URL_BYTES {
            return Err(UrlRefusal::TooLong);
        }
        if raw.chars().any(is_forbidden) {
            return Err(UrlRefusal::ForbiddenCharacter);
        }
        let (scheme, rest) = raw.split_once("://").ok_or(UrlRefusal::Malformed)?;
        let plain_http = scheme.eq_ignore_ascii_case("http");
        if !plain_http && !scheme.eq_ignore_ascii_case("https") {
            return Err(UrlRefusal::MustBeHttps);
        }
        if raw.contains('#') {
            return Err(UrlRefusal::Fragment);
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(UrlRefusal::Credentials);
        }
        if authority.contains('%') {
            return Err(UrlRefusal::EncodedHost);
        }
        if authority.is_empty() {
            return Err(UrlRefusal::Malformed);
        }
        if plain_http && !policy.allows_http(rule) {
            return Err(UrlRefusal::MustBeHttps);
        }

        let parsed = Url::parse(raw).map_err(|_| UrlRefusal::Malformed)?;
        if parsed.as_str().len() > MAX_URL_BYTES {
            return Err(UrlRefusal::TooLong);
        }
        let port = parsed.port_or_known_default().ok_or(UrlRefusal::Malformed)?;
        let literal = match parsed.host().ok_or(UrlRefusal::Malformed)? {
            Host::Domain(name) => {
                names::judge(name)?;
                None
            }
            Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
        };
        let target = literal.map(|ip| SocketAddr::new(ip, port));
        if !ports::is_allowed(port) && !target.is_some_and(|target| policy.allows_exactly(target)) {
            return Err(UrlRefusal::Port);
        }
        if let Some(target) = target {
            policy.judge(target).map_err(|_| UrlRefusal::Address)?;
        }
        // The URL standard lets a few characters through that a request line must not have.
        let absolute = Uri::try_from(parsed.as_str()).map_err(|_| UrlRefusal::Malformed)?;
        let path = absolute.path_and_query().cloned().map(Uri::from).ok_or(UrlRefusal::Malformed)?;
        let authority = absolute.authority().ok_or(UrlRefusal::Malformed)?;
        let host_header = HeaderValue::from_str(authority.as_str()).map_err(|_| UrlRefusal::Malformed)?;
        let host = match literal {
            Some(ip) => ip.to_string().into(),
            None => parsed.host_str().unwrap_or_default().into(),
        };
        let origin = Arc::new(Origin { https: !plain_http, host, port, literal });
        Ok(EndpointUrl { text: raw.into(), origin, absolute, path, host_header })
    }

    /// The text exactly as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn host(&self) -> &str {
        self.absolute.host().unwrap_or_default()
    }

    /// For logs and `Debug`: without the query, where people put tokens.
    pub fn redacted(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            let scheme = if self.origin.https { "https" } else { "http" };
            write!(
                f,
                "{scheme}://{}{}",
                self.absolute.authority().map_or("", |it| it.as_str()),
                self.path.path()
            )?;
            if self.path.query().is_some() { f.write_str("?…") } else { Ok(()) }
        })
    }

    pub(super) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Whether both sides can prove who they are.
    pub fn is_https(&self) -> bool {
        self.origin.https
    }

    pub(super) fn absolute(&self) -> &Uri {
        &self.absolute
    }

    pub(super) fn path(&self) -> &Uri {
        &self.path
    }

    pub(super) fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({})", self.redacted())
    }
}

fn is_forbidden(c: char) -> bool {
    c.is_control() || c.is_whitespace() || c == '\\' || is_invisible(c)
}

/// Unicode's "default ignorable" code points: a host with one in it reads like another host, and the
/// URL standard drops them silently.
fn is_invisible(c: char) -> bool {
    matches!(u32::from(c),
        0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
        | 0x202a..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb
        | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}
