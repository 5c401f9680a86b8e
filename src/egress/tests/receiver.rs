//! A receiver that follows a script: it gets the bare socket, so that it can be as rude as it likes.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::egress::{EndpointUrl, Policy};

pub(super) struct Receiver {
    pub(super) addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Receiver {
    /// Runs `script` for every connection.
    pub(super) async fn start<F, Done>(script: F) -> Receiver
    where
        F: Fn(TcpStream) -> Done + Send + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        Receiver::start_on("127.0.0.1", script).await
    }

    pub(super) async fn start_on<F, Done>(ip: &str, script: F) -> Receiver
    where
        F: Fn(TcpStream) -> Done + Send + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((ip, 0)).await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut scripts = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                scripts.spawn(script(stream));
            }
        });
        Receiver { addr, connections, _task: AbortOnDropHandle::new(task) }
    }

    /// Answers every request with the same bytes.
    pub(super) async fn answering(answer: impl Into<Vec<u8>>) -> Receiver {
        let answer = Arc::new(answer.into());
        Receiver::start(move |stream| answer_all(stream, Arc::clone(&answer))).await
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn url(&self, policy: &Policy) -> EndpointUrl {
        policy.parse_url(&format!("http://{}/hook?k=v", self.addr), super::HTTP_TOO).expect("an accepted URL")
    }
}

pub(super) async fn answer_all(mut stream: TcpStream, answer: Arc<Vec<u8>>) {
    while read_request(&mut stream).await.is_some() {
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// The next request, head and body; `None` when the client has gone.
pub(super) async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    loop {
        if let Some(head_end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..head_end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
            if request.len() >= head_end + 4 + length {
                return Some(String::from_utf8_lossy(&request).into_owned());
            }
        }
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
pub(super) const OK_AND_CLOSE: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
