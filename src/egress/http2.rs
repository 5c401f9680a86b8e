//! An HTTP/2 connection: shared by everything that goes to one receiver, with a bounded number of requests at once.
//!
//! It runs in tasks of its own, which end when the last handle is dropped: within [`GOODBYE_WITHIN`], whatever the receiver
//! does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::http1::Outgoing;
use super::response::MAX_HEAD_BYTES;
use super::wire::{Meter, Protocol, Wire};

/// Requests at once on one connection; what comes on top waits. Receivers often allow 100 or 128.
const MAX_STREAMS: usize = 100;
/// A connection whose peer has vanished would otherwise time out one request after the other.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// We read 16 KiB of a body: larger windows would only let strangers fill our memory.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How long a connection that nobody uses any more may take to end.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(super) struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    streams: Semaphore,
    meter: Arc<Meter>,
    peer: SocketAddr,
    used_at: Mutex<Instant>,
    /// Takes no more requests: its receiver is silent, or takes none.
    retired: AtomicBool,
    _tasks: DropGuard,
}

impl Http2 {
    pub(super) async fn new(wire: Wire, peer: SocketAddr) -> hyper::Result<Arc<Http2>> {
        let meter = Arc::clone(wire.meter());
        let tasks = CancellationToken::new();
        let guard = tasks.clone().drop_guard();
        let (sender, connection) = Builder::new(Tasks(tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(wire))
            .await?;
        Tasks(tasks).execute(async move {
            // How it ended is told to each request.
            let _ = connection.await;
        });
        Ok(Arc::new(Http2 {
            sender,
            streams: Semaphore::new(MAX_STREAMS),
            meter,
            peer,
            used_at: Mutex::new(Instant::now()),
            retired: AtomicBool::new(false),
            _tasks: guard,
        }))
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Runs `exchange` with one of the connection's streams, waiting for one that is free.
    pub(super) async fn send(
        &self,
        request: Outgoing,
    ) -> Result<(Response<Incoming>, Stream<'_>), TrySendError<Outgoing>> {
        let stream = Stream { of: self, _permit: self.streams.acquire().await.ok() };
        self.meter.begin(Protocol::Http2);
        let response = self.sender.clone().try_send_request(request).await?;
        Ok((response, stream))
    }

    /// Whether it takes requests.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.retired.load(Relaxed)
    }

    /// A request got no answer in time: if the receiver has been silent altogether, it is asked no more.
    pub(super) fn timed_out(&self) {
        if !self.meter.has_stirred() || self.meter.has_answered() {
            self.retire();
        }
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    /// Since when it is idle; `None`: it is not.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.streams.available_permits() == MAX_STREAMS;
        is_idle.then(|| *self.used_at.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One of the connection's streams.
pub(super) struct Stream<'a> {
    of: &'a Http2,
    _permit: Option<tokio::sync::SemaphorePermit<'a>>,
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        *self.of.used_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Starts hyper's tasks so that they end when the connection is given up.
#[derive(Clone)]
struct Tasks(CancellationToken);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let given_up = self.0.clone().cancelled_owned();
        tokio::spawn(async move {
            tokio::select! {
                _ = task => {}
                () = async { given_up.await; sleep(GOODBYE_WITHIN).await } => {}
            }
        });
    }
}
