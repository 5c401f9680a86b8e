//! API keys: `ph_`, 32 random base62 digits, and 6 that check them, so that a mistyped key never costs a query and a leaked
//! one can be found by a scanner.

use std::fmt;

use rand::RngExt;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const PREFIX: &str = "ph_";
/// 32 digits of base62: 190 bits.
const RANDOM_DIGITS: usize = 32;
const CHECK_DIGITS: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key in clear. Shown once, kept nowhere; `Debug` prints nothing of it.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

/// What is kept of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl ApiKey {
    pub fn generate() -> Self {
        let mut rng = rand::rng();
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + RANDOM_DIGITS + CHECK_DIGITS));
        text.push_str(PREFIX);
        for _ in 0..RANDOM_DIGITS {
            text.push(char::from(BASE62[rng.random_range(0..BASE62.len())]));
        }
        let check = check_digits(&text[PREFIX.len()..]);
        text.push_str(&check);
        Self(text)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        if digits.len() != RANDOM_DIGITS + CHECK_DIGITS
            || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return None;
        }
        let (random, check) = digits.split_at(RANDOM_DIGITS);
        (check_digits(random) == check).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl KeyHash {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

fn check_digits(random: &str) -> String {
    let mut rest = crc32fast::hash(random.as_bytes()) as usize;
    let mut digits = [b'0'; CHECK_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % BASE62.len()];
        rest /= BASE62.len();
    }
    digits.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_parses_and_one_wrong_digit_does_not() {
        let key = ApiKey::generate();
        assert_eq!(key.reveal().len(), 41);
        assert!(ApiKey::parse(key.reveal()).unwrap().hash().matches(&key.hash()));
        for at in PREFIX.len()..key.reveal().len() {
            let mut bytes = key.reveal().as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            assert!(ApiKey::parse(std::str::from_utf8(&bytes).unwrap()).is_none(), "digit {at}");
        }
        assert!(!format!("{key:?}").contains(&key.reveal()[3..10]));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(ph_)?.{0,50}") {
            let _ = ApiKey::parse(&text);
        }
    }
}
