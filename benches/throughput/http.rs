//! The least HTTP that can publish and receive: fixed requests over kept connections, answers read by their length.

use std::{
    net::SocketAddr,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::Counter;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Answers everything with 200 and counts it.
pub struct Sink {
    pub address: SocketAddr,
    pub count: Counter,
    arrived: std::sync::Arc<Notify>,
}

impl Sink {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let sink = Self {
            address: listener.local_addr().unwrap(),
            count: Counter::default(),
            arrived: std::sync::Arc::default(),
        };
        let (count, arrived) = (sink.count.clone(), sink.arrived.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (count, arrived) = (count.clone(), arrived.clone());
                tokio::spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let mut buffer = Vec::with_capacity(16 * 1024);
                    while message(&mut stream, &mut buffer).await.is_some() {
                        if stream.write_all(OK).await.is_err() {
                            return;
                        }
                        count.fetch_add(1, Ordering::Relaxed);
                        arrived.notify_one();
                    }
                });
            }
        });
        sink
    }

    pub async fn wait_for(&self, count: usize) {
        while self.count.load(Ordering::Relaxed) < count {
            self.arrived.notified().await;
        }
    }
}

/// The same request again and again.
pub struct Load {
    target: SocketAddr,
    request: Vec<u8>,
}

pub struct Ran(Duration);

impl Ran {
    pub fn per_s(&self, count: usize) -> f64 {
        count as f64 / self.0.as_secs_f64()
    }
}

impl Load {
    pub fn new(target: SocketAddr, request: &str) -> Self {
        Self { target, request: request.as_bytes().to_vec() }
    }

    pub async fn run(&self, count: usize, connections: usize) -> Ran {
        let left = Counter::default();
        left.store(count, Ordering::Relaxed);
        let started = Instant::now();
        let senders: Vec<_> = (0..connections)
            .map(|_| {
                let (target, request, left) = (self.target, self.request.clone(), left.clone());
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(target).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut buffer = Vec::with_capacity(4 * 1024);
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                        .is_ok()
                    {
                        stream.write_all(&request).await.unwrap();
                        let answer = message(&mut stream, &mut buffer).await.expect("an answer");
                        assert!(answer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer));
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        Ran(started.elapsed())
    }
}

/// One message with a content-length; its first line and headers.
async fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = buffer[..end].to_vec();
            let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length: usize = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |value| value.trim().parse().unwrap());
            while buffer.len() < end + 4 + length {
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            buffer.drain(..end + 4 + length);
            return Some(head);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
