//! One signature header of a wire format, as its file says it.

use std::fmt;

use axum::http::{HeaderName, header::ACCEPT};
use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::template::{Content, Prefix, Separator, TemplateError, ValueTemplate};
use super::{WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use crate::egress::is_forbidden;

/// Longest name of a signature header, in bytes.
const MAX_HEADER_BYTES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = SignatureAlgorithm, description = "How a signature is computed.")]
pub enum Algorithm {
    HmacSha256,
    HmacSha512,
    HmacSha1,
    /// With a key pair that is made from the secret; receivers get its public key.
    Ed25519,
}

/// Which form of the secret is the key.
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
    pub(super) prefix: Prefix,
    pub(super) separator: Separator,
    pub(super) multiple: bool,
    /// Used where the content has the timestamp.
    timestamp_header: HeaderName,
}

impl SignatureSpec {
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Which header tells the attempt's time, if the signature covers it.
    pub fn timestamp_header(&self) -> Option<&HeaderName> {
        self.content.has_timestamp().then_some(&self.timestamp_header)
    }

    /// Needs a key pair.
    pub fn is_asymmetric(&self) -> bool {
        self.algorithm == Algorithm::Ed25519
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
            Algorithm::Ed25519 => "ed25519 signature",
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
            "`{}{}`, where the signature is the {algorithm} of `{}`, keyed with {key}, in {encoding}.",
            self.prefix, self.value, self.content
        )?;
        match (self.multiple, self.separator.0.as_str()) {
            (false, _) => Ok(()),
            (true, " ") => f.write_str(" One for each live secret, one space between."),
            (true, separator) => write!(f, " One for each live secret, `{separator}` between."),
        }
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
pub struct SpecText {
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
    /// What the header says before the first signature: text with the slots `{{timestamp}}` and `{{id}}`.
    #[serde(default)]
    #[schema(default = "", examples("t={{timestamp}},"))]
    prefix: String,
    /// What stands between signatures, where there are several.
    #[serde(default = "one_space")]
    #[schema(default = one_space, min_length = 1, max_length = 2, examples(","))]
    separator: String,
    /// One signature for each live secret, instead of the newest one's alone.
    #[serde(default)]
    #[schema(default = false)]
    multiple: bool,
    /// The header that tells the attempt's time, where the content has it. Without it: `webhook-timestamp`.
    #[schema(examples("x-request-timestamp"))]
    timestamp_header: Option<String>,
}

/// What is wrong with one field of a [`SpecText`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {error}")]
pub struct SpecError {
    pub field: &'static str,
    pub error: TemplateError,
}

fn bare_signature() -> String {
    "{{signature}}".to_owned()
}

fn one_space() -> String {
    " ".to_owned()
}

impl SignatureSpec {
    /// All that is wrong is told at once.
    pub fn parse(text: SpecText) -> Result<Self, Vec<SpecError>> {
        let mut errors = Vec::new();
        let header = noted(&mut errors, "header", header(&text.header));
        let content = noted(&mut errors, "content", Content::parse(&text.content));
        let value = noted(&mut errors, "value", ValueTemplate::parse(&text.value));
        let prefix = noted(&mut errors, "prefix", Prefix::parse(&text.prefix));
        let separator = noted(&mut errors, "separator", Separator::parse(text.separator));
        let timestamp_header = text.timestamp_header.as_deref().map(header_of_time).transpose();
        let timestamp_header = noted(&mut errors, "timestamp_header", timestamp_header);
        let mut wrong = |field, error| errors.push(SpecError { field, error });
        if content.as_ref().is_some_and(|content| !content.has_timestamp()) {
            if prefix.as_ref().is_some_and(Prefix::has_timestamp) {
                wrong("prefix", TemplateError::UnsignedTimestamp);
            }
            if text.timestamp_header.is_some() {
                wrong("timestamp_header", TemplateError::UnsignedTimestamp);
            }
        }
        if (text.algorithm, text.key) == (Algorithm::Ed25519, KeyKind::Text) {
            wrong("key", TemplateError::GuessableKey);
        }
        let complete = || {
            Some(Self {
                header: header?,
                algorithm: text.algorithm,
                key: text.key,
                content: content?,
                encoding: text.encoding,
                value: value?,
                prefix: prefix?,
                separator: separator?,
                multiple: text.multiple,
                timestamp_header: timestamp_header?.unwrap_or(WEBHOOK_TIMESTAMP),
            })
        };
        if errors.is_empty() { complete().ok_or(errors) } else { Err(errors) }
    }
}

fn noted<T>(errors: &mut Vec<SpecError>, field: &'static str, result: Result<T, TemplateError>) -> Option<T> {
    result.map_err(|error| errors.push(SpecError { field, error })).ok()
}

fn header(text: &str) -> Result<HeaderName, TemplateError> {
    HeaderName::try_from(text)
        .ok()
        .filter(|header| text.len() <= MAX_HEADER_BYTES && !is_taken(header))
        .ok_or_else(|| TemplateError::Header(text.to_owned()))
}

fn header_of_time(text: &str) -> Result<HeaderName, TemplateError> {
    if text.eq_ignore_ascii_case(WEBHOOK_TIMESTAMP.as_str()) { Ok(WEBHOOK_TIMESTAMP) } else { header(text) }
}

impl TryFrom<SpecText> for SignatureSpec {
    type Error = SpecError;

    fn try_from(text: SpecText) -> Result<Self, SpecError> {
        Self::parse(text).map_err(|mut errors| errors.swap_remove(0))
    }
}

impl From<SignatureSpec> for SpecText {
    fn from(spec: SignatureSpec) -> Self {
        let timestamp_header = spec.timestamp_header().map(ToString::to_string);
        Self {
            header: spec.header.to_string(),
            algorithm: spec.algorithm,
            key: spec.key,
            content: spec.content.to_string(),
            encoding: spec.encoding,
            value: spec.value.to_string(),
            prefix: spec.prefix.to_string(),
            separator: spec.separator.0,
            multiple: spec.multiple,
            timestamp_header,
        }
    }
}

/// Headers that mean something to HTTP or to Posthaste itself. A format may sign in the header of Standard Webhooks.
fn is_taken(header: &HeaderName) -> bool {
    header == ACCEPT || (is_forbidden(header) && *header != WEBHOOK_SIGNATURE)
}
