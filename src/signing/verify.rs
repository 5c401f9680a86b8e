//! The receiver's side, as an integrator's code would do it. The demo's receiver and the tests use it.

use axum::http::{HeaderMap, HeaderName};
use subtle::{Choice, ConstantTimeEq as _};

use super::key::SigningKey;
use super::{Algorithm, Encoding, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use crate::types::secret::SigningSecret;

/// How far a request's timestamp may be from the receiver's clock, either way, before it counts as a replay.
pub const TIMESTAMP_TOLERANCE_S: u64 = 300;

/// The only version of a signature there is for a symmetric secret.
const VERSION_PREFIX: &str = "v1,";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the header {0} is missing or unreadable")]
    Header(HeaderName),
    #[error("the timestamp is more than {TIMESTAMP_TOLERANCE_S} s from now")]
    Stale,
    #[error("the secret has no base64 key")]
    NoBase64Key,
    #[error("no signature matches")]
    Mismatch,
}

/// Checks the Standard Webhooks headers of a request against its raw body, in constant time; any one of several signatures
/// will do. `now_s` is the receiver's clock.
pub fn verify(
    secret: &SigningSecret,
    headers: &HeaderMap,
    body: &[u8],
    now_s: i64,
) -> Result<(), VerifyError> {
    let key = secret.base64_key().ok_or(VerifyError::NoBase64Key)?;
    let id = header(headers, &WEBHOOK_ID)?;
    let timestamp = header(headers, &WEBHOOK_TIMESTAMP)?;
    let signatures = header(headers, &WEBHOOK_SIGNATURE)?;
    let sent_s: i64 = timestamp.parse().map_err(|_| VerifyError::Header(WEBHOOK_TIMESTAMP))?;
    if now_s.abs_diff(sent_s) > TIMESTAMP_TOLERANCE_S {
        return Err(VerifyError::Stale);
    }
    let mut expected = VERSION_PREFIX.to_owned();
    let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    SigningKey::new(Algorithm::HmacSha256, key).sign(&parts, Encoding::Base64, &mut expected);
    let matches = signatures
        .split(' ')
        .fold(Choice::from(0), |found, given| found | given.as_bytes().ct_eq(expected.as_bytes()));
    if bool::from(matches) { Ok(()) } else { Err(VerifyError::Mismatch) }
}

/// Checks a hex signature of the body alone, keyed with the secret's text: `x-webhook-signature` and its kin.
pub fn verify_hex(secret: &SigningSecret, signature: &str, body: &[u8]) -> Result<(), VerifyError> {
    let mut expected = String::new();
    SigningKey::new(Algorithm::HmacSha256, secret.text_key()).sign(&[body], Encoding::Hex, &mut expected);
    let matches = signature.as_bytes().ct_eq(expected.as_bytes());
    if bool::from(matches) { Ok(()) } else { Err(VerifyError::Mismatch) }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, VerifyError> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| VerifyError::Header(name.clone()))
}
