//! One signature header of a wire format, as its file says it.

use axum::http::HeaderName;
use serde::{Deserialize, Serialize};

use super::template::{Content, TemplateError, ValueTemplate};
use super::{POSTHASTE_ATTEMPT, WEBHOOK_ID, WEBHOOK_TIMESTAMP};

/// Headers that mean something to HTTP or to Posthaste itself, and the families they come in.
const TAKEN_HEADERS: [&str; 10] = [
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "expect",
    "user-agent",
    "accept",
];
const TAKEN_PREFIXES: [&str; 2] = ["content-", "proxy-"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    HmacSha256,
    HmacSha512,
    HmacSha1,
}

/// Which form of the secret keys the HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// The secret's whole text as UTF-8, `whsec_` included.
    Text,
    /// The bytes that its base64 stands for.
    Base64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Lower case.
    Hex,
    /// Standard alphabet, padded.
    Base64,
}

/// A header that carries a signature, or one for each live secret. Valid once it exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SpecText", into = "SpecText")]
pub struct SignatureSpec {
    pub(super) header: HeaderName,
    pub(super) algorithm: Algorithm,
    pub(super) key: KeyKind,
    pub(super) content: Content,
    pub(super) encoding: Encoding,
    pub(super) value: ValueTemplate,
    pub(super) multiple: bool,
}

impl SignatureSpec {
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    pub fn key(&self) -> KeyKind {
        self.key
    }

    /// One signature for each live secret, instead of the newest one's alone.
    pub fn is_multiple(&self) -> bool {
        self.multiple
    }
}

/// The same as text, as it stands in a format's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpecText {
    header: String,
    algorithm: Algorithm,
    key: KeyKind,
    content: String,
    encoding: Encoding,
    #[serde(default = "bare_signature")]
    value: String,
    #[serde(default)]
    multiple: bool,
}

fn bare_signature() -> String {
    "{{signature}}".to_owned()
}

impl TryFrom<SpecText> for SignatureSpec {
    type Error = TemplateError;

    fn try_from(text: SpecText) -> Result<Self, TemplateError> {
        let header = HeaderName::try_from(&text.header)
            .ok()
            .filter(|header| !is_taken(header))
            .ok_or(TemplateError::Header(text.header))?;
        Ok(Self {
            header,
            algorithm: text.algorithm,
            key: text.key,
            content: Content::parse(&text.content)?,
            encoding: text.encoding,
            value: ValueTemplate::parse(&text.value)?,
            multiple: text.multiple,
        })
    }
}

impl From<SignatureSpec> for SpecText {
    fn from(spec: SignatureSpec) -> Self {
        Self {
            header: spec.header.to_string(),
            algorithm: spec.algorithm,
            key: spec.key,
            content: spec.content.to_string(),
            encoding: spec.encoding,
            value: spec.value.to_string(),
            multiple: spec.multiple,
        }
    }
}

fn is_taken(header: &HeaderName) -> bool {
    let name = header.as_str();
    [WEBHOOK_ID, WEBHOOK_TIMESTAMP, POSTHASTE_ATTEMPT].contains(header)
        || TAKEN_HEADERS.contains(&name)
        || TAKEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
