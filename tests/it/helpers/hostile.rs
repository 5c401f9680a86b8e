//! Receivers that mean harm: scripts on bare sockets on loopback, and the class that an attempt at each must end with.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

type Script = Arc<dyn Fn(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// One kind of receiver, listening.
pub struct Hostile {
    pub kind: &'static str,
    pub url: String,
    /// The class of error; `None`: an odd success.
    pub error: Option<&'static str>,
    pub timeout_ms: u32,
    _port: Option<TcpSocket>,
}

/// Requests that hang until they are let go.
#[derive(Clone)]
pub struct Hanging {
    pub arrived: Arc<Semaphore>,
    pub given_up: Arc<Semaphore>,
    pub released: Arc<Semaphore>,
}

/// Short: what never ends is waited for.
const TIMEOUT_MS: u32 = 1_000;
/// Far longer than it takes to let them go.
const HANGING_TIMEOUT_MS: u32 = 30_000;

impl Hostile {
    /// All kinds; `authority` is to be trusted.
    pub async fn all(authority: &Authority, hanging: &Hanging) -> Vec<Hostile> {
        let (now, days) = (OffsetDateTime::now_utc(), time::Duration::days);
        let local = |alpn: &str| authority.acceptor("127.0.0.1", now + days(7), alpn);
        let (wrong, expired) = (
            authority.acceptor("other.example.com", now + days(7), "http/1.1"),
            authority.acceptor("127.0.0.1", now - days(1), "http/1.1"),
        );
        let stranger = Authority::self_signed("127.0.0.1");
        let interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let large =
            format!("HTTP/1.1 200 OK\r\nx-large: {}\r\ncontent-length: 0\r\n\r\n", "z".repeat(300 * 1024));
        let bomb =
            [&b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 12\r\n\r\n"[..], &BOMB].concat();
        let redirect =
            "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/\r\ncontent-length: 0\r\n\r\n";
        let hang = hanging.clone();
        let http = [
            ("never answers", Some("timeout"), script(|s| says(s, "", Then::Stall))),
            (
                "drips its header",
                Some("response_too_slow"),
                script(|s| says(s, "HTTP/1.1 200 OK\r\nx: ", Then::Drip)),
            ),
            ("drips its body", None, script(|s| says(s, "HTTP/1.1 200 OK\r\n\r\n", Then::Drip))),
            ("floods 1xx", Some("interim_flood"), script(|s| says(s, "", Then::Flood(interim)))),
            (
                "300 KiB of header",
                Some("response_too_large"),
                script(move |s| says(s, large.clone(), Then::Close)),
            ),
            (
                "endless body",
                Some("response_status"),
                script(|s| says(s, "HTTP/1.1 500 No\r\n\r\n", Then::Flood(&[b'z'; 4096]))),
            ),
            ("gzip bomb", None, script(move |s| says(s, bomb.clone(), Then::Close))),
            (
                "closes amid its header",
                Some("response_incomplete"),
                script(|s| says(s, "HTTP/1.1 200 OK\r\nx: ", Then::Close)),
            ),
            ("resets", Some("reset"), script(|s| says(s, "", Then::Reset))),
            ("no HTTP", Some("protocol"), script(|s| says(s, "220 mail.example.com ESMTP\r\n", Then::Close))),
            ("redirects inside", Some("response_status"), script(move |s| says(s, redirect, Then::Close))),
        ];
        let https = [
            (
                "no TLS",
                Some("tls"),
                script(|mut s| async move {
                    let _ = s.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                    let _ = s.read_to_end(&mut Vec::new()).await;
                }),
            ),
            (
                "endless handshake",
                Some("timeout"),
                script(|mut s| async move {
                    let _ = s.read_to_end(&mut Vec::new()).await;
                }),
            ),
            ("wrong name", Some("tls_wrong_name"), over(wrong, "", Then::Close)),
            ("expired", Some("tls_expired"), over(expired, "", Then::Close)),
            ("self-signed", Some("tls_untrusted"), over(stranger, "", Then::Close)),
            (
                "h2 header without end",
                Some("response_too_slow"),
                over(local("h2"), H2_HALF_HEAD, Then::Stall),
            ),
            ("h2 floods 1xx", Some("interim_flood"), over(local("h2"), "", Then::Flood(H2_INTERIM))),
        ];
        let mut all = Vec::new();
        for (scheme, kinds) in [("http", http.into_iter().collect::<Vec<_>>()), ("https", https.into())] {
            for (kind, error, script) in kinds {
                let url = format!("{scheme}://{}/hook", listen(script).await);
                all.push(Hostile { kind, url, error, timeout_ms: TIMEOUT_MS, _port: None });
            }
        }
        // Bound, so that nobody else gets it, and not listening.
        let closed = TcpSocket::new_v4().expect("a socket");
        closed.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let url = format!("http://{}/hook", closed.local_addr().expect("an address"));
        let kind = "nobody there";
        all.push(Hostile { kind, url, error: Some("connect"), timeout_ms: TIMEOUT_MS, _port: Some(closed) });
        let url = format!("http://{}/hook", listen(script(move |s| hangs(s, hang.clone()))).await);
        let (kind, error) = ("hangs until let go", Some("reset"));
        all.push(Hostile { kind, url, error, timeout_ms: HANGING_TIMEOUT_MS, _port: None });
        all
    }
}

const BOMB: [u8; 12] = [0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0x03, 0xed, 0xc1];
/// Settings, and the client's acknowledged.
const H2_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
/// `:status: 200` of the first stream, with more to come.
const H2_HALF_HEAD: &[u8] = &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x88];
/// `:status: 103` of the first stream.
const H2_INTERIM: &[u8] = &[0, 0, 5, 1, 4, 0, 0, 0, 1, 8, 3, b'1', b'0', b'3'];

/// What follows the first bytes of an answer.
#[derive(Clone, Copy)]
enum Then {
    Close,
    Reset,
    Stall,
    Drip,
    Flood(&'static [u8]),
}

fn script<F>(script: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Script
where
    F: Future<Output = ()> + Send + 'static,
{
    Arc::new(move |stream| Box::pin(script(stream)))
}

fn over(acceptor: TlsAcceptor, first: impl Into<Vec<u8>>, then: Then) -> Script {
    let first = first.into();
    script(move |stream| {
        let (acceptor, first) = (acceptor.clone(), first.clone());
        async move {
            // A client that refuses the certificate ends here.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    let _ = stream.write_all(H2_SETTINGS).await;
                }
                answer(stream, &first, then).await;
            }
        }
    })
}

async fn listen(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream));
        }
    });
    address
}

async fn says(stream: TcpStream, first: impl Into<Vec<u8>>, then: Then) {
    if matches!(then, Then::Reset) {
        stream.set_zero_linger().expect("set");
    }
    answer(stream, &first.into(), then).await;
}

/// Until a part of the body that every event of the test has.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) {
    const MARK: &[u8] = b"message.sent";
    let mut request = Vec::new();
    while !request.windows(MARK.len()).any(|window| window == MARK) {
        if !stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
            return;
        }
    }
}

/// Whatever happens to the connection: the client may have seen enough.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, first: &[u8], then: Then) {
    read_request(&mut stream).await;
    let _ = stream.write_all(first).await;
    let _ = stream.flush().await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    match then {
        Then::Reset => {}
        Then::Close => {
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        Then::Stall => {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        Then::Drip => {
            while stream.write_all(b"z").await.is_ok() {
                pace.tick().await;
            }
        }
        Then::Flood(bytes) => while stream.write_all(bytes).await.is_ok() {},
    }
}

async fn hangs(mut stream: TcpStream, hanging: Hanging) {
    read_request(&mut stream).await;
    hanging.arrived.add_permits(1);
    let mut more = Vec::new();
    tokio::select! {
        _ = hanging.released.acquire() => {}
        _ = stream.read_to_end(&mut more) => hanging.given_up.add_permits(1),
    }
}

/// A certificate authority of the test's own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"),
        )
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    fn acceptor(&self, host: &str, until: OffsetDateTime, alpn: &str) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("params");
        params.not_before = until - time::Duration::days(30);
        params.not_after = until;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        acceptor(certificate.der().clone(), &key, alpn)
    }

    fn self_signed(host: &str) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![host.to_owned()]).expect("params");
        acceptor(params.self_signed(&key).expect("a certificate").der().clone(), &key, "http/1.1")
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair, alpn: &str) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a usable certificate");
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
