//! One signature header of a wire format, as its file says it.

use std::fmt;

use axum::http::{HeaderName, header::ACCEPT};
use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::WEBHOOK_SIGNATURE;
use super::template::{Content, TemplateError, ValueTemplate};
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
    /// One signature for each live secret, instead of the newest one's alone.
    #[serde(default)]
    #[schema(default = false)]
    multiple: bool,
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

impl SignatureSpec {
    /// All that is wrong is told at once.
    pub fn parse(text: SpecText) -> Result<Self, Vec<SpecError>> {
        let header = HeaderName::try_from(&text.header)
            .ok()
            .filter(|header| text.header.len() <= MAX_HEADER_BYTES && !is_taken(header))
            .ok_or(TemplateError::Header(text.header));
        match (header, Content::parse(&text.content), ValueTemplate::parse(&text.value)) {
            (Ok(header), Ok(content), Ok(value)) => Ok(Self {
                header,
                algorithm: text.algorithm,
                key: text.key,
                content,
                encoding: text.encoding,
                value,
                multiple: text.multiple,
            }),
            (header, content, value) => {
                let errors = [("header", header.err()), ("content", content.err()), ("value", value.err())];
                let told = |(field, error): (_, Option<_>)| Some(SpecError { field, error: error? });
                Err(errors.into_iter().filter_map(told).collect())
            }
        }
    }
}

impl TryFrom<SpecText> for SignatureSpec {
    type Error = SpecError;

    fn try_from(text: SpecText) -> Result<Self, SpecError> {
        Self::parse(text).map_err(|mut errors| errors.swap_remove(0))
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

/// Headers that mean something to HTTP or to Posthaste itself. A format may sign in the header of Standard Webhooks.
fn is_taken(header: &HeaderName) -> bool {
    header == ACCEPT || (is_forbidden(header) && *header != WEBHOOK_SIGNATURE)
}
