//! ed25519 from the same secrets: the receiver gets a public key, which verifies and can't sign.
//!
//! An endpoint has one kind of secret. The key pair's 32-byte seed is the HMAC-SHA256 of [`DERIVATION`], keyed with the bytes that
//! the secret's base64 stands for. So rotation, grace periods and sealing are those of the secret. Secrets of an owner's
//! own making, which may be short words, have no key pair: their public key would let everybody guess.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroize as _;

use crate::types::{
    schema::{described, text},
    secret::SigningSecret,
};

/// Part of every public key that a receiver was ever given: it never changes.
const DERIVATION: &[u8] = b"posthaste ed25519 signing key 1";

/// As Standard Webhooks writes a public key.
const PUBLIC_KEY_PREFIX: &str = "whpk_";

/// What a receiver verifies ed25519 signatures with.
pub struct PublicKey;

described!(
    PublicKey,
    "PublicKey",
    text(
        "What verifies ed25519 signatures: `whpk_` and the base64 of the 32 bytes of the public key.",
        "whpk_zQZYF+Ym3cYG7oC9hwGt7Sg2NhJAeUlBcyeQ0zzxEbA="
    )
    .pattern(Some("^whpk_[A-Za-z0-9+/]{43}=$"))
);

pub(super) fn key_pair(key: &[u8]) -> Ed25519KeyPair {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(DERIVATION);
    let mut seed = mac.finalize().into_bytes();
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
    seed.zeroize();
    pair
}

/// What verifies the ed25519 signatures of this secret: `whpk_` and base64 of the 32 bytes of RFC 8032. `None` for a secret
/// that has no base64 part.
pub fn public_key(secret: &SigningSecret) -> Option<String> {
    let pair = key_pair(secret.base64_key()?);
    Some(format!("{PUBLIC_KEY_PREFIX}{}", STANDARD.encode(pair.public_key())))
}
