//! An authority of the test's own: for certificates of clients, and of receivers.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, SanType,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
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
        issue(name, not_after, &self.0)
    }

    /// One that comes from an authority below this one: with that one's certificate behind its own, and without.
    pub fn client_further_down(&self, name: &str) -> (Identity, Identity) {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "between");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let between = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap();
        let alone = issue(name, OffsetDateTime::now_utc() + Duration::days(30), &between);
        let certificate = format!("{}{}", alone.certificate, between.pem().replace("\r\n", "\n"));
        (Identity { certificate, ..alone.clone() }, alone)
    }

    /// For the program's `--egress-ca-file`.
    pub fn file(&self) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.0.pem()).unwrap();
        file
    }

    /// A receiver's certificate and key.
    pub fn loopback(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }
}

fn issue(name: &str, not_after: OffsetDateTime, authority: &CertifiedIssuer<'static, KeyPair>) -> Identity {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = not_after - Duration::days(60);
    params.not_after = not_after;
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    Identity {
        certificate: certificate.pem().replace("\r\n", "\n"),
        private_key: key.serialize_pem(),
        fingerprint: fingerprint(certificate.der()),
    }
}

pub fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}
