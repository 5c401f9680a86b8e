//! TLS towards receivers: always verified, and the same everywhere.
//!
//! Roots are Mozilla's, compiled in, so that a bare container works and the machine's own store can't
//! widen or narrow what is trusted; an operator's extra CA adds to them. There is no way to switch
//! verification off. Client certificates aren't offered yet.

use std::sync::Arc;

use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use super::timings::MarkHandshakes;

/// Servers whose sessions are remembered, to save a round trip on the next connection.
const SESSION_CACHE_SERVERS: usize = 1_024;

/// Why the operator's extra CA can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ExtraCaError {
    #[error("the extra CA file is not PEM: {0}")]
    NotPem(#[from] rustls::pki_types::pem::Error),
    #[error("the extra CA file holds no certificate")]
    Empty,
    #[error("the extra CA file holds a certificate that can't be a root: {0}")]
    NotARoot(#[from] rustls::Error),
}

pub(super) fn client_config(extra_ca_pem: Option<&[u8]>) -> Result<ClientConfig, ExtraCaError> {
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
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let sessions = ClientSessionMemoryCache::new(SESSION_CACHE_SERVERS);
    config.resumption = Resumption::store(Arc::new(MarkHandshakes(sessions)));
    Ok(config)
}

/// One plain sentence for the endpoint's owner.
pub(super) fn explain(error: &rustls::Error) -> &'static str {
    use CertificateError as C;
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            C::Expired | C::ExpiredContext { .. } => "the endpoint's TLS certificate has expired",
            C::NotValidYet | C::NotValidYetContext { .. } => {
                "the endpoint's TLS certificate is not valid yet"
            }
            C::NotValidForName | C::NotValidForNameContext { .. } => {
                "the endpoint's TLS certificate is for another host name"
            }
            C::UnknownIssuer => {
                "the endpoint's TLS certificate is self-signed, lacks an intermediate certificate, \
                 or comes from an authority that is not trusted"
            }
            C::Revoked => "the endpoint's TLS certificate has been revoked",
            _ => "the endpoint's TLS certificate is not valid",
        },
        rustls::Error::InvalidMessage(_) => "the endpoint did not answer with TLS on this port",
        rustls::Error::AlertReceived(_) => "the endpoint refused the TLS handshake",
        _ => "the TLS handshake with the endpoint failed",
    }
}
