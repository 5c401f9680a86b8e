//! What an endpoint signs with: its format's headers and its live secrets, put together once.

use std::fmt;

use axum::http::{HeaderName, HeaderValue};

use super::mac::KeyedMac;
use super::template::Part;
use super::{KeyKind, SignatureSpec, WEBHOOK_TIMESTAMP};
use crate::types::secret::SigningSecret;

/// So many of the newest secrets sign; older ones drop out, grace period or not, for the header grows with each.
pub const MAX_LIVE_SECRETS: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    #[error("there is no secret to sign with")]
    NoSecret,
    #[error(
        "{header} is keyed with the secret's base64 part, which a secret brought along from elsewhere lacks"
    )]
    NoBase64Key { header: HeaderName },
}

/// Signs any number of requests; cheap to share, holds keys in the form of HMAC states only.
pub struct Signer {
    signatures: Box<[Signature]>,
    sends_timestamp: bool,
}

struct Signature {
    spec: SignatureSpec,
    /// Newest secret first.
    macs: Box<[KeyedMac]>,
}

impl Signer {
    /// `secrets` are the live ones, newest first.
    pub fn new(specs: &[SignatureSpec], secrets: &[SigningSecret]) -> Result<Self, SignerError> {
        if secrets.is_empty() {
            return Err(SignerError::NoSecret);
        }
        let signatures = specs.iter().map(|spec| Signature::new(spec, secrets)).collect::<Result<_, _>>()?;
        Ok(Self { signatures, sends_timestamp: specs.iter().any(|spec| spec.content.has_timestamp()) })
    }

    /// The signature headers of one attempt, in the format's order, after `webhook-timestamp` if any of them covers it.
    /// `timestamp_s` is the attempt's Unix time.
    pub fn sign(&self, event_id: &str, timestamp_s: i64, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let timestamp = timestamp_s.to_string();
        let mut headers = Vec::with_capacity(self.signatures.len() + 1);
        for signature in &self.signatures {
            let value = signature.value(event_id, &timestamp, body);
            headers.push((signature.spec.header.clone(), header_value(value)));
        }
        if self.sends_timestamp {
            headers.insert(0, (WEBHOOK_TIMESTAMP, header_value(timestamp)));
        }
        headers
    }
}

impl Signature {
    fn new(spec: &SignatureSpec, secrets: &[SigningSecret]) -> Result<Self, SignerError> {
        let signing = if spec.multiple { MAX_LIVE_SECRETS } else { 1 };
        let macs = secrets
            .iter()
            .take(signing)
            .map(|secret| {
                let key = match spec.key {
                    KeyKind::Text => Some(secret.text_key()),
                    KeyKind::Base64 => secret.base64_key(),
                };
                let key = key.ok_or_else(|| SignerError::NoBase64Key { header: spec.header.clone() })?;
                Ok(KeyedMac::new(spec.algorithm, key))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { spec: spec.clone(), macs })
    }

    fn value(&self, event_id: &str, timestamp: &str, body: &[u8]) -> String {
        let parts: Vec<&[u8]> = self
            .spec
            .content
            .0
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.as_bytes(),
                Part::Id => event_id.as_bytes(),
                Part::Timestamp => timestamp.as_bytes(),
                Part::Body => body,
            })
            .collect();
        let mut value = String::new();
        for mac in &self.macs {
            if !value.is_empty() {
                value.push(' ');
            }
            value.push_str(&self.spec.value.before);
            mac.sign(&parts, self.spec.encoding, &mut value);
            value.push_str(&self.spec.value.after);
        }
        value
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.signatures.iter().map(|signature| &signature.spec.header)).finish()
    }
}

fn header_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text)
        .expect("digits, base64, hex and a template that was checked to be visible ASCII")
}
