//! One signature header of a wire format, as its file says it.

use std::fmt;

use axum::http::HeaderName;
use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = SignatureAlgorithm, description = "How a signature is computed.")]
pub enum Algorithm {
    HmacSha256,
    HmacSha512,
    HmacSha1,
}

/// Which form of the secret keys the HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SignatureKey)]
pub enum KeyKind {
    /// The secret's whole text as UTF-8, `whsec_` included.
    Text,
    /// The bytes that its base64 stands for.
    Base64,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SignatureEncoding)]
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

/// For whoever has to check it.
impl fmt::Display for SignatureSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self.algorithm {
            Algorithm::HmacSha256 => "HMAC-SHA256",
            Algorithm::HmacSha512 => "HMAC-SHA512",
            Algorithm::HmacSha1 => "HMAC-SHA1",
        };
        let key = match self.key {
            KeyKind::Text => "the secret's whole text",
            KeyKind::Base64 => "the bytes that the secret's base64 part stands for",
        };
        let encoding = match self.encoding {
            Encoding::Hex => "hex",
            Encoding::Base64 => "base64",
        };
        write!(
            f,
            "`{}`, where the signature is the {algorithm} of `{}`, keyed with {key}, in {encoding}.",
            self.value, self.content
        )?;
        if self.multiple { f.write_str(" One for each live secret, one space between.") } else { Ok(()) }
    }
}

impl PartialSchema for SignatureSpec {
    fn schema() -> RefOr<Schema> {
        SpecText::schema()
    }
}

impl ToSchema for SignatureSpec {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        SpecText::schemas(schemas);
    }
}

/// A header that carries a signature, or one for each live secret.
// The same as text, as it stands in a format's file.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SpecText {
    /// The header's name.
    #[schema(examples("webhook-signature"))]
    header: String,
    algorithm: Algorithm,
    key: KeyKind,
    /// What is signed: text with slots.
    #[schema(examples("{{id}}.{{timestamp}}.{{body}}"))]
    content: String,
    encoding: Encoding,
    /// What the header says of a signature.
    #[serde(default = "bare_signature")]
    #[schema(default = bare_signature, examples("v1,{{signature}}"))]
    value: String,
    /// One signature for each live secret, instead of the newest one's alone.
    #[serde(default)]
    #[schema(default = false)]
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
