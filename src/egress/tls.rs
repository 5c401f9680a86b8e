//! TLS towards receivers: always verified, and the same everywhere.
//!
//! Roots are Mozilla's, compiled in, so that a bare container works and the machine's own store can't
//! widen or narrow what is trusted; an operator's extra CA adds to them. There is no way to switch
//! verification off.
//!
//! A client certificate is shown to receivers that ask for one, by requests that have one. Sessions are remembered apart
//! for each certificate: what one may resume says nothing of another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::failure::{ErrorClass, SendError};
use super::identity::ClientIdentity;

/// Servers whose sessions are remembered, to save a round trip on the next connection.
const SESSION_CACHE_SERVERS: usize = 1_024;
/// The same of one client certificate, which is for one receiver, or a few.
const SESSION_CACHE_SERVERS_OF_IDENTITY: usize = 8;
/// Client certificates whose configuration is kept. Beyond, all are forgotten and made again as they are used.
const MAX_IDENTITIES: usize = 1_024;
/// HTTP/2, as ALPN calls it.
pub(super) const ALPN_H2: &[u8] = b"h2";

/// Why the operator's extra CA can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ExtraCaError {
    #[error("the extra CA file is not PEM: {0}")]
    NotPem(#[from] rustls::pki_types::pem::Error),
    #[error("the extra CA file holds no certificate")]
    Empty,
    #[error("the extra CA file holds a certificate that can't be a root: {0}")]
    NotARoot(#[from] rustls::Error),
    #[error("the authorities can't be used: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// See the module's documentation.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    verifier: Arc<WebPkiServerVerifier>,
    anonymous: TlsConnector,
    /// By fingerprint.
    identities: Mutex<HashMap<[u8; 32], TlsConnector>>,
}

impl Tls {
    pub(super) fn new(extra_ca_pem: Option<&[u8]>) -> Result<Tls, ExtraCaError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots(extra_ca_pem)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        let anonymous = connector(&provider, &verifier, None)?;
        Ok(Tls { provider, verifier, anonymous, identities: Mutex::default() })
    }

    pub(super) fn connector(
        &self,
        identity: Option<&Arc<ClientIdentity>>,
    ) -> Result<TlsConnector, rustls::Error> {
        let Some(identity) = identity else { return Ok(self.anonymous.clone()) };
        let mut known = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = known.get(&identity.fingerprint()) {
            return Ok(connector.clone());
        }
        if known.len() >= MAX_IDENTITIES {
            known.clear();
        }
        let connector = connector(&self.provider, &self.verifier, Some(identity))?;
        known.insert(identity.fingerprint(), connector.clone());
        Ok(connector)
    }
}

fn connector(
    provider: &Arc<CryptoProvider>,
    verifier: &Arc<WebPkiServerVerifier>,
    identity: Option<&ClientIdentity>,
) -> Result<TlsConnector, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_webpki_verifier(Arc::clone(verifier));
    let (mut config, servers) = match identity {
        None => (builder.with_no_client_auth(), SESSION_CACHE_SERVERS),
        Some(identity) => {
            let shown = SingleCertAndKey::from(Arc::clone(identity.certified()));
            (builder.with_client_cert_resolver(Arc::new(shown)), SESSION_CACHE_SERVERS_OF_IDENTITY)
        }
    };
    config.alpn_protocols = vec![ALPN_H2.to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(servers);
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(extra_ca_pem: Option<&[u8]>) -> Result<RootCertStore, ExtraCaError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    if let Some(pem) = extra_ca_pem {
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate?)?;
            added += 1;
        }
        if added == 0 {
            return Err(ExtraCaError::Empty);
        }
    }
    Ok(roots)
}

/// A class, and one plain sentence that says what the endpoint's owner must do.
pub(super) fn explain(error: &rustls::Error) -> SendError {
    let (class, detail) = match error {
        rustls::Error::InvalidCertificate(certificate) => explain_certificate(certificate),
        rustls::Error::InvalidMessage(_) => (
            ErrorClass::Tls,
            "the endpoint did not answer with TLS on this port: the URL needs the port of its HTTPS server",
        ),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => (
            ErrorClass::Tls,
            "the endpoint demands a client certificate: give the endpoint one here (client_certificate)",
        ),
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            // Signed by another one of the same name.
            | AlertDescription::DecryptError,
        ) => (
            ErrorClass::Tls,
            "the endpoint refused the client certificate: it demands a valid one of an authority that it knows",
        ),
        rustls::Error::AlertReceived(_) => (
            ErrorClass::Tls,
            "the endpoint refused the TLS handshake: it may ask for TLS 1.2 or 1.3, for its host name or for a client \
             certificate that it knows",
        ),
        _ => (
            ErrorClass::Tls,
            "the TLS handshake with the endpoint failed: it must speak TLS 1.2 or 1.3 with current ciphers",
        ),
    };
    SendError::new(class, detail)
}

fn explain_certificate(error: &CertificateError) -> (ErrorClass, &'static str) {
    use CertificateError as C;
    const UNTRUSTED: &str = "the endpoint's TLS certificate is self-signed, lacks an intermediate certificate, or comes from \
         an authority that is not trusted: install one of a public authority, with its full chain";
    match error {
        C::Expired | C::ExpiredContext { .. } => {
            (ErrorClass::TlsExpired, "the endpoint's TLS certificate has expired: renew it")
        }
        C::NotValidYet | C::NotValidYetContext { .. } => (
            ErrorClass::Tls,
            "the endpoint's TLS certificate is not valid yet: check the date that it begins with",
        ),
        C::NotValidForName | C::NotValidForNameContext { .. } => (
            ErrorClass::TlsWrongName,
            "the endpoint's TLS certificate is for another host name: install one that names the URL's host",
        ),
        // A signature is bad where an authority has the name of a trusted one, and not its key.
        C::UnknownIssuer | C::BadSignature => (ErrorClass::TlsUntrusted, UNTRUSTED),
        // What most tools make when asked for a self-signed certificate.
        C::Other(other) if other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) => {
            (ErrorClass::TlsUntrusted, UNTRUSTED)
        }
        C::Revoked => (ErrorClass::Tls, "the endpoint's TLS certificate has been revoked: install a new one"),
        _ => (ErrorClass::Tls, "the endpoint's TLS certificate is not valid: install a new one"),
    }
}
