//! The least HTTP that can publish and receive: prepared requests over kept connections, answers read by their length.
//! Neither should cost much next to what they measure.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
};

use super::stopwatch::Stopwatch;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// Requests to this path are never answered.
pub const HANG: &str = "/hang";
/// In front of an event's number in its data.
const NUMBER: &[u8] = b"\"n\":\"";
/// Digits of an event's number: always as many, so that it can be changed in place.
pub const NUMBER_DIGITS: usize = 10;

/// Answers everything with 200, counts it, and notes when each numbered event came.
pub struct Sink {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    count: AtomicUsize,
    arrived: Notify,
    timed: AtomicBool,
    watch: Mutex<Option<Arc<Stopwatch>>>,
}

impl Sink {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let sink = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&sink.seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&seen)));
            }
        });
        sink
    }

    pub fn count(&self) -> usize {
        self.seen.count.load(Ordering::Relaxed)
    }

    /// Counts from nothing, and notes times on `watch` from now on, if there is one.
    pub fn begin(&self, watch: Option<Arc<Stopwatch>>) {
        self.seen.timed.store(watch.is_some(), Ordering::Relaxed);
        *self.seen.watch.lock().unwrap() = watch;
        self.seen.count.store(0, Ordering::Relaxed);
    }

    pub async fn wait_for(&self, count: usize) {
        while self.count() < count {
            self.seen.arrived.notified().await;
        }
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Seen>) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::with_capacity(16 * 1024);
    while let Some(message) = message(&mut stream, &mut buffer).await {
        if buffer[message.line()].windows(HANG.len()).any(|part| part == HANG.as_bytes()) {
            return std::future::pending().await;
        }
        if seen.timed.load(Ordering::Relaxed)
            && let Some(number) = number(&buffer[message.head..message.end])
            && let Some(watch) = seen.watch.lock().unwrap().as_ref()
        {
            watch.received(number);
        }
        buffer.drain(..message.end);
        if stream.write_all(OK).await.is_err() {
            return;
        }
        seen.count.fetch_add(1, Ordering::Relaxed);
        seen.arrived.notify_one();
    }
}

fn number(body: &[u8]) -> Option<usize> {
    let start = body.windows(NUMBER.len()).position(|part| part == NUMBER)? + NUMBER.len();
    std::str::from_utf8(body.get(start..start + NUMBER_DIGITS)?).ok()?.parse().ok()
}

/// A prepared POST, with places for the numbers of its events.
#[derive(Clone)]
pub struct Request {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Request {
    pub fn new(path: &str, headers: &str, body: &str) -> Self {
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let bytes = text.into_bytes();
        let places = bytes.windows(NUMBER.len()).enumerate().filter(|(_, part)| *part == NUMBER);
        let places = places.map(|(at, _)| at + NUMBER.len()).collect();
        Self { bytes, places }
    }

    /// How many events it publishes.
    pub fn events(&self) -> usize {
        self.places.len().max(1)
    }

    fn number_from(&mut self, first: usize) {
        for (number, place) in (first..).zip(&self.places) {
            let digits = format!("{number:0NUMBER_DIGITS$}");
            self.bytes[*place..*place + NUMBER_DIGITS].copy_from_slice(digits.as_bytes());
        }
    }
}

/// Requests from as many connections as can be, one behind the other on each, until `more` says no. Returns the requests
/// and how long they took.
pub async fn closed_loop(
    target: SocketAddr,
    request: &Request,
    connections: usize,
    more: impl Fn(usize) -> bool + Clone + Send + 'static,
) -> (usize, Duration) {
    let begun = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let senders: Vec<_> = (0..connections)
        .map(|_| {
            let (begun, more, mut request) = (Arc::clone(&begun), more.clone(), request.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(target).await;
                let mut done = 0;
                loop {
                    let number = begun.fetch_add(1, Ordering::Relaxed);
                    if !more(number) {
                        return done;
                    }
                    connection.send(&mut request, number).await;
                    done += 1;
                }
            })
        })
        .collect();
    let mut done = 0;
    for sender in senders {
        done += sender.await.unwrap();
    }
    (done, started.elapsed())
}

/// Requests at a fixed rate, whatever becomes of those before: `count` of them, their intended times on `watch`.
pub async fn open_loop(
    target: SocketAddr,
    request: &Request,
    connections: usize,
    rate_per_s: f64,
    count: usize,
    watch: &Arc<Stopwatch>,
) {
    let (due, next) = mpsc::unbounded_channel();
    let clock = Arc::clone(watch);
    // A thread of its own: the runtime's timer is a millisecond coarse.
    let ticker = std::thread::spawn(move || {
        let started = Instant::now();
        for number in 0..count {
            let at = started + Duration::from_secs_f64(number as f64 / rate_per_s);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            clock.sent(number, at);
            due.send(number).unwrap();
        }
    });
    let next = Arc::new(tokio::sync::Mutex::new(next));
    let senders: Vec<_> = (0..connections)
        .map(|_| {
            let (next, mut request) = (Arc::clone(&next), request.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(target).await;
                loop {
                    let number = next.lock().await.recv().await;
                    let Some(number) = number else { return };
                    connection.send(&mut request, number).await;
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    ticker.join().unwrap();
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(target: SocketAddr) -> Self {
        let stream = TcpStream::connect(target).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::with_capacity(4 * 1024) }
    }

    /// The `number`th request, and its answer.
    async fn send(&mut self, request: &mut Request, number: usize) {
        request.number_from(number * request.events());
        self.stream.write_all(&request.bytes).await.unwrap();
        let answer = message(&mut self.stream, &mut self.buffer).await.expect("an answer");
        let text = String::from_utf8_lossy(&self.buffer[..answer.end]);
        assert!(text.starts_with("HTTP/1.1 20"), "{text}");
        self.buffer.drain(..answer.end);
    }
}

/// Where a message with a content-length stands in the buffer, from its beginning.
struct Message {
    head: usize,
    end: usize,
}

impl Message {
    /// As much as holds the request line.
    fn line(&self) -> std::ops::Range<usize> {
        0..self.head.min(64)
    }
}

async fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Message> {
    loop {
        if let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) {
            let end = head + content_length(&buffer[..head]);
            while buffer.len() < end {
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            return Some(Message { head, end });
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let lines = head.split(|byte| *byte == b'\n');
    let values =
        lines.filter(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)));
    let digits = values.map(|line| String::from_utf8_lossy(&line[NAME.len()..]).trim().parse().unwrap());
    digits.max().unwrap_or(0)
}
