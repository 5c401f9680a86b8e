//! The client certificate of an endpoint (mTLS): from what a caller gives to what is stored, and back to what attempts are
//! sent with.
//!
//! Whoever may read the endpoint sees the chain. Its private key is sealed before it is stored, opened where attempts are
//! made, and shown to nobody.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    egress::{CertificateFacts, ClientIdentity, IdentityPart, IdentityRefusal},
    seal::{Purpose, SealError, Vault},
    types::{EndpointId, TenantId, Timestamp, hex},
    web::{ApiError, fields::Fields},
};

/// What receivers that ask who is calling are shown (mTLS). It needs a URL with `https`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewClientCertificate)]
pub struct ClientCertificateBody {
    /// The client's own certificate in PEM, then those between it and its authority, at most 8 together.
    #[schema(
        min_length = 1,
        max_length = 16384,
        examples("-----BEGIN CERTIFICATE-----\nMIIBjjCC…\n-----END CERTIFICATE-----\n")
    )]
    certificate: String,
    /// Its private key in PEM, not encrypted: PKCS#8, PKCS#1 or SEC1; RSA, ECDSA or Ed25519. It is stored encrypted and never shown.
    #[schema(
        min_length = 1,
        max_length = 16384,
        write_only,
        examples("-----BEGIN PRIVATE KEY-----\nMIGHAgEA…\n-----END PRIVATE KEY-----\n")
    )]
    private_key: String,
}

/// What receivers that ask who is calling are shown (mTLS).
#[derive(Debug, Serialize, ToSchema)]
pub struct ClientCertificate {
    /// The client's own certificate in PEM, then those between it and its authority.
    #[schema(examples("-----BEGIN CERTIFICATE-----\nMIIBjjCC…\n-----END CERTIFICATE-----\n"))]
    pub certificate: String,
    /// SHA-256 of the client's own certificate, hex.
    #[schema(
        pattern = "^[0-9a-f]{64}$",
        examples("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    )]
    pub fingerprint_sha256: String,
    /// Whom it names; empty where it names nobody.
    #[schema(examples("O=Example, CN=posthaste"))]
    pub subject: String,
    /// Until when it is valid. It is shown to receivers even then: they judge it by their own clock.
    pub not_after: Timestamp,
}

/// A client certificate that was checked and is to be stored.
pub struct NewClientCertificate {
    identity: ClientIdentity,
    key_pem: Zeroizing<String>,
}

/// The same as it is stored.
pub struct SealedClientCertificate {
    pub chain_pem: String,
    pub sha256: [u8; 32],
    pub key_sealed: Vec<u8>,
}

impl ClientCertificateBody {
    /// One that has expired is refused; what isn't valid yet may have been made on a clock that is a little ahead.
    pub fn check(self, fields: &mut Fields, now: Timestamp) -> Option<NewClientCertificate> {
        const CERTIFICATE: &str = "/client_certificate/certificate";
        const PRIVATE_KEY: &str = "/client_certificate/private_key";
        let key_pem = Zeroizing::new(self.private_key);
        match ClientIdentity::parse(&self.certificate, &key_pem) {
            Ok(identity) if identity.facts().has_expired(now.datetime()) => {
                let not_after = Timestamp::from(identity.facts().not_after);
                fields.wrong(CERTIFICATE, format!("has expired: it was valid until {not_after}"));
                None
            }
            Ok(identity) => Some(NewClientCertificate { identity, key_pem }),
            Err(refusals) => {
                for IdentityRefusal { part, detail } in refusals {
                    let pointer = match part {
                        IdentityPart::Certificate => CERTIFICATE,
                        IdentityPart::PrivateKey => PRIVATE_KEY,
                    };
                    fields.wrong(pointer, detail);
                }
                None
            }
        }
    }
}

impl ClientCertificate {
    pub fn of_chain(chain_pem: String) -> Result<Self, ApiError> {
        let facts = CertificateFacts::of_chain(&chain_pem).map_err(ApiError::internal)?;
        Ok(Self {
            certificate: chain_pem,
            fingerprint_sha256: hex(&facts.fingerprint),
            subject: facts.subject,
            not_after: Timestamp::from(facts.not_after),
        })
    }
}

pub fn key_purpose(tenant: TenantId, endpoint: EndpointId) -> Purpose {
    Purpose { what: "client key", tenant: tenant.uuid(), owner: endpoint.uuid(), item: Uuid::nil() }
}

impl NewClientCertificate {
    pub fn seal(
        &self,
        vault: &Vault,
        tenant: TenantId,
        endpoint: EndpointId,
    ) -> Result<SealedClientCertificate, SealError> {
        Ok(SealedClientCertificate {
            chain_pem: self.identity.chain_pem(),
            sha256: self.identity.facts().fingerprint,
            key_sealed: vault.seal(self.key_pem.as_bytes(), key_purpose(tenant, endpoint))?,
        })
    }
}

/// Opens a stored one. One that opens and can't be used all the same was good when it was stored: what is taken has changed
/// since.
pub fn open(
    vault: &Vault,
    tenant: TenantId,
    endpoint: EndpointId,
    chain_pem: &str,
    key_sealed: &[u8],
) -> Result<Result<ClientIdentity, Vec<IdentityRefusal>>, SealError> {
    let key_pem = vault.open_text(key_sealed, key_purpose(tenant, endpoint))?;
    Ok(ClientIdentity::parse(chain_pem, &key_pem))
}
