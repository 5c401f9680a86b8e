//! `ClientIdentity`: the certificate that we show to a receiver that asks who is calling (mTLS), with its key.
//!
//! Guarantees: a chain that is not empty, few and small, of X.509 certificates; one private key in clear, of a kind
//! that TLS can sign with, and the one of the chain's first certificate. `Debug` prints the fingerprint only.
//! Refusals never quote what was given.
//!
//! Not here: whether a receiver trusts the chain, which only it knows; whether the certificate lives (it is shown
//! even when it has expired: the receiver judges that by its own clock); keeping the key sealed, which is the
//! endpoint's business.

use std::fmt;
use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::types::hex;

/// The client's own certificate and those between it and its authority.
pub const MAX_CHAIN_CERTIFICATES: usize = 8;
/// The chain as PEM text.
pub const MAX_CHAIN_PEM_BYTES: usize = 16 * 1024;
/// The key as PEM text: an RSA key of 8,192 bits has 6.4 KiB.
pub const MAX_KEY_PEM_BYTES: usize = 16 * 1024;
const PEM_LINE_CHARS: usize = 64;

/// Which of the two texts is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityPart {
    Certificate,
    PrivateKey,
}

/// Why an identity is refused, in words that follow the name of the part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct IdentityRefusal {
    pub part: IdentityPart,
    pub detail: String,
}

/// See the module's documentation.
pub struct ClientIdentity {
    certified: Arc<CertifiedKey>,
    chain_sha256: [u8; 32],
    facts: CertificateFacts,
}

/// What the chain's first certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// SHA-256 of its DER.
    pub fingerprint: [u8; 32],
    /// Its distinguished name, as people read it; empty where it has none.
    pub subject: String,
    pub not_after: OffsetDateTime,
}

impl ClientIdentity {
    /// From a chain in PEM, the client's own certificate first, and its key in PEM: PKCS#8, PKCS#1 or SEC1.
    /// All refusals are told at once.
    pub fn parse(chain_pem: &str, key_pem: &str) -> Result<ClientIdentity, Vec<IdentityRefusal>> {
        let chain = parse_chain(chain_pem).map_err(|detail| refused(IdentityPart::Certificate, detail));
        let key = parse_key(key_pem).map_err(|detail| refused(IdentityPart::PrivateKey, detail));
        let (chain, key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
        };
        // Not `CertifiedKey::keys_match`, which can't read certificates of version 1: old tools still make them.
        if key.public_key().is_none_or(|public| public.as_ref() != chain.public_key) {
            let detail = "is not the key of the first certificate, which must be the client's own";
            return Err(vec![refused(IdentityPart::PrivateKey, detail)]);
        }
        let mut whole = Sha256::new();
        chain.certificates.iter().for_each(|certificate| whole.update(certificate));
        let certified = Arc::new(CertifiedKey::new(chain.certificates, key));
        Ok(ClientIdentity { certified, chain_sha256: whole.finalize().into(), facts: chain.facts })
    }

    /// What a handshake needs.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Tells identities apart: what is shared by requests (connections, TLS sessions) is shared within one. SHA-256 of the
    /// whole chain, since receivers take the same certificate with one chain and refuse it with another.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.chain_sha256
    }

    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// The chain as PEM, and nothing else that was in the text.
    pub fn chain_pem(&self) -> String {
        self.certified.cert.iter().map(|certificate| pem(certificate)).collect()
    }
}

impl CertificateFacts {
    /// Of a chain without its key.
    pub fn of_chain(chain_pem: &str) -> Result<CertificateFacts, IdentityRefusal> {
        match parse_chain(chain_pem) {
            Ok(chain) => Ok(chain.facts),
            Err(detail) => Err(refused(IdentityPart::Certificate, detail)),
        }
    }

    pub fn has_expired(&self, now: OffsetDateTime) -> bool {
        self.not_after < now
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientIdentity({})", hex(&self.facts.fingerprint))
    }
}

fn refused(part: IdentityPart, detail: impl Into<String>) -> IdentityRefusal {
    IdentityRefusal { part, detail: detail.into() }
}

struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    facts: CertificateFacts,
    /// SubjectPublicKeyInfo of the first one, in DER.
    public_key: Vec<u8>,
}

fn parse_chain(text: &str) -> Result<Chain, String> {
    if text.len() > MAX_CHAIN_PEM_BYTES {
        return Err(format!("must have at most {MAX_CHAIN_PEM_BYTES} bytes"));
    }
    // Everybody who may read the endpoint sees this text.
    if text.contains("PRIVATE KEY-----") {
        return Err("holds a private key, which belongs into private_key alone".into());
    }
    let mut certificates = Vec::new();
    let mut first = None;
    for section in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let number = certificates.len() + 1;
        if number > MAX_CHAIN_CERTIFICATES {
            return Err(format!("must have at most {MAX_CHAIN_CERTIFICATES} certificates"));
        }
        let certificate: CertificateDer<'static> = section.map_err(|_| "is not valid PEM")?;
        match X509Certificate::from_der(&certificate) {
            Ok(([], parsed)) if number == 1 => first = Some((facts(&certificate, &parsed), spki(&parsed))),
            Ok(([], _)) => {}
            _ => return Err(format!("has no valid X.509 certificate in its PEM section {number}")),
        }
        certificates.push(certificate);
    }
    let (facts, public_key) = first.ok_or("has no certificate in PEM (-----BEGIN CERTIFICATE-----)")?;
    Ok(Chain { certificates, facts, public_key })
}

fn facts(der: &[u8], parsed: &X509Certificate<'_>) -> CertificateFacts {
    CertificateFacts {
        fingerprint: Sha256::digest(der).into(),
        subject: parsed.subject().to_string(),
        not_after: parsed.validity().not_after.to_datetime(),
    }
}

fn spki(parsed: &X509Certificate<'_>) -> Vec<u8> {
    parsed.public_key().raw.to_vec()
}

fn parse_key(text: &str) -> Result<Arc<dyn SigningKey>, String> {
    if text.len() > MAX_KEY_PEM_BYTES {
        return Err(format!("must have at most {MAX_KEY_PEM_BYTES} bytes"));
    }
    let old_style = text.lines().any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"));
    if old_style || text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        return Err(
            "is encrypted with a passphrase; give it without one (openssl pkey), and it is encrypted here"
                .into(),
        );
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(text.as_bytes());
    let key = keys.next().ok_or("has no private key in PEM (-----BEGIN PRIVATE KEY-----)")?;
    let key = key.map_err(|_| "is not valid PEM")?;
    if keys.next().is_some() {
        return Err("must be one private key and nothing after it".into());
    }
    any_supported_type(&key).map_err(|_| {
        "is not a private key for TLS: RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519, \
         as PKCS#8, PKCS#1 or SEC1"
            .into()
    })
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::with_capacity(text.len() + text.len() / PEM_LINE_CHARS + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE_CHARS));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
