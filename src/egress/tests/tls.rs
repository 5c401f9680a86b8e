//! TLS: always verified, and every way to fail has its sentence.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration as Days, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::dns_server::{Answer, DnsServer};
use super::receiver::{OK, Receiver};
use super::*;

const HOST: &str = "hooks.example.com";
/// Shorter than h2's pings, which the receivers here don't answer.
const BEFORE_PINGS: std::time::Duration = std::time::Duration::from_secs(8);

/// A certificate authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    fn issue(&self, host: &str, not_after: OffsetDateTime) -> Issued {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("params");
        params.not_before = not_after - Days::days(30);
        params.not_after = not_after;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }
}

fn in_a_week() -> OffsetDateTime {
    OffsetDateTime::now_utc() + Days::days(7)
}

type Issued = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn acceptor((certificate, key): Issued, alpn: &[&str]) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a usable certificate");
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn tls_receiver(issued: Issued) -> Receiver {
    let acceptor = acceptor(issued, &["http/1.1"]);
    Receiver::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            // A client that refuses the certificate ends here.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = Vec::new();
            while !request.ends_with(b"{\"a\":1}") {
                stream.read_buf(&mut request).await.expect("a request");
            }
            stream.write_all(OK.as_bytes()).await.expect("written");
            stream.shutdown().await.expect("closed");
        }
    })
    .await
}

/// Speaks h2 and nothing else: settings, then `frames` as soon as a request's body has come.
async fn h2_receiver(issued: Issued, frames: &'static [u8]) -> Receiver {
    const SETTINGS_AND_ACK: [u8; 18] = [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
    let acceptor = acceptor(issued, &["h2"]);
    Receiver::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            stream.write_all(&SETTINGS_AND_ACK).await.expect("written");
            let mut request = Vec::new();
            while !request.windows(7).any(|window| window == b"{\"a\":1}") {
                stream.read_buf(&mut request).await.expect("a request");
            }
            assert!(request.starts_with(b"PRI * HTTP/2.0\r\n"));
            stream.write_all(frames).await.expect("written");
            let _ = stream.read_to_end(&mut request).await;
        }
    })
    .await
}

async fn post_tls(receiver: &Receiver, extra_ca_pem: Option<Vec<u8>>) -> Exchange {
    let dns = DnsServer::start().await;
    dns.set(HOST, Answer::ips(&["127.0.0.1"]));
    let policy = loopback_policy();
    let raw = format!("https://{HOST}:{}/", receiver.addr.port());
    let url = policy.parse_url(&raw, HTTPS_ONLY).expect("an accepted URL");
    let sender = sender(&policy, SenderOptions { extra_ca_pem, ..dns.options() });
    post(&sender, &url, BEFORE_PINGS).await
}

async fn assert_tls_failure(
    receiver: &Receiver,
    extra_ca_pem: Option<Vec<u8>>,
    class: ErrorClass,
    sentence: &str,
) {
    let error = post_tls(receiver, extra_ca_pem).await.result.expect_err("an error");
    assert_eq!(error.class, class);
    assert!(error.detail.contains(sentence), "{}", error.detail);
}

#[tokio::test]
async fn an_extra_ca_is_trusted_and_the_handshake_timed() {
    let authority = Authority::new();
    let receiver = tls_receiver(authority.issue(HOST, in_a_week())).await;
    let exchange = post_tls(&receiver, Some(authority.pem())).await;
    assert_eq!(exchange.result.expect("a response").body.as_ref(), b"ok");
    let timings = exchange.timings;
    assert!(timings.dns_ms.is_some() && timings.connect_ms.is_some() && timings.tls_ms.is_some());
}

#[tokio::test]
async fn h2_is_spoken_where_offered_and_nothing_is_sent_twice() {
    // One header block, `:status: 200`, which also ends the stream.
    const OK_200: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
    // REFUSED_STREAM: reqwest's default would send again, on a stream that nobody answers.
    const REFUSED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];

    let authority = Authority::new();
    let receiver = h2_receiver(authority.issue(HOST, in_a_week()), OK_200).await;
    let response = post_tls(&receiver, Some(authority.pem())).await.result.expect("a response");
    assert_eq!((response.status, response.body.len()), (200, 0));

    let receiver = h2_receiver(authority.issue(HOST, in_a_week()), REFUSED).await;
    assert_eq!(class_of(&post_tls(&receiver, Some(authority.pem())).await), ErrorClass::Protocol);
}

#[tokio::test]
async fn bad_certificates_are_refused_each_with_its_sentence() {
    let authority = Authority::new();
    let receiver = tls_receiver(authority.issue(HOST, in_a_week())).await;
    assert_tls_failure(&receiver, None, ErrorClass::TlsUntrusted, "not trusted").await;
    assert_tls_failure(&receiver, Some(Authority::new().pem()), ErrorClass::Tls, "not valid").await;

    let expired = OffsetDateTime::now_utc() - Days::days(1);
    let receiver = tls_receiver(authority.issue(HOST, expired)).await;
    assert_tls_failure(&receiver, Some(authority.pem()), ErrorClass::TlsExpired, "has expired").await;

    let receiver = tls_receiver(authority.issue(HOST, in_a_week() + Days::days(60))).await;
    assert_tls_failure(&receiver, Some(authority.pem()), ErrorClass::Tls, "not valid yet").await;

    let receiver = tls_receiver(authority.issue("other.example.com", in_a_week())).await;
    assert_tls_failure(&receiver, Some(authority.pem()), ErrorClass::TlsWrongName, "another host name").await;
}

#[tokio::test]
async fn no_tls_at_all() {
    let receiver = Receiver::start(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.expect("written");
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_tls_failure(&receiver, None, ErrorClass::Tls, "did not answer with TLS").await;

    let receiver = Receiver::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 64]).await;
    })
    .await;
    assert_tls_failure(&receiver, None, ErrorClass::Tls, "TLS handshake").await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_off() {
    let receiver = Receiver::start(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let policy = loopback_policy();
    let url = policy.parse_url(&format!("https://{}/", receiver.addr), HTTPS_ONLY).expect("an accepted URL");
    let slow = sender(&policy, SenderOptions { connect_timeout: SHORT, ..SenderOptions::default() });
    let error = post(&slow, &url, PLENTY).await.result.expect_err("cut off by the connect time-out");
    assert_eq!(error.class, ErrorClass::Tls);
    assert_eq!(error.detail, "the TLS handshake with the endpoint took too long");

    let error =
        post(&sender(&policy, SenderOptions::default()), &url, SHORT).await.result.expect_err("cut off");
    assert_eq!(error.class, ErrorClass::Timeout);
    assert_eq!(error.detail, "the TLS handshake was not finished within the time-out of 1000 ms");
}

#[test]
fn an_unusable_extra_ca_is_told_at_start() {
    let policy = loopback_policy();
    for pem in ["", "not a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let options = SenderOptions { extra_ca_pem: Some(pem.into()), ..SenderOptions::default() };
        assert!(matches!(Sender::new(Arc::clone(&policy), options), Err(SenderError::ExtraCa(_))), "{pem}");
    }
}
