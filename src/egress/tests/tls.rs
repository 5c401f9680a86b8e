//! TLS: always verified, and every way to fail has its sentence.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
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
async fn h2_receiver(issued: Issued, frames: impl Into<Vec<u8>>) -> Receiver {
    let frames = Arc::new(frames.into());
    const SETTINGS_AND_ACK: [u8; 18] = [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
    let acceptor = acceptor(issued, &["h2"]);
    Receiver::start(move |stream| {
        let (acceptor, frames) = (acceptor.clone(), Arc::clone(&frames));
        async move {
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            stream.write_all(&SETTINGS_AND_ACK).await.expect("written");
            let mut request = Vec::new();
            while !request.windows(7).any(|window| window == b"{\"a\":1}") {
                stream.read_buf(&mut request).await.expect("a request");
            }
            assert!(request.starts_with(b"PRI * HTTP/2.0\r\n"));
            // A client that has seen enough may be gone.
            let _ = stream.write_all(&frames).await;
            let _ = stream.read_to_end(&mut request).await;
        }
    })
    .await
}

async fn post_tls(receiver: &Receiver, extra_ca_pem: Option<Vec<u8>>) -> Exchange {
    post_tls_within(receiver, extra_ca_pem, BEFORE_PINGS).await
}

async fn post_tls_within(receiver: &Receiver, extra_ca_pem: Option<Vec<u8>>, timeout: Duration) -> Exchange {
    let dns = DnsServer::start().await;
    dns.set(HOST, Answer::ips(&["127.0.0.1"]));
    let policy = loopback_policy();
    let raw = format!("https://{HOST}:{}/", receiver.addr.port());
    let url = policy.parse_url(&raw, HTTPS_ONLY).expect("an accepted URL");
    let sender = sender(&policy, SenderOptions { extra_ca_pem, ..dns.options() });
    post(&sender, &url, timeout).await
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

/// A frame of the first stream.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&[a, b, c, kind, flags, 0, 0, 0, 1], payload].concat()
}

#[tokio::test]
async fn h2_receivers_that_mean_harm_get_the_same_classes() {
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    const END_HEADERS: u8 = 4;
    let interim = frame(HEADERS, END_HEADERS, b"\x08\x03103").repeat(100);
    let begun = frame(HEADERS, 0, &[0x88]);
    // A header that is never indexed: x, and a value of 16,000 bytes.
    let large = [&[0x10, 1, b'x', 0x7f, 0x81, 0x7c][..], &[b'z'; 16_000]].concat();
    let endless = [begun.clone(), frame(CONTINUATION, 0, &large).repeat(20)].concat();
    let authority = Authority::new();
    for (frames, timeout, class) in [
        (Vec::new(), SHORT, ErrorClass::Timeout),
        (begun, SHORT, ErrorClass::ResponseTooSlow),
        (interim, BEFORE_PINGS, ErrorClass::InterimFlood),
        (endless, BEFORE_PINGS, ErrorClass::ResponseTooLarge),
        (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), BEFORE_PINGS, ErrorClass::Protocol),
    ] {
        let receiver = h2_receiver(authority.issue(HOST, in_a_week()), frames).await;
        let exchange = post_tls_within(&receiver, Some(authority.pem()), timeout).await;
        assert_eq!(class_of(&exchange), class);
    }
}

/// An HTTP/2 server that answers 204 to everything.
async fn honest_h2_receiver(issued: Issued) -> Receiver {
    use hyper::{Request, Response, body::Incoming};
    let acceptor = acceptor(issued, &["h2"]);
    Receiver::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.expect("a handshake");
            let answer = hyper::service::service_fn(|request: Request<Incoming>| async move {
                assert_eq!(request.uri().path(), "/");
                assert!(request.headers().get("host").is_none());
                let mut response = Response::new(http_body_util::Empty::<Bytes>::new());
                *response.status_mut() = hyper::StatusCode::NO_CONTENT;
                Ok::<_, std::convert::Infallible>(response)
            });
            let http2 = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            // How the client goes is its own affair.
            let _ = http2.serve_connection(hyper_util::rt::TokioIo::new(stream), answer).await;
        }
    })
    .await
}

#[tokio::test]
async fn one_h2_connection_serves_many_requests_at_once() {
    let authority = Authority::new();
    let receiver = honest_h2_receiver(authority.issue(HOST, in_a_week())).await;
    let dns = DnsServer::start().await;
    dns.set(HOST, Answer::ips(&["127.0.0.1"]));
    let policy = loopback_policy();
    let raw = format!("https://{HOST}:{}/", receiver.addr.port());
    let url = Arc::new(policy.parse_url(&raw, HTTPS_ONLY).expect("an accepted URL"));
    let sender = sender(&policy, SenderOptions { extra_ca_pem: Some(authority.pem()), ..dns.options() });
    post(&sender, &url, PLENTY).await.result.expect("a response");
    let mut posts = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (sender, url) = (sender.clone(), Arc::clone(&url));
        posts.spawn(async move { post(&sender, &url, PLENTY).await });
    }
    while let Some(exchange) = posts.join_next().await {
        assert_eq!(exchange.expect("joined").result.expect("a response").status, 204);
    }
    assert_eq!(receiver.connections(), 1);
}

/// A client's identity of the test's own.
fn identity(authority: &Authority, name: &str) -> Arc<ClientIdentity> {
    let params = CertificateParams::new(vec![name.to_owned()]).expect("params");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &authority.0).expect("a certificate");
    Arc::new(ClientIdentity::parse(&certificate.pem(), &key.serialize_pem()).expect("an identity"))
}

/// Asks for a client certificate, and answers with its fingerprint.
async fn asking_receiver(issued: Issued, authority: &Authority) -> Receiver {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut clients = rustls::RootCertStore::empty();
    clients.add(authority.0.der().clone()).expect("a root");
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider.clone())
            .build()
            .expect("a verifier");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![issued.0], issued.1)
        .expect("a usable certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Receiver::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let shown = stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec();
            let print: [u8; 32] = Sha256::digest(&shown).into();
            let answer = [&b"HTTP/1.1 200 OK\r\ncontent-length: 32\r\n\r\n"[..], &print].concat();
            let mut request = Vec::new();
            while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                if request.ends_with(b"{\"a\":1}") {
                    request.clear();
                    stream.write_all(&answer).await.expect("written");
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn each_client_identity_has_connections_of_its_own() {
    let authority = Authority::new();
    let receiver = asking_receiver(authority.issue(HOST, in_a_week()), &authority).await;
    let dns = DnsServer::start().await;
    dns.set(HOST, Answer::ips(&["127.0.0.1"]));
    let policy = loopback_policy();
    let raw = format!("https://{HOST}:{}/", receiver.addr.port());
    let url = policy.parse_url(&raw, HTTPS_ONLY).expect("an accepted URL");
    let sender = sender(&policy, SenderOptions { extra_ca_pem: Some(authority.pem()), ..dns.options() });
    let (one, other) = (identity(&authority, "one"), identity(&authority, "other"));
    for _ in 0..3 {
        for identity in [&one, &other] {
            let outbound = Outbound {
                url: &url,
                identity: Some(identity),
                headers: HeaderMap::new(),
                body: Bytes::from_static(b"{\"a\":1}"),
                timeout: PLENTY,
            };
            let response = sender.post(outbound).await.result.expect("a response");
            assert_eq!(response.body[..], identity.fingerprint());
        }
    }
    assert_eq!(receiver.connections(), 2);
    // Without one, and with one that the receiver doesn't know.
    let error = post(&sender, &url, PLENTY).await.result.expect_err("no certificate");
    assert_eq!(error.class, ErrorClass::Tls);
    assert!(error.detail.contains("client certificate"), "{}", error.detail);
}

#[tokio::test]
async fn a_self_signed_certificate_is_untrusted_as_an_authority_or_not() {
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).expect("params");
        params.is_ca = is_ca;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let receiver = tls_receiver((certificate.der().clone(), key)).await;
        assert_tls_failure(&receiver, None, ErrorClass::TlsUntrusted, "self-signed").await;
    }
}

#[tokio::test]
async fn bad_certificates_are_refused_each_with_its_sentence() {
    let authority = Authority::new();
    let receiver = tls_receiver(authority.issue(HOST, in_a_week())).await;
    assert_tls_failure(&receiver, None, ErrorClass::TlsUntrusted, "not trusted").await;
    assert_tls_failure(&receiver, Some(Authority::new().pem()), ErrorClass::TlsUntrusted, "not trusted")
        .await;

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
