//! From an origin to a connection that is ready for a request: look-up, TCP, TLS, HTTP.
//!
//! Guarantees: only addresses that the policy has judged just now are connected to; all of it together takes no longer than
//! the connect time-out; every socket has its [`Place`]. Of several addresses each gets a head start before the next one is
//! tried beside it, and the first that answers is taken.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::failure::{ErrorClass, SendError};
use super::http1::Http1;
use super::http2::Http2;
use super::identity::ClientIdentity;
use super::policy::Policy;
use super::pool::{Pool, Ready};
use super::proxy::EgressProxy;
use super::resolver::{JudgingResolver, LookupFailure};
use super::room::{Place, Room};
use super::timings::{Phase, Progress};
use super::tls::{self, ALPN_H2, Tls};
use super::url::Origin;
use super::wire::{Protocol, Stream, Wire};
use crate::telemetry::metrics::metrics;

/// How long connecting may take: look-up, TCP over all addresses, and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an address is tried alone before the next one is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

pub(super) struct Connector {
    pub(super) policy: Arc<Policy>,
    pub(super) resolver: JudgingResolver,
    pub(super) tls: Tls,
    pub(super) proxy: Option<EgressProxy>,
    pub(super) timeout: Duration,
}

impl Connector {
    /// A new connection. Waiting for a place among all connections doesn't count as connecting.
    pub(super) async fn connect(
        &self,
        pool: &Pool,
        origin: &Origin,
        identity: Option<&Arc<ClientIdentity>>,
        progress: &mut Progress,
    ) -> Result<Ready, SendError> {
        let began = Instant::now();
        let targets = self.targets(origin, progress).await?;
        let left = self.timeout.saturating_sub(began.elapsed());
        progress.enter(Phase::Room);
        let place = pool.place().await.ok_or_else(|| SendError::not_connected_in_time(Phase::Room))?;
        progress.enter(Phase::Connect);
        let establish = async {
            let dialled = match &self.proxy {
                Some(proxy) => through(proxy, targets, place).await?,
                None => self.directly(targets, place, pool).await?,
            };
            self.establish(dialled, origin, identity, progress).await
        };
        match timeout(left, establish).await {
            Ok(made) => made,
            Err(_) => Err(SendError::not_connected_in_time(progress.phase())),
        }
    }

    async fn targets(&self, origin: &Origin, progress: &mut Progress) -> Result<Vec<SocketAddr>, SendError> {
        if let Some(addr) = origin.literal() {
            self.policy.judge(addr)?;
            return Ok(vec![addr]);
        }
        progress.enter(Phase::Lookup);
        let found = timeout(self.timeout, self.resolver.resolve(&origin.host, origin.port)).await;
        Ok(found.unwrap_or(Err(LookupFailure::TimedOut))?)
    }

    /// Through a proxy the same can't be told: where it comes out is not ours to see.
    async fn directly(
        &self,
        targets: Vec<SocketAddr>,
        place: Place,
        pool: &Pool,
    ) -> Result<Dialled, SendError> {
        let connect = |error| SendError::not_connected(&error);
        let dialled = race(targets, place, &pool.room).await.map_err(connect)?;
        self.policy.judge_reached(dialled.tcp.local_addr().map_err(connect)?, dialled.peer)?;
        Ok(dialled)
    }

    async fn establish(
        &self,
        Dialled { tcp, peer, place }: Dialled,
        origin: &Origin,
        identity: Option<&Arc<ClientIdentity>>,
        progress: &mut Progress,
    ) -> Result<Ready, SendError> {
        // Requests are small and should leave at once. A socket that can't is used all the same.
        let _ = tcp.set_nodelay(true);
        let (stream, protocol) = if origin.https {
            progress.enter(Phase::Tls);
            self.shake_hands(tcp, origin, identity).await?
        } else {
            (Stream::Plain(tcp), Protocol::Http1)
        };
        let wire = Wire::new(stream, protocol, place);
        let meter = Arc::clone(wire.meter());
        let made = match protocol {
            Protocol::Http1 => Http1::new(wire, peer).await.map(Ready::Http1),
            Protocol::Http2 => Http2::new(wire, peer).await.map(Ready::Http2),
        };
        let made = made.map_err(|error| SendError::no_response(&error, &meter))?;
        metrics().egress_connections_opened.increment(1);
        progress.enter(Phase::Answer);
        Ok(made)
    }

    async fn shake_hands(
        &self,
        tcp: TcpStream,
        origin: &Origin,
        identity: Option<&Arc<ClientIdentity>>,
    ) -> Result<(Stream, Protocol), SendError> {
        let name = ServerName::try_from(String::from(&*origin.host)).map_err(|_| {
            SendError::new(ErrorClass::TlsWrongName, "no TLS certificate can name the URL's host")
        })?;
        let connector = self.tls.connector(identity).map_err(|error| tls::explain(&error))?;
        let tls = connector.connect(name, tcp).await.map_err(|error| SendError::no_tls(&error))?;
        let protocol = match tls.get_ref().1.alpn_protocol() {
            Some(ALPN_H2) => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Ok((Stream::Tls(Box::new(tls)), protocol))
    }
}

struct Dialled {
    tcp: TcpStream,
    peer: SocketAddr,
    place: Place,
}

/// The first of the addresses that the proxy can reach.
async fn through(proxy: &EgressProxy, targets: Vec<SocketAddr>, place: Place) -> Result<Dialled, SendError> {
    let mut unreached = None;
    for peer in targets {
        match proxy.reach(peer).await {
            Ok(tcp) => return Ok(Dialled { tcp, peer, place }),
            Err(failure) if failure.is_about_the_target() => unreached = Some(failure),
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(unreached.map_or_else(|| LookupFailure::NoAddress.into(), SendError::from))
}

/// The first of the addresses that answers. Tries beside the first one need a place of their own that is free at once.
async fn race(targets: Vec<SocketAddr>, place: Place, room: &Room) -> io::Result<Dialled> {
    let mut targets = targets.into_iter();
    let mut spare = Some(place);
    let mut trying = JoinSet::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if targets.len() > 0
            && let Some(place) = spare.take().or_else(|| room.try_enter())
            && let Some(peer) = targets.next()
        {
            trying.spawn(async move { (TcpStream::connect(peer).await, peer, place) });
        }
        tokio::select! {
            tried = trying.join_next() => match tried {
                Some(Ok((Ok(tcp), peer, place))) => return Ok(Dialled { tcp, peer, place }),
                Some(Ok((Err(error), _, place))) => (failure, spare) = (error, Some(place)),
                Some(Err(_)) => {}
                None => return Err(failure),
            },
            () = sleep(HEAD_START), if targets.len() > 0 => {}
        }
    }
}
