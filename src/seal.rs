//! Secrets at rest: XChaCha20-Poly1305 under the operator's master keys.
//!
//! A record is `version, key id, nonce, ciphertext`, bound by its associated data to the place where it belongs: a row that
//! is moved to another tenant or endpoint no longer opens. Several master keys open, the first one seals. What is stored
//! where, and is to be re-wrapped when the keys change, is `rekey`'s to know.

use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use rand::RngExt;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

/// The first byte of every record.
pub const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const STAMP_BYTES: usize = 1 + KEY_ID_BYTES;

/// What a sealed text is for, and whose.
#[derive(Clone, Copy)]
pub struct Purpose {
    pub what: &'static str,
    pub tenant: Uuid,
    pub owner: Uuid,
    pub item: Uuid,
}

impl Purpose {
    fn associated_data(self) -> Vec<u8> {
        let mut data = Vec::with_capacity(self.what.len() + 1 + 3 * 16);
        data.extend_from_slice(self.what.as_bytes());
        data.push(0);
        for id in [self.tenant, self.owner, self.item] {
            data.extend_from_slice(id.as_bytes());
        }
        data
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("a master key must be 32 bytes in base64")]
    BadKey,
    #[error("no master key given opens this secret")]
    UnknownKey,
    #[error("a sealed secret was altered or moved")]
    Broken,
}

/// The master keys, current first.
pub struct Vault {
    keys: Vec<(KeyId, XChaCha20Poly1305)>,
    /// Keys of marks, one made of each master key, in the same order.
    markers: Vec<Hmac<Sha256>>,
}

/// What a mark's key is made for.
const MARKS: &[u8] = b"posthaste marks v1";
pub const MARK_BYTES: usize = 32;

type KeyId = [u8; KEY_ID_BYTES];

impl Vault {
    /// Comma-separated base64 keys, newest first.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let keys = text.split(',').map(|key| Self::key(key.trim())).collect::<Result<Vec<_>, _>>()?;
        let (keys, markers): (Vec<_>, _) = keys.into_iter().unzip();
        if keys.is_empty() { Err(SealError::BadKey) } else { Ok(Self { keys, markers }) }
    }

    fn key(text: &str) -> Result<((KeyId, XChaCha20Poly1305), Hmac<Sha256>), SealError> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| SealError::BadKey)?);
        if bytes.len() != KEY_BYTES {
            return Err(SealError::BadKey);
        }
        let digest = Sha256::digest(&bytes);
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        let hmac =
            |key: &[u8]| <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).map_err(|_| SealError::BadKey);
        let marker = hmac(&bytes)?.chain_update(MARKS).finalize().into_bytes();
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| SealError::BadKey)?;
        Ok(((id, cipher), hmac(&marker)?))
    }

    /// A mark of a text, by which it is known again and which nobody without the master key can guess it by.
    pub fn mark(&self, text: &[u8]) -> Result<[u8; MARK_BYTES], SealError> {
        let marker = self.markers.first().ok_or(SealError::UnknownKey)?;
        Ok(marker.clone().chain_update(text).finalize().into_bytes().into())
    }

    /// Whether it is the text's mark under any of the keys. In constant time.
    pub fn is_mark(&self, mark: &[u8], text: &[u8]) -> bool {
        self.markers.iter().any(|marker| marker.clone().chain_update(text).verify_slice(mark).is_ok())
    }

    /// A new master key, as text.
    pub fn generate_key() -> Zeroizing<String> {
        let mut bytes = [0_u8; KEY_BYTES];
        rand::rng().fill(&mut bytes);
        let text = Zeroizing::new(STANDARD.encode(bytes));
        bytes.zeroize();
        text
    }

    pub fn seal(&self, plaintext: &[u8], purpose: Purpose) -> Result<Vec<u8>, SealError> {
        let (id, cipher) = self.keys.first().ok_or(SealError::UnknownKey)?;
        let mut nonce = [0_u8; NONCE_BYTES];
        rand::rng().fill(&mut nonce);
        let associated = purpose.associated_data();
        let sealed = cipher
            .encrypt(&nonce.into(), Payload { msg: plaintext, aad: &associated })
            .map_err(|_| SealError::Broken)?;
        let mut record = Vec::with_capacity(1 + KEY_ID_BYTES + NONCE_BYTES + sealed.len());
        record.push(VERSION);
        record.extend_from_slice(id);
        record.extend_from_slice(&nonce);
        record.extend_from_slice(&sealed);
        Ok(record)
    }

    /// What every record under the current key begins with, and no other one.
    pub fn stamp(&self) -> Result<[u8; STAMP_BYTES], SealError> {
        let (id, _) = self.keys.first().ok_or(SealError::UnknownKey)?;
        let mut stamp = [VERSION; STAMP_BYTES];
        stamp[1..].copy_from_slice(id);
        Ok(stamp)
    }

    /// The same secret under the current key.
    pub fn rewrap(&self, record: &[u8], purpose: Purpose) -> Result<Vec<u8>, SealError> {
        self.seal(&self.open(record, purpose)?, purpose)
    }

    pub fn open(&self, record: &[u8], purpose: Purpose) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (version, rest) = record.split_first().ok_or(SealError::Broken)?;
        let (id, rest) = rest.split_at_checked(KEY_ID_BYTES).ok_or(SealError::Broken)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_BYTES).ok_or(SealError::Broken)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| SealError::Broken)?;
        if *version != VERSION {
            return Err(SealError::Broken);
        }
        let (_, cipher) = self.keys.iter().find(|(known, _)| known == id).ok_or(SealError::UnknownKey)?;
        let associated = purpose.associated_data();
        cipher
            .decrypt(&nonce.into(), Payload { msg: sealed, aad: &associated })
            .map(Zeroizing::new)
            .map_err(|_| SealError::Broken)
    }

    /// As [`Vault::open`], for texts.
    pub fn open_text(&self, record: &[u8], purpose: Purpose) -> Result<Zeroizing<String>, SealError> {
        let bytes = self.open(record, purpose)?;
        std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| SealError::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purpose(tenant: u128) -> Purpose {
        Purpose {
            what: "secret",
            tenant: Uuid::from_u128(tenant),
            owner: Uuid::from_u128(2),
            item: Uuid::from_u128(3),
        }
    }

    #[test]
    fn a_record_opens_only_where_it_belongs_and_unaltered() {
        let vault = Vault::parse(&Vault::generate_key()).unwrap();
        let record = vault.seal(b"whsec_x", purpose(1)).unwrap();
        assert_eq!(*vault.open(&record, purpose(1)).unwrap(), b"whsec_x");
        assert!(vault.open(&record, purpose(9)).is_err());
        for at in 0..record.len() {
            let mut altered = record.clone();
            altered[at] ^= 1;
            assert!(vault.open(&altered, purpose(1)).is_err(), "byte {at}");
        }
        assert!(vault.open(&[], purpose(1)).is_err());
    }

    #[test]
    fn a_mark_is_known_under_every_key_that_is_there() {
        let (old, new) = (Vault::generate_key(), Vault::generate_key());
        let both = Vault::parse(&format!("{},{}", *new, *old)).unwrap();
        let (old, new) = (Vault::parse(&old).unwrap(), Vault::parse(&new).unwrap());
        let mark = old.mark(b"x").unwrap();
        assert!(old.is_mark(&mark, b"x") && both.is_mark(&mark, b"x"));
        assert!(!new.is_mark(&mark, b"x") && !both.is_mark(&mark, b"y") && !both.is_mark(&mark[1..], b"x"));
        assert_eq!(both.mark(b"x").unwrap(), new.mark(b"x").unwrap());
        assert_ne!(mark[..], Sha256::digest(b"x")[..]);
    }

    #[test]
    fn an_old_key_still_opens_and_the_new_one_seals() {
        let (old, new) = (Vault::generate_key(), Vault::generate_key());
        let record = Vault::parse(&old).unwrap().seal(b"x", purpose(1)).unwrap();
        let both = Vault::parse(&format!("{},{}", *new, *old)).unwrap();
        assert_eq!(*both.open(&record, purpose(1)).unwrap(), b"x");
        let resealed = both.rewrap(&record, purpose(1)).unwrap();
        assert!(resealed.starts_with(&both.stamp().unwrap()) && !record.starts_with(&both.stamp().unwrap()));
        assert_eq!(*both.open(&resealed, purpose(1)).unwrap(), b"x");
        assert!(both.rewrap(&record, purpose(9)).is_err());
        assert!(matches!(
            Vault::parse(&old).unwrap().open(&resealed, purpose(1)),
            Err(SealError::UnknownKey)
        ));
        assert!(Vault::parse("c2hvcnQ=").is_err());
    }
}
