//! `CustomHeaders`: the headers that a tenant adds to its endpoint's requests.
//!
//! Guarantees: visible ASCII, few and small, each once, and none that frames the message, routes it,
//! speaks for Posthaste or could make a cloud's metadata service or an API gateway obey. Values are
//! secrets (they usually hold a token): `Debug` prints names only, and `HeaderValue`s are marked
//! sensitive. They aren't sealed here; that is the endpoint's business.

use std::fmt;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use utoipa::openapi::{Object, ObjectBuilder, Type, schema::AdditionalProperties};

use crate::types::schema::described;

pub const MAX_CUSTOM_HEADERS: usize = 20;
/// Names and values together.
pub const MAX_CUSTOM_HEADER_BYTES: usize = 4 * 1024;

/// Never taken from a tenant.
const FORBIDDEN: &[&str] = &[
    "host",
    "transfer-encoding",
    "te",
    "trailer",
    "connection",
    "keep-alive",
    "upgrade",
    "expect",
    "user-agent",
    // We never decompress, so nobody may ask for compression.
    "accept-encoding",
    "http2-settings",
    // Who the client is.
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    // What was asked for, to whoever believes it.
    "x-original-url",
    "x-rewrite-url",
    // Metadata services of Azure and Google answer whoever sends these.
    "metadata",
    "metadata-flavor",
];

/// Never taken from a tenant: whatever begins so.
const FORBIDDEN_PREFIXES: &[&str] = &[
    "content-",
    "proxy-",
    "webhook-",
    "x-posthaste-",
    "x-forwarded-",
    "x-amz",
    "x-aws",
    "x-goog",
    "x-azure",
    "x-ms-",
];

/// Why a header is refused. `name` is `None` when it is about all of them; else it is the name as given, for
/// a pointer into the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct HeaderRefusal {
    pub name: Option<String>,
    pub detail: &'static str,
}

/// See the module's documentation.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders {
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// An object of headers; `value` is the type of their values.
pub fn headers_schema(value: ObjectBuilder) -> ObjectBuilder {
    // What RFC 9110 calls a token.
    let name = Object::builder().schema_type(Type::String).pattern(Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"));
    let value = value.pattern(Some("^[!-~]([ -~]*[!-~])?$"));
    Object::builder()
        .schema_type(Type::Object)
        .max_properties(Some(MAX_CUSTOM_HEADERS))
        .property_names(Some(name))
        .additional_properties(Some(AdditionalProperties::RefOr(value.into())))
        .examples([serde_json::json!({"X-Store": "17"})])
}

described!(
    CustomHeaders,
    "CustomHeaders",
    headers_schema(Object::builder().schema_type(Type::String)).description(Some(format!(
        "Headers that every request carries besides: at most {MAX_CUSTOM_HEADERS}, names and values together \
         {MAX_CUSTOM_HEADER_BYTES} bytes, in visible ASCII, none that means something to HTTP, to Posthaste or to the format."
    )))
);

impl CustomHeaders {
    /// `signature_headers` are the ones that the endpoint's format sets itself. All refusals are told at once.
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        signature_headers: &[&str],
    ) -> Result<CustomHeaders, Vec<HeaderRefusal>> {
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        let mut refusals = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        for (name, value) in pairs {
            count += 1;
            bytes += name.len() + value.len();
            if count > MAX_CUSTOM_HEADERS || bytes > MAX_CUSTOM_HEADER_BYTES {
                let detail = "must be at most 20 headers of 4096 bytes together";
                refusals.push(HeaderRefusal { name: None, detail });
                break;
            }
            match parse_one(name, value, signature_headers) {
                Ok((name_lower, _)) if headers.iter().any(|(other, _)| *other == name_lower) => {
                    refusals.push(HeaderRefusal { name: Some(name.into()), detail: "is given twice" });
                }
                Ok(header) => headers.push(header),
                Err(detail) => refusals.push(HeaderRefusal { name: Some(name.into()), detail }),
            }
        }
        if refusals.is_empty() { Ok(CustomHeaders { headers }) } else { Err(refusals) }
    }

    /// Adds them to a request. Values are shared, not copied.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.iter().map(|(name, value)| (name, value))
    }

    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.headers.iter().map(|(name, _)| name.as_str())).finish()
    }
}

/// Whether a tenant may not choose a header of this name, since Posthaste sets it itself or never sends it.
pub fn is_forbidden(name: &HeaderName) -> bool {
    let name = name.as_str();
    FORBIDDEN.contains(&name) || FORBIDDEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn parse_one(name: &str, value: &str, signature: &[&str]) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "is not a valid header name")?;
    if is_forbidden(&name) {
        return Err("is a header that Posthaste sets itself or never sends");
    }
    if signature.iter().any(|header| header.eq_ignore_ascii_case(name.as_str())) {
        return Err("is a signature header of the endpoint's format");
    }
    if value.is_empty() || value.trim_ascii() != value {
        return Err("must have a value without spaces at its ends");
    }
    if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err("must have a value of visible ASCII characters");
    }
    let mut value = HeaderValue::from_str(value).map_err(|_| "is not a valid header value")?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<CustomHeaders, Vec<HeaderRefusal>> {
        CustomHeaders::parse(pairs.iter().copied(), &["webhook-signature", "X-WhatSync-Signature"])
    }

    #[test]
    fn ordinary_headers_are_kept_and_their_values_hidden() {
        let headers = parse(&[("Authorization", "Bearer s3cret"), ("X-Team", "a~b")]).expect("accepted");
        let mut map = HeaderMap::new();
        headers.add_to(&mut map);
        assert_eq!(map["authorization"], "Bearer s3cret");
        assert_eq!(map["x-team"], "a~b");
        assert_eq!(format!("{headers:?}"), r#"["authorization", "x-team"]"#);
        assert!(!format!("{map:?}").contains("s3cret"));
    }

    #[test]
    fn headers_that_frame_route_or_impersonate_are_refused_by_name() {
        for name in [
            "Host",
            "CONTENT-length",
            "content-type",
            "Transfer-Encoding",
            "te",
            "trailer",
            "connection",
            "Keep-Alive",
            "upgrade",
            "Proxy-Authorization",
            "expect",
            "User-Agent",
            "webhook-id",
            "X-Posthaste-Attempt",
            "X-Forwarded-For",
            "x-amz-target",
            "x-aws-ec2-metadata-token",
            "X-Goog-Api-Key",
            "x-azure-fdid",
            "Metadata-Flavor",
            "Metadata",
            "accept-encoding",
            "x-whatsync-signature",
            "a b",
            "a:b",
            "a\r\nb",
            "é",
            "",
        ] {
            let refusals = parse(&[("X-Fine", "1"), (name, "1")]).expect_err(name);
            assert_eq!(refusals.len(), 1, "{name}");
            assert_eq!(refusals[0].name.as_deref(), Some(name));
        }
    }

    #[test]
    fn values_are_visible_ascii() {
        for value in ["", " a", "a ", "a\tb", "a\r\nX-Evil: 1", "a\0", "é", "\u{7f}"] {
            assert!(parse(&[("X-Fine", value)]).is_err(), "{value:?}");
        }
        assert!(parse(&[("X-Fine", "a, b;c=\"d\"")]).is_ok());
    }

    #[test]
    fn few_small_and_each_once() {
        let names: Vec<String> = (0..=MAX_CUSTOM_HEADERS).map(|n| format!("x-{n}")).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        assert!(parse(&pairs[..MAX_CUSTOM_HEADERS]).is_ok());
        assert_eq!(parse(&pairs).expect_err("too many")[0].name, None);

        let long = "v".repeat(MAX_CUSTOM_HEADER_BYTES - 1);
        assert!(parse(&[("x", &long)]).is_ok());
        assert_eq!(parse(&[("xy", &long)]).expect_err("too large")[0].name, None);

        let twice = parse(&[("x-a", "1"), ("X-A", "2")]).expect_err("twice");
        assert_eq!(twice[0].name.as_deref(), Some("X-A"));
    }
}
