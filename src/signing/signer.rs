//! What an endpoint signs with: its format's headers and its live secrets, put together once.

use std::fmt;

use axum::http::{HeaderName, HeaderValue};

use super::key::SigningKey;
use super::template::Part;
use super::{KeyKind, SignatureSpec};
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

/// Signs any number of requests; cheap to share, holds keys as HMAC states and key pairs only.
pub struct Signer {
    signatures: Box<[Signature]>,
    /// Headers that tell the attempt's time, none twice.
    timestamps: Box<[HeaderName]>,
}

struct Signature {
    spec: SignatureSpec,
    /// Newest secret first.
    keys: Box<[SigningKey]>,
}

impl Signer {
    /// `secrets` are the live ones, newest first.
    pub fn new(specs: &[SignatureSpec], secrets: &[SigningSecret]) -> Result<Self, SignerError> {
        if secrets.is_empty() {
            return Err(SignerError::NoSecret);
        }
        let signatures = specs.iter().map(|spec| Signature::new(spec, secrets)).collect::<Result<_, _>>()?;
        let mut timestamps: Vec<HeaderName> = Vec::new();
        for header in specs.iter().filter_map(SignatureSpec::timestamp_header) {
            if !timestamps.contains(header) {
                timestamps.push(header.clone());
            }
        }
        Ok(Self { signatures, timestamps: timestamps.into() })
    }

    /// The signature headers of one attempt, in the format's order, after those that tell its time if any of them covers it.
    /// `timestamp_s` is the attempt's Unix time.
    pub fn sign(&self, event_id: &str, timestamp_s: i64, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let timestamp = timestamp_s.to_string();
        let mut headers = Vec::with_capacity(self.timestamps.len() + self.signatures.len());
        for header in &self.timestamps {
            headers.push((header.clone(), header_value(timestamp.clone())));
        }
        for signature in &self.signatures {
            let value = signature.value(event_id, &timestamp, body);
            headers.push((signature.spec.header.clone(), header_value(value)));
        }
        headers
    }
}

impl Signature {
    fn new(spec: &SignatureSpec, secrets: &[SigningSecret]) -> Result<Self, SignerError> {
        let signing = if spec.multiple { MAX_LIVE_SECRETS } else { 1 };
        let keys = secrets
            .iter()
            .take(signing)
            .map(|secret| {
                let key = match spec.key {
                    KeyKind::Text => Some(secret.text_key()),
                    KeyKind::Base64 => secret.base64_key(),
                };
                let key = key.ok_or_else(|| SignerError::NoBase64Key { header: spec.header.clone() })?;
                Ok(SigningKey::new(spec.algorithm, key))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { spec: spec.clone(), keys })
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
        self.spec.prefix.push(&mut value, event_id, timestamp);
        for (position, key) in self.keys.iter().enumerate() {
            if position > 0 {
                value.push_str(&self.spec.separator.0);
            }
            value.push_str(&self.spec.value.before);
            key.sign(&parts, self.spec.encoding, &mut value);
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
        .expect("digits, an id, base64, hex, and templates that were checked to be visible ASCII")
}
