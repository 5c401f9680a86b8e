//! The one place that POSTs to a tenant's URL.
//!
//! Guarantees: the policy judges the address at every attempt (a literal host here, names in the resolver);
//! no redirect is followed, no proxy taken from the environment, nothing sent twice by the client itself, no
//! cookie or referer, no decompression; the time-out covers look-up, connect, TLS, response head and the
//! body's excerpt; whatever the receiver does, memory and time are bounded, and the outcome is data.
//!
//! It doesn't know about deliveries, formats or signatures, doesn't retry, and doesn't say which status is a
//! success.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::failure::SendError;
use super::policy::Policy;
use super::resolver::{JudgingResolver, LOOKUP_TIMEOUT, NameServers};
use super::response::{MAX_HEAD_BYTES, Response};
use super::timings::{self, Mark, MarkConnects, Marks, Timings};
use super::tls::{self, ExtraCaError};
use super::url::EndpointUrl;

/// What every receiver sees as the client's name.
pub const USER_AGENT: &str = concat!("Posthaste/", env!("CARGO_PKG_VERSION"));

/// How long connecting may take: look-up, TCP over all addresses, and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than the 5 s after which many servers close, so that we seldom write into a closing connection.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Idle connections kept per scheme, host and port.
const POOL_MAX_IDLE_PER_HOST: usize = 32;
/// An h2 connection whose peer has vanished would otherwise time out one request after the other.
const H2_PING_INTERVAL: Duration = Duration::from_secs(10);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(5);
/// We read 16 KiB of a body: larger windows would only let strangers fill our memory.
const H2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How to send; the default is for production.
#[derive(Debug, Clone)]
pub struct SenderOptions {
    /// The operator's own authorities, besides the bundled ones.
    pub extra_ca_pem: Option<Vec<u8>>,
    pub name_servers: NameServers,
    pub lookup_timeout: Duration,
    pub connect_timeout: Duration,
    pub max_idle_per_host: usize,
}

impl Default for SenderOptions {
    fn default() -> SenderOptions {
        SenderOptions {
            extra_ca_pem: None,
            name_servers: NameServers::System,
            lookup_timeout: LOOKUP_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            max_idle_per_host: POOL_MAX_IDLE_PER_HOST,
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
    #[error("the HTTP client could not be set up: {0}")]
    Client(#[from] reqwest::Error),
}

/// One POST.
#[derive(Debug)]
pub struct Outbound<'a> {
    pub url: &'a EndpointUrl,
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
    client: reqwest::Client,
    policy: Arc<Policy>,
}

impl Sender {
    pub fn new(policy: Arc<Policy>, options: SenderOptions) -> Result<Sender, SenderError> {
        let resolver =
            JudgingResolver::new(Arc::clone(&policy), options.name_servers, options.lookup_timeout)
                .map_err(|error| SenderError::Resolver(error.to_string()))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(options.extra_ca_pem.as_deref())?)
            .dns_resolver(resolver)
            .connector_layer(MarkConnects)
            .connect_timeout(options.connect_timeout)
            // A proxy in the environment would be connected to instead of what was judged.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // By default reqwest sends again what an h2 server has refused.
            .retry(reqwest::retry::never())
            .user_agent(USER_AGENT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(options.max_idle_per_host)
            .tcp_nodelay(true)
            .http2_initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
            .http2_max_header_list_size(MAX_HEAD_BYTES)
            .http2_keep_alive_interval(H2_PING_INTERVAL)
            .http2_keep_alive_timeout(H2_PING_TIMEOUT)
            .build()?;
        Ok(Sender { client, policy })
    }

    /// Sends, and waits for the response at most as long as `outbound` says.
    pub async fn post(&self, outbound: Outbound<'_>) -> Exchange {
        // The client never asks a resolver about a literal address, so it is judged here.
        if let Some(Err(refused)) = outbound.url.literal().map(|addr| self.policy.judge(addr)) {
            return Exchange { result: Err(refused.into()), timings: Timings::default(), remote_addr: None };
        }
        let marks = Marks::new(outbound.url.port());
        timings::with_marks(marks, self.exchange(outbound)).await
    }

    async fn exchange(&self, Outbound { url, headers, body, timeout }: Outbound<'_>) -> Exchange {
        let deadline = Instant::now() + timeout;
        let mut request = reqwest::Request::new(Method::POST, url.parsed().clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());

        let mut remote_addr = None;
        let result = match timeout_at(deadline, self.client.execute(request)).await {
            Ok(Ok(answered)) => {
                timings::mark(Mark::Answered);
                remote_addr = answered.remote_addr();
                Response::read(answered, deadline).await
            }
            Ok(Err(error)) => Err(SendError::from_client(&error, timings::phase())),
            Err(_) => Err(SendError::timed_out(timeout, timings::phase())),
        };
        Exchange { result, timings: timings::timings(), remote_addr }
    }
}
