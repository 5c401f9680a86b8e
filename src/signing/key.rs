//! Keys that are ready to sign: an HMAC's two key blocks and an ed25519 key pair are made once per endpoint, not per attempt.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::{Algorithm, Encoding, ed25519};

pub(super) enum SigningKey {
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
    Sha1(Hmac<Sha1>),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Self {
        const ANY_LENGTH: &str = "HMAC takes keys of any length";
        match algorithm {
            Algorithm::HmacSha256 => Self::Sha256(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
            Algorithm::HmacSha512 => Self::Sha512(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
            Algorithm::HmacSha1 => Self::Sha1(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
            Algorithm::Ed25519 => Self::Ed25519(ed25519::key_pair(key)),
        }
    }

    /// Appends the signature of the parts, one after the other, to `out`.
    pub fn sign(&self, parts: &[&[u8]], encoding: Encoding, out: &mut String) {
        match self {
            Self::Sha256(mac) => encode(&digest(mac, parts), encoding, out),
            Self::Sha512(mac) => encode(&digest(mac, parts), encoding, out),
            Self::Sha1(mac) => encode(&digest(mac, parts), encoding, out),
            // It reads the message twice, so it can't take it in parts.
            Self::Ed25519(pair) => encode(pair.sign(&parts.concat()).as_ref(), encoding, out),
        }
    }
}

fn digest<M: Mac + Clone>(keyed: &M, parts: &[&[u8]]) -> hmac::digest::Output<M> {
    let mut mac = keyed.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes()
}

fn encode(digest: &[u8], encoding: Encoding, out: &mut String) {
    match encoding {
        Encoding::Base64 => STANDARD.encode_string(digest, out),
        Encoding::Hex => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
            out.extend(digits.map(|digit| char::from(HEX[usize::from(digit)])));
        }
    }
}
