//! A whole wire format, as its file says it: see contract, "Wire formats".

use std::collections::HashSet;
use std::ops::RangeInclusive;

use axum::http::HeaderName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Envelope, SuccessRule};
use crate::signing::{self, KeyKind, SignatureSpec};
use crate::types::schema::{described, text};
use crate::types::secret::SigningSecret;

/// How long an attempt may take, over everything.
pub const TIMEOUT_RANGE_MS: RangeInclusive<u32> = 1_000..=30_000;
pub const DEFAULT_TIMEOUT_MS: u32 = 10_000;
/// Waits between attempts: so many at most, and so long together.
pub const MAX_RETRY_STEPS: usize = 15;
pub const MAX_RETRY_TOTAL_S: u64 = 7 * 24 * 60 * 60;
pub const DEFAULT_RETRY_SCHEDULE_S: [u32; 3] = [10, 60, 300];

/// How long an old secret signs beside a new one, where a header has room for both.
const ROTATION_GRACE_S: u32 = 24 * 60 * 60;
pub const MAX_SIGNATURES: usize = 8;
const MAX_NAME_BYTES: usize = 64;

/// The number by which deliveries remember their format. It never comes to mean anything else: built-in formats have small
/// fixed numbers, tenants' own ones get theirs from a sequence that begins at 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FormatVersion(pub i32);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("a format's name has 1 to {MAX_NAME_BYTES} of a-z, 0-9 and underscore")]
    Name,
    #[error("timeout_ms is from {} to {}", TIMEOUT_RANGE_MS.start(), TIMEOUT_RANGE_MS.end())]
    Timeout,
    #[error("retry_schedule_s has at most {MAX_RETRY_STEPS} steps of 1 s or more, 7 days together")]
    RetrySchedule,
    #[error("a format has at most {MAX_SIGNATURES} signature headers, each with a name of its own")]
    Signatures,
}

/// Names a wire format.
pub struct FormatName;

described!(
    FormatName,
    "FormatName",
    text("A wire format's name.", "standard").pattern(Some("^[a-z0-9_]{1,64}$"))
);

/// A wire format. Made by deserialising, which checks it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "FormatText")]
pub struct Format {
    #[schema(value_type = FormatName)]
    pub name: String,
    /// Counts up with every edit; a delivery keeps the one that it was made with.
    #[schema(value_type = i32, minimum = 1)]
    pub version: FormatVersion,
    pub envelope: Envelope,
    /// Signature headers that each request carries.
    #[schema(max_items = 8)]
    pub signatures: Vec<SignatureSpec>,
    pub success: SuccessRule,
    /// How long an attempt may take, in milliseconds.
    #[schema(minimum = 1000, maximum = 30000, examples(10000))]
    pub timeout_ms: u32,
    /// Seconds from each failure to the next attempt.
    #[schema(max_items = 15, examples(10))]
    pub retry_schedule_s: Vec<u32>,
    /// Endpoints may have http:// URLs.
    #[schema(examples(false))]
    pub allow_http: bool,
    /// 429 and 503 with Retry-After postpone the next attempt.
    pub honor_retry_after: bool,
    /// 410 disables the endpoint.
    pub disable_on_410: bool,
}

impl Format {
    /// What can be a format's name.
    pub fn is_name(text: &str) -> bool {
        let is_name_byte = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_name_byte)
    }

    /// Publishing data that is no object would break receivers of this format.
    pub fn requires_data_object(&self) -> bool {
        self.envelope.requires_data_object()
    }

    /// Secrets need a base64 part: foreign ones won't do.
    pub fn uses_base64_key(&self) -> bool {
        self.signatures.iter().any(|signature| signature.key() == KeyKind::Base64)
    }

    /// What receivers verify with besides, or instead of, the secret: where a signature is made with a key pair.
    pub fn public_key(&self, secret: &SigningSecret) -> Option<String> {
        let is_asymmetric = self.signatures.iter().any(SignatureSpec::is_asymmetric);
        if is_asymmetric { signing::public_key(secret) } else { None }
    }

    /// Every header that signing sets, so that nobody else does.
    pub fn signature_headers(&self) -> Vec<&str> {
        let headers = |spec| [Some(SignatureSpec::header(spec)), spec.timestamp_header()];
        self.signatures.iter().flat_map(headers).flatten().map(HeaderName::as_str).collect()
    }

    /// For how long a rotated secret goes on signing, if nobody says otherwise: at once over where each header holds one
    /// signature only, for the old one would not be sent anyway.
    pub fn default_rotation_grace_s(&self) -> u32 {
        if self.signatures.iter().any(SignatureSpec::is_multiple) { ROTATION_GRACE_S } else { 0 }
    }
}

pub fn check_timeout_ms(timeout_ms: u32) -> Result<(), FormatError> {
    if TIMEOUT_RANGE_MS.contains(&timeout_ms) { Ok(()) } else { Err(FormatError::Timeout) }
}

/// An empty schedule is fine: one attempt, no retry.
pub fn check_retry_schedule_s(schedule_s: &[u32]) -> Result<(), FormatError> {
    let total_s: u64 = schedule_s.iter().copied().map(u64::from).sum();
    let fits = schedule_s.len() <= MAX_RETRY_STEPS && total_s <= MAX_RETRY_TOTAL_S;
    if fits && !schedule_s.contains(&0) { Ok(()) } else { Err(FormatError::RetrySchedule) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FormatText {
    name: String,
    version: FormatVersion,
    envelope: Envelope,
    #[serde(default)]
    signatures: Vec<SignatureSpec>,
    #[serde(default)]
    success: SuccessRule,
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u32,
    #[serde(default = "default_retry_schedule_s")]
    retry_schedule_s: Vec<u32>,
    #[serde(default)]
    allow_http: bool,
    #[serde(default = "on")]
    honor_retry_after: bool,
    #[serde(default = "on")]
    disable_on_410: bool,
}

fn default_timeout_ms() -> u32 {
    DEFAULT_TIMEOUT_MS
}

fn default_retry_schedule_s() -> Vec<u32> {
    DEFAULT_RETRY_SCHEDULE_S.to_vec()
}

fn on() -> bool {
    true
}

impl TryFrom<FormatText> for Format {
    type Error = FormatError;

    fn try_from(text: FormatText) -> Result<Self, FormatError> {
        if !Self::is_name(&text.name) {
            return Err(FormatError::Name);
        }
        check_timeout_ms(text.timeout_ms)?;
        check_retry_schedule_s(&text.retry_schedule_s)?;
        let headers: HashSet<_> = text.signatures.iter().map(SignatureSpec::header).collect();
        let mut timestamps = text.signatures.iter().filter_map(SignatureSpec::timestamp_header);
        if headers.len() != text.signatures.len()
            || headers.len() > MAX_SIGNATURES
            || timestamps.any(|timestamp| headers.contains(timestamp))
        {
            return Err(FormatError::Signatures);
        }
        let FormatText { name, version, envelope, signatures, success, timeout_ms, retry_schedule_s, .. } =
            text;
        Ok(Self {
            name,
            version,
            envelope,
            signatures,
            success,
            timeout_ms,
            retry_schedule_s,
            allow_http: text.allow_http,
            honor_retry_after: text.honor_retry_after,
            disable_on_410: text.disable_on_410,
        })
    }
}
