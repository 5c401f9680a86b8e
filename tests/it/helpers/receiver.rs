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
use futures_util::StreamExt;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    time::timeout,
};

use super::client::PATIENCE;

/// Where nobody listens any more.
pub fn nowhere() -> String {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    format!("https://127.0.0.1:{port}/gone")
}

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
    /// The body's end never comes.
    stalls: bool,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: b"ok".to_vec(), gate: None, stalls: false }
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

    /// Sends head and body, and then neither more nor the end.
    pub fn stalling(mut self) -> Self {
        self.stalls = true;
        self
    }

    /// Never answers.
    pub fn never() -> Self {
        Self::status(200).behind(&Arc::default())
    }
}

/// A script in code.
type Decide = Box<dyn FnMut(&Seen) -> Option<Answer> + Send>;

/// Requests at once on one path.
#[derive(Clone, Copy, Default)]
struct AtOnce {
    now: usize,
    most: usize,
}

/// One request of those at once, until it is answered or given up.
struct Open {
    shared: Shared,
    path: String,
}

impl Open {
    fn new(shared: &Shared, path: &str) -> Self {
        let mut at_once = shared.at_once.lock().unwrap();
        let count = at_once.entry(path.to_owned()).or_default();
        count.now += 1;
        count.most = count.most.max(count.now);
        Self { shared: shared.clone(), path: path.to_owned() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(count) = self.shared.at_once.lock().unwrap().get_mut(&self.path) {
            count.now -= 1;
        }
    }
}

#[derive(Clone)]
struct Shared {
    scripts: Arc<Mutex<HashMap<String, VecDeque<Answer>>>>,
    decide: Arc<Mutex<Option<Decide>>>,
    at_once: Arc<Mutex<HashMap<String, AtOnce>>>,
    seen: mpsc::UnboundedSender<Seen>,
}

/// Answers 200 but for what was scripted, and shows every request.
pub struct Receiver {
    pub base: String,
    shared: Shared,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, seen) = mpsc::unbounded_channel();
        let shared =
            Shared { scripts: Arc::default(), decide: Arc::default(), at_once: Arc::default(), seen: sender };
        let router = Router::new().fallback(receive).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { base, shared, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The next answers on this path, one a request; the last one stays.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.shared.scripts.lock().unwrap().insert(path.to_owned(), answers.into_iter().collect());
    }

    /// Decides by request, before any script.
    pub fn decide(&self, decide: impl FnMut(&Seen) -> Option<Answer> + Send + 'static) {
        *self.shared.decide.lock().unwrap() = Some(Box::new(decide));
    }

    /// The most requests that were ever under way at once on this path.
    pub fn most_at_once(&self, path: &str) -> usize {
        self.shared.at_once.lock().unwrap().get(path).copied().unwrap_or_default().most
    }

    /// Requests that are under way now on the paths that begin so.
    pub fn under_way(&self, prefix: &str) -> usize {
        let at_once = self.shared.at_once.lock().unwrap();
        at_once.iter().filter(|(path, _)| path.starts_with(prefix)).map(|(_, count)| count.now).sum()
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
    let _open = Open::new(&shared, &path);
    let seen =
        Seen { method: parts.method.to_string(), path, headers: parts.headers, body, at: Instant::now() };
    let decided = shared.decide.lock().unwrap().as_mut().and_then(|decide| decide(&seen));
    let answer = decided.unwrap_or_else(|| {
        let mut scripts = shared.scripts.lock().unwrap();
        match scripts.get_mut(&seen.path) {
            Some(script) if script.len() > 1 => script.pop_front(),
            Some(script) => script.front().cloned(),
            None => None,
        }
        .unwrap_or_else(|| Answer::status(200))
    });
    let _ = shared.seen.send(seen);
    if let Some(gate) = &answer.gate {
        gate.notified().await;
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, &value[..]);
    }
    let body = if answer.stalls {
        let start = futures_util::stream::iter([Ok::<_, std::io::Error>(answer.body)]);
        Body::from_stream(start.chain(futures_util::stream::pending()))
    } else {
        Body::from(answer.body)
    };
    response.body(body).expect("a response")
}
