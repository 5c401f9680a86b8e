//! The text that an endpoint's requests are signed with.
//!
//! Either made here, `whsec_` and the base64 of random bytes, or brought along from another system as it is. The hex
//! schemes key their HMAC with the whole text, Standard Webhooks with the decoded bytes, which only the first kind has.
//!
//! Wiped from memory when dropped; `Debug` shows nothing of it; no `Display`, no `Serialize`: the one way to the
//! text is [`SigningSecret::reveal`]. Storing it sealed is not this module's business.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::schema::{described, text};

const PREFIX: &str = "whsec_";
/// Random bytes in a secret made here.
const GENERATED_BYTES: usize = 32;
/// Decoded size of a `whsec_` secret, as Standard Webhooks has it.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Length of any secret; every `whsec_` secret lies within.
const TEXT_CHARS: std::ops::RangeInclusive<usize> = 16..=128;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("a secret has {} to {} characters", TEXT_CHARS.start(), TEXT_CHARS.end())]
    Length,
    #[error("a secret has visible ASCII characters only, without spaces")]
    Characters,
}

#[derive(Clone)]
pub struct SigningSecret {
    text: Zeroizing<String>,
    key: Option<Zeroizing<Vec<u8>>>,
}

impl SigningSecret {
    /// A new secret, from a cryptographic generator that the operating system seeds.
    pub fn generate() -> Self {
        let mut key = Zeroizing::new(vec![0; GENERATED_BYTES]);
        rand::fill(key.as_mut_slice());
        // Sized ahead, so that growing leaves no copies behind.
        let mut text = Zeroizing::new(String::with_capacity(*TEXT_CHARS.end()));
        text.push_str(PREFIX);
        STANDARD.encode_string(key.as_slice(), &mut text);
        Self { text, key: Some(key) }
    }

    /// `whsec_` and padded standard base64 of 24 to 64 bytes, or any 16 to 128 visible ASCII characters. A text that
    /// begins with `whsec_` but fails the first rule is a foreign secret: platforms exist that use that prefix freely.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SecretError::Characters);
        }
        if !TEXT_CHARS.contains(&text.len()) {
            return Err(SecretError::Length);
        }
        Ok(Self { text: Zeroizing::new(text.to_owned()), key: decode(text) })
    }

    /// The text itself: to show it to its owner, or to seal it. Nowhere else.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The whole text as a key, for the hex schemes.
    pub fn text_key(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The decoded bytes as a key; none in a foreign secret.
    pub fn base64_key(&self) -> Option<&[u8]> {
        self.key.as_ref().map(|key| key.as_slice())
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret")
    }
}

fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let key = Zeroizing::new(STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?);
    KEY_BYTES.contains(&key.len()).then_some(key)
}

described!(
    SigningSecret,
    "SigningSecret",
    text(
        "What requests are signed with: `whsec_` and the base64 of 24 to 64 bytes, or, brought along from another system, \
         visible ASCII. Formats that sign with the base64 part need the first kind.",
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDfAk2LmIHL7s="
    )
    .min_length(Some(*TEXT_CHARS.start()))
    .max_length(Some(*TEXT_CHARS.end()))
    .pattern(Some("^[!-~]+$"))
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn generated_secrets_parse_and_differ() {
        let (one, other) = (SigningSecret::generate(), SigningSecret::generate());
        assert_ne!(one.reveal(), other.reveal());
        let parsed = SigningSecret::parse(one.reveal()).expect("what is generated");
        assert_eq!(parsed.base64_key(), one.base64_key());
        assert_eq!(one.base64_key().map(<[u8]>::len), Some(GENERATED_BYTES));
        assert_eq!(one.text_key(), one.reveal().as_bytes());
    }

    #[rstest]
    #[case::bytes_24("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", true)]
    #[case::unpadded("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", false)]
    #[case::url_safe("whsec_C2FVsBQIhrscChlQIMV-b5sSYspob7oD", false)]
    #[case::bytes_12("whsec_AAAAAAAAAAAAAAAA", false)]
    #[case::no_prefix("C2FVsBQIhrscChlQIMV+b5sSYspob7oD", false)]
    #[case::foreign("0123456789abcdef", false)]
    fn base64_keys_need_prefix_and_padding(#[case] text: &str, #[case] native: bool) {
        let secret = SigningSecret::parse(text).expect(text);
        assert_eq!(secret.base64_key().is_some(), native);
        assert_eq!(secret.reveal(), text);
    }

    #[test]
    fn sizes_are_limited() {
        let native = |bytes: usize| format!("{PREFIX}{}", STANDARD.encode(vec![7; bytes]));
        let has_key = |text: &str| SigningSecret::parse(text).expect("visible ASCII").base64_key().is_some();
        assert_eq!([23, 24, 64, 65].map(|bytes| has_key(&native(bytes))), [false, true, true, false]);
        assert_eq!(SigningSecret::parse(&"x".repeat(15)).err(), Some(SecretError::Length));
        assert!(SigningSecret::parse(&"x".repeat(128)).is_ok());
        assert_eq!(SigningSecret::parse(&"x".repeat(129)).err(), Some(SecretError::Length));
    }

    #[rstest]
    fn only_visible_ascii(
        #[values("0123456789 abcdef", "0123456789abcdef\n", "0123456789abcdé", "0123456789abcdef\0")]
        text: &str,
    ) {
        assert_eq!(SigningSecret::parse(text).err(), Some(SecretError::Characters));
    }

    proptest! {
        #[test]
        fn debug_shows_nothing(text in "[!-~]{16,128}") {
            let secret = SigningSecret::parse(&text).expect("visible ASCII");
            prop_assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "SigningSecret Some(\n    SigningSecret,\n)");
        }
    }
}
