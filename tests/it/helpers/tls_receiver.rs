//! A receiver on loopback with TLS that asks who is calling.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::Response,
    serve::{IncomingStream, Listener},
};
use rustls::{SupportedProtocolVersion, server::WebPkiClientVerifier};
use tokio::{
    io,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Authority, authority::fingerprint, client::PATIENCE};

/// How a receiver asks.
#[derive(Clone, Copy)]
pub struct Asking {
    pub protocol: &'static str,
    pub version: &'static SupportedProtocolVersion,
}

pub const H2_ON_TLS_13: Asking = Asking { protocol: "h2", version: &rustls::version::TLS13 };
pub const H1_ON_TLS_12: Asking = Asking { protocol: "http/1.1", version: &rustls::version::TLS12 };

/// A request, and whose certificate its connection was made with.
#[derive(Clone, Debug)]
pub struct SeenFrom {
    pub path: String,
    pub fingerprint: String,
    /// Counts connections from 0.
    pub connection: usize,
}

/// Answers 200 to whoever shows a certificate of the authority's, and shows every request.
pub struct MutualReceiver {
    pub base: String,
    seen: mpsc::UnboundedReceiver<SeenFrom>,
    connections: Arc<Mutex<usize>>,
}

#[derive(Clone, Debug)]
struct Peer {
    fingerprint: String,
    connection: usize,
}

/// Hands on connections whose handshake is done.
struct Handshaken {
    local: std::net::SocketAddr,
    done: mpsc::Receiver<(TlsStream<TcpStream>, Peer)>,
}

impl Listener for Handshaken {
    type Io = TlsStream<TcpStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.done.recv().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { fingerprint: self.local.to_string(), connection: 0 })
    }
}

impl Connected<IncomingStream<'_, Handshaken>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Handshaken>) -> Self {
        stream.remote_addr().clone()
    }
}

impl MutualReceiver {
    pub async fn start(authority: &Authority, asking: Asking) -> Self {
        let acceptor = acceptor(authority, asking);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let local = listener.local_addr().expect("an address");
        let (sender, seen) = mpsc::unbounded_channel();
        let (hand_on, done) = mpsc::channel(1);
        let connections = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = {
                    let mut counted = counted.lock().unwrap();
                    *counted += 1;
                    *counted - 1
                };
                let (acceptor, hand_on) = (acceptor.clone(), hand_on.clone());
                tokio::spawn(async move {
                    // Who shows nothing, or a stranger's, ends here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    let fingerprint = fingerprint(shown.expect("it is demanded"));
                    let _ = hand_on.send((stream, Peer { fingerprint, connection })).await;
                });
            }
        });
        let router = Router::new().fallback(receive).with_state(sender);
        let service = router.into_make_service_with_connect_info::<Peer>();
        tokio::spawn(async move { axum::serve(Handshaken { local, done }, service).await });
        Self { base: format!("https://{local}"), seen, connections }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub async fn next(&mut self) -> SeenFrom {
        timeout(PATIENCE, self.seen.recv()).await.expect("a request arrives").expect("the receiver runs")
    }

    /// What has come that nobody has asked for.
    pub fn rest(&mut self) -> Vec<SeenFrom> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }

    /// Those that were refused included.
    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

fn acceptor(authority: &Authority, asking: Asking) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (certificate, key) = authority.loopback();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(authority.roots(), Arc::clone(&provider)).build();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[asking.version])
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![asking.protocol.as_bytes().to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn receive(
    State(seen): State<mpsc::UnboundedSender<SeenFrom>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let _ = axum::body::to_bytes(body, usize::MAX).await;
    let path = parts.uri.path().to_owned();
    let _ = seen.send(SeenFrom { path, fingerprint: peer.fingerprint, connection: peer.connection });
    Response::new(Body::from("ok"))
}
