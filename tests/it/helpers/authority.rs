//! An authority of the test's own: for certificates of clients, and of receivers.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair,
};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

/// A client's certificate and key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub private_key: String,
    /// As the API tells it.
    pub fingerprint: String,
}

impl Identity {
    /// As the API takes it.
    pub fn body(&self) -> serde_json::Value {
        serde_json::json!({"certificate": self.certificate, "private_key": self.private_key})
    }
}

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn client(&self, name: &str) -> Identity {
        self.client_until(name, OffsetDateTime::now_utc() + Duration::days(30))
    }

    pub fn client_until(&self, name: &str, not_after: OffsetDateTime) -> Identity {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = not_after - Duration::days(60);
        params.not_after = not_after;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity {
            certificate: certificate.pem().replace("\r\n", "\n"),
            private_key: key.serialize_pem(),
            fingerprint: fingerprint(certificate.der()),
        }
    }
}

fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}
