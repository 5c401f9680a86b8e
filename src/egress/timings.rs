//! How long the phases of one exchange took, and which one is under way.
//!
//! reqwest shows neither, so the pieces of the connection that are ours leave marks: the resolver, a layer
//! around the connector, and the TLS session cache, which rustls asks first thing in a handshake. The
//! marks live in a task-local around the request, which is what ties a connection attempt to the request
//! that started it: hyper polls a new connection inside the task that asked for it, and if another
//! connection becomes free first, it finishes the new one in a task of its own, where there are no
//! marks to leave.
//!
//! A phase is thus reported only if this request waited for it to its end: a request that took a
//! pooled connection has neither look-up nor connect nor TLS. The first byte stands for the whole
//! response head, since hyper doesn't show less.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use tokio::time::Instant;

tokio::task_local! {
    static MARKS: Marks;
}

/// Milliseconds, rounded down. `None`: the phase didn't occur, or not to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    pub dns_ms: Option<u32>,
    pub connect_ms: Option<u32>,
    pub tls_ms: Option<u32>,
    /// From the connection being ready to the end of the response head.
    pub first_byte_ms: Option<u32>,
    pub total_ms: u32,
}

/// What a request is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Lookup,
    Connect,
    Tls,
    Answer,
}

#[derive(Clone, Copy)]
pub(super) enum Mark {
    ConnectBegan,
    LookupBegan,
    LookupEnded,
    TlsBegan,
    Connected,
    Answered,
}

const MARK_COUNT: usize = 6;

/// The marks of one request.
pub(super) struct Marks {
    /// The URL's port, which the resolver isn't told but needs for its verdict.
    port: u16,
    began: Instant,
    at: [Cell<Option<Instant>>; MARK_COUNT],
}

impl Marks {
    pub(super) fn new(port: u16) -> Marks {
        Marks { port, began: Instant::now(), at: Default::default() }
    }

    fn get(&self, mark: Mark) -> Option<Instant> {
        self.at[mark as usize].get()
    }

    fn phase(&self) -> Phase {
        if self.get(Mark::ConnectBegan).is_none() || self.get(Mark::Connected).is_some() {
            Phase::Answer
        } else if self.get(Mark::TlsBegan).is_some() {
            Phase::Tls
        } else if self.get(Mark::LookupBegan).is_some() && self.get(Mark::LookupEnded).is_none() {
            Phase::Lookup
        } else {
            Phase::Connect
        }
    }

    fn timings(&self) -> Timings {
        let connected = self.get(Mark::Connected);
        let tls_began = self.get(Mark::TlsBegan);
        let lookup_ended = self.get(Mark::LookupEnded);
        let tcp_began = lookup_ended.or(self.get(Mark::ConnectBegan));
        // A look-up that ended counts even if the connection then failed, but not if a pooled
        // connection was used after all.
        let own_connection = connected.is_some() || self.get(Mark::Answered).is_none();
        let own = |from: Option<Instant>, to: Option<Instant>| span_ms(from, to).filter(|_| own_connection);
        Timings {
            dns_ms: own(self.get(Mark::LookupBegan), lookup_ended),
            connect_ms: own(tcp_began, tls_began.or(connected)),
            tls_ms: own(tls_began, connected),
            first_byte_ms: span_ms(connected.or(Some(self.began)), self.get(Mark::Answered)),
            total_ms: as_ms(self.began.elapsed()),
        }
    }
}

/// Runs one request with its marks around it.
pub(super) async fn with_marks<T>(marks: Marks, request: impl Future<Output = T>) -> T {
    MARKS.scope(marks, request).await
}

/// Leaves a mark, the first time only, if a request is waiting for this.
pub(super) fn mark(mark: Mark) {
    // An error means that no request waits for this any more.
    let _ = MARKS.try_with(|marks| {
        let cell = &marks.at[mark as usize];
        if cell.get().is_none() {
            cell.set(Some(Instant::now()));
        }
    });
}

/// The port of the request that a look-up is for.
pub(super) fn target_port() -> Option<u16> {
    MARKS.try_with(|marks| marks.port).ok()
}

pub(super) fn phase() -> Phase {
    MARKS.try_with(Marks::phase).unwrap_or(Phase::Answer)
}

pub(super) fn timings() -> Timings {
    MARKS.try_with(Marks::timings).unwrap_or_default()
}

fn span_ms(from: Option<Instant>, to: Option<Instant>) -> Option<u32> {
    Some(as_ms(to?.saturating_duration_since(from?)))
}

fn as_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Wraps reqwest's connector to mark where connecting begins and ends.
#[derive(Clone)]
pub(super) struct MarkConnects;

#[derive(Clone)]
pub(super) struct MarkedConnector<S>(S);

impl<S> tower::Layer<S> for MarkConnects {
    type Service = MarkedConnector<S>;

    fn layer(&self, inner: S) -> MarkedConnector<S> {
        MarkedConnector(inner)
    }
}

impl<S, Target> tower::Service<Target> for MarkedConnector<S>
where
    S: tower::Service<Target>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        mark(Mark::ConnectBegan);
        let connecting = self.0.call(target);
        Box::pin(async move {
            let result = connecting.await;
            if result.is_ok() {
                mark(Mark::Connected);
            }
            result
        })
    }
}

/// rustls' own session cache, which marks where a handshake begins: it is asked for a ticket before the first
/// byte is sent, in the task that waits for the connection.
#[derive(Debug)]
pub(super) struct MarkHandshakes(pub(super) ClientSessionMemoryCache);

impl ClientSessionStore for MarkHandshakes {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.0.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        mark(Mark::TlsBegan);
        self.0.take_tls13_ticket(server_name)
    }
}
