//! The one place that POSTs to a tenant's URL.
//!
//! Guarantees: the policy judges the address at every attempt (of a connection that is used again: the one it leads to);
//! no redirect is followed, no proxy taken from the environment, nothing sent twice by the client itself, no
//! cookie or referer, no decompression; the time-out covers look-up, connect, TLS, response head and the
//! body's excerpt; whatever the receiver does, memory and time are bounded, and the outcome is data.
//!
//! A connection of the pool that turns out to be closed before anything of the request was written is replaced, silently.
//!
//! It doesn't know about deliveries, formats or signatures, doesn't retry, and doesn't say which status is a
//! success.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::TrySendError;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request};
use tokio::time::{Instant, timeout_at};

use super::connect::{CONNECT_TIMEOUT, Connector};
use super::failure::SendError;
use super::http1::{Http1, Outgoing};
use super::http2::Http2;
use super::identity::ClientIdentity;
use super::policy::Policy;
use super::pool::{Key, Pool, Ready};
use super::proxy::EgressProxy;
use super::resolver::{JudgingResolver, LOOKUP_TIMEOUT, NameServers};
use super::response::{Excerpt, Response};
use super::room::max_connections;
use super::timings::{Phase, Progress, Timings};
use super::tls::{ExtraCaError, Tls};
use super::url::EndpointUrl;
use super::wire::Meter;
use crate::telemetry::metrics::metrics;

/// What every receiver sees as the client's name.
pub const USER_AGENT: &str = concat!("Posthaste/", env!("CARGO_PKG_VERSION"));

/// Idle connections kept per scheme, host, port and client certificate: what a few busy endpoints have in flight at once. They last
/// a few seconds each; with fewer, each burst to a busy receiver opened and closed connections.
const POOL_MAX_IDLE_PER_HOST: usize = 256;

/// How to send; the default is for production.
#[derive(Debug, Clone)]
pub struct SenderOptions {
    /// The operator's own authorities, besides the bundled ones.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// Everything goes through it, if there is one.
    pub proxy: Option<EgressProxy>,
    pub name_servers: NameServers,
    pub lookup_timeout: Duration,
    pub connect_timeout: Duration,
    pub max_idle_per_host: usize,
    /// Open at once, over all receivers.
    pub max_connections: usize,
}

impl Default for SenderOptions {
    fn default() -> SenderOptions {
        SenderOptions {
            extra_ca_pem: None,
            proxy: None,
            name_servers: NameServers::System,
            lookup_timeout: LOOKUP_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            max_idle_per_host: POOL_MAX_IDLE_PER_HOST,
            max_connections: max_connections(),
        }
    }
}

/// Why no sender could be made: bad settings, at start.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    #[error(transparent)]
    ExtraCa(#[from] ExtraCaError),
    #[error("the DNS resolver could not be set up: {0}")]
    Resolver(String),
}

/// One POST.
#[derive(Debug)]
pub struct Outbound<'a> {
    pub url: &'a EndpointUrl,
    /// Shown to receivers that ask who is calling.
    pub identity: Option<&'a Arc<ClientIdentity>>,
    /// Content type, signature and custom headers. `User-Agent` is added if absent.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Over everything, to the end of the body's excerpt.
    pub timeout: Duration,
}

/// How it went.
#[derive(Debug)]
pub struct Exchange {
    pub result: Result<Response, SendError>,
    pub timings: Timings,
    /// Whom we were connected to, if a response came.
    pub remote_addr: Option<SocketAddr>,
}

/// See the module's documentation. Cheap to clone; the clones share connections.
#[derive(Clone)]
pub struct Sender {
    inner: Arc<Inner>,
}

struct Inner {
    policy: Arc<Policy>,
    connector: Connector,
    pool: Arc<Pool>,
}

/// What an exchange may take, and has taken.
struct Course {
    timeout: Duration,
    deadline: Instant,
    progress: Progress,
}

/// An answer, or the request back: nothing of it was written.
enum Sent {
    Answered(Response, SocketAddr),
    Unsent(Box<Outgoing>, SendError),
}

impl Sender {
    pub fn new(policy: Arc<Policy>, options: SenderOptions) -> Result<Sender, SenderError> {
        let resolver =
            JudgingResolver::new(Arc::clone(&policy), options.name_servers, options.lookup_timeout)
                .map_err(|error| SenderError::Resolver(error.to_string()))?;
        let connector = Connector {
            policy: Arc::clone(&policy),
            resolver,
            tls: Tls::new(options.extra_ca_pem.as_deref())?,
            proxy: options.proxy,
            timeout: options.connect_timeout,
        };
        let pool = Pool::new(options.max_connections, options.max_idle_per_host);
        Ok(Sender { inner: Arc::new(Inner { policy, connector, pool }) })
    }

    /// Sends, and waits for the response at most as long as `outbound` says.
    pub async fn post(&self, outbound: Outbound<'_>) -> Exchange {
        let now = Instant::now();
        let Outbound { url, identity, headers, body, timeout } = outbound;
        let mut course = Course { timeout, deadline: now + timeout, progress: Progress::begin(now) };
        let sent = self.inner.send(url, identity, request(headers, body), &mut course).await;
        let (result, remote_addr) = match sent {
            Ok((response, peer)) => (Ok(response), Some(peer)),
            Err(error) => (Err(error), None),
        };
        Exchange { result, timings: course.progress.end(), remote_addr }
    }
}

impl Inner {
    async fn send(
        &self,
        url: &EndpointUrl,
        identity: Option<&Arc<ClientIdentity>>,
        mut request: Outgoing,
        course: &mut Course,
    ) -> Result<(Response, SocketAddr), SendError> {
        let origin = Arc::clone(url.origin());
        // A receiver without TLS can't ask.
        let identity = identity.filter(|_| origin.https);
        let key = Key { origin, identity: identity.map(|identity| identity.fingerprint()) };
        loop {
            let (ready, is_new) = match self.pool.take(&key) {
                Some(ready) => (ready, false),
                None => (Box::pin(self.connect(&key, identity, course)).await?, true),
            };
            let peer = match &ready {
                Ready::Http1(connection) => connection.peer(),
                Ready::Http2(connection) => connection.peer(),
            };
            self.policy.judge(peer)?;
            if !is_new {
                course.progress.enter(Phase::Answer);
                metrics().egress_connections_reused.increment(1);
            }
            let sent = match ready {
                Ready::Http1(connection) => {
                    *request.uri_mut() = url.path().clone();
                    request.headers_mut().insert(HOST, url.host_header().clone());
                    self.send_http1(&key, connection, request, course).await?
                }
                Ready::Http2(connection) => {
                    *request.uri_mut() = url.absolute().clone();
                    request.headers_mut().remove(HOST);
                    let sent = send_http2(&connection, request, course).await;
                    self.pool.give_way();
                    sent?
                }
            };
            match sent {
                Sent::Answered(response, peer) => return Ok((response, peer)),
                // Closed before it was used: by a receiver that takes no connections, if it was new.
                Sent::Unsent(_, error) if is_new => return Err(error),
                Sent::Unsent(unsent, _) => request = *unsent,
            }
        }
    }

    async fn connect(
        &self,
        key: &Key,
        identity: Option<&Arc<ClientIdentity>>,
        course: &mut Course,
    ) -> Result<Ready, SendError> {
        let connecting = self.connector.connect(&self.pool, &key.origin, identity, &mut course.progress);
        let Ok(made) = timeout_at(course.deadline, connecting).await else {
            return Err(SendError::not_sent_in_time(course.timeout, course.progress.phase()));
        };
        Ok(match made? {
            Ready::Http2(connection) => Ready::Http2(self.pool.share(key, connection)),
            http1 @ Ready::Http1(_) => http1,
        })
    }

    async fn send_http1(
        &self,
        key: &Key,
        mut connection: Box<Http1>,
        request: Outgoing,
        course: &mut Course,
    ) -> Result<Sent, SendError> {
        let head = match timeout_at(course.deadline, connection.send(request)).await {
            Ok(Ok(head)) => head,
            Ok(Err(failure)) => return unsent(failure, connection.meter()),
            Err(_) => return Err(SendError::not_answered_in_time(course.timeout, connection.meter())),
        };
        course.progress.answered();
        let (head, mut body) = head.into_parts();
        let mut excerpt = Excerpt::of(&body);
        if !excerpt.is_complete() {
            let read = async { while excerpt.take(connection.frame(&mut body).await, &body) {} };
            // Out of time: what came is kept.
            let _ = timeout_at(course.deadline, read).await;
        }
        let peer = connection.peer();
        // A body that goes on ends with its connection.
        if excerpt.is_complete() && connection.is_reusable().await {
            self.pool.put(key, connection);
        }
        Ok(Sent::Answered(Response::new(head, excerpt)?, peer))
    }
}

async fn send_http2(connection: &Http2, request: Outgoing, course: &mut Course) -> Result<Sent, SendError> {
    use http_body_util::BodyExt as _;
    let (head, _stream) = match timeout_at(course.deadline, connection.send(request)).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(failure)) => {
            if failure.message().is_some() {
                // It would give the next one back as well.
                connection.retire();
            }
            return unsent(failure, connection.meter());
        }
        Err(_) => {
            connection.timed_out();
            return Err(SendError::not_answered_in_time(course.timeout, connection.meter()));
        }
    };
    course.progress.answered();
    let (head, mut body) = head.into_parts();
    let mut excerpt = Excerpt::of(&body);
    if !excerpt.is_complete() {
        let read = async { while excerpt.take(body.frame().await, &body) {} };
        let _ = timeout_at(course.deadline, read).await;
    }
    Ok(Sent::Answered(Response::new(head, excerpt)?, connection.peer()))
}

fn unsent(mut failure: TrySendError<Outgoing>, meter: &Meter) -> Result<Sent, SendError> {
    let error = SendError::no_response(failure.error(), meter);
    match failure.take_message() {
        Some(request) => Ok(Sent::Unsent(Box::new(request), error)),
        None => Err(error),
    }
}

fn request(mut headers: HeaderMap, body: Bytes) -> Outgoing {
    headers.entry(hyper::header::USER_AGENT).or_insert(const { HeaderValue::from_static(USER_AGENT) });
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers;
    request
}
