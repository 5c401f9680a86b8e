//! The receiver inside the demo: a small web server such as an integrator would write.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use tokio::{net::TcpListener, sync::mpsc};

/// Times that `/flaky` fails before it succeeds.
const FAILURES: u32 = 2;

/// A request as it was received.
pub struct Seen {
    pub path: &'static str,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: Instant,
    /// Unix time, for the check of the signature's age.
    pub at_s: i64,
    pub answered: u16,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("none")
    }
}

pub struct Receiver {
    pub address: SocketAddr,
    seen: mpsc::UnboundedReceiver<Seen>,
}

#[derive(Clone)]
struct Shared {
    seen: mpsc::UnboundedSender<Seen>,
    flaky_calls: Arc<AtomicU32>,
}

impl Shared {
    fn answer(&self, path: &'static str, headers: HeaderMap, body: Bytes, status: StatusCode) -> StatusCode {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_s = i64::try_from(since.as_secs()).unwrap_or_default();
        let _ =
            self.seen.send(Seen { path, headers, body, at: Instant::now(), at_s, answered: status.as_u16() });
        status
    }
}

impl Receiver {
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (sender, seen) = mpsc::unbounded_channel();
        let shared = Shared { seen: sender, flaky_calls: Arc::default() };
        let hook = async |State(shared): State<Shared>, headers: HeaderMap, body: Bytes| {
            shared.answer("/hook", headers, body, StatusCode::OK)
        };
        let flaky = async |State(shared): State<Shared>, headers: HeaderMap, body: Bytes| {
            let failed = shared.flaky_calls.fetch_add(1, Ordering::Relaxed) < FAILURES;
            let status = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
            shared.answer("/flaky", headers, body, status)
        };
        let router = Router::new().route("/hook", post(hook)).route("/flaky", post(flaky)).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, seen })
    }

    pub async fn next(&mut self) -> anyhow::Result<Seen> {
        self.seen.recv().await.context("the receiver runs")
    }
}
