//! A receiver of webhooks on loopback that does what the test's script says.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Response},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    time::timeout,
};

use super::client::PATIENCE;

/// A request as it was received.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: Instant,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// Not before this is notified.
    gate: Option<Arc<Notify>>,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: b"ok".to_vec(), gate: None }
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Answers only when the gate is notified (once for each request).
    pub fn behind(mut self, gate: &Arc<Notify>) -> Self {
        self.gate = Some(Arc::clone(gate));
        self
    }
}

#[derive(Clone)]
struct Shared {
    scripts: Arc<Mutex<HashMap<String, VecDeque<Answer>>>>,
    seen: mpsc::UnboundedSender<Seen>,
}

/// Answers 200 but for what was scripted, and shows every request.
pub struct Receiver {
    pub base: String,
    scripts: Arc<Mutex<HashMap<String, VecDeque<Answer>>>>,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, seen) = mpsc::unbounded_channel();
        let scripts = Arc::<Mutex<HashMap<_, _>>>::default();
        let shared = Shared { scripts: Arc::clone(&scripts), seen: sender };
        let router = Router::new().fallback(receive).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { base, scripts, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The next answers on this path, one a request; the last one stays.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.scripts.lock().unwrap().insert(path.to_owned(), answers.into_iter().collect());
    }

    /// The next request, whenever it comes.
    pub async fn next(&mut self) -> Seen {
        timeout(PATIENCE, self.seen.recv()).await.expect("a request arrives").expect("the receiver runs")
    }

    /// So many requests.
    pub async fn take(&mut self, count: usize) -> Vec<Seen> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }

    /// What has come that nobody has asked for.
    pub fn rest(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }
}

async fn receive(State(shared): State<Shared>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let answer = {
        let mut scripts = shared.scripts.lock().unwrap();
        match scripts.get_mut(&path) {
            Some(script) if script.len() > 1 => script.pop_front(),
            Some(script) => script.front().cloned(),
            None => None,
        }
        .unwrap_or_else(|| Answer::status(200))
    };
    let seen =
        Seen { method: parts.method.to_string(), path, headers: parts.headers, body, at: Instant::now() };
    let _ = shared.seen.send(seen);
    if let Some(gate) = &answer.gate {
        gate.notified().await;
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, &value[..]);
    }
    response.body(Body::from(answer.body)).expect("a response")
}
