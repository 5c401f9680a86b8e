//! Names to addresses, every one of them judged.
//!
//! Guarantees: one forbidden answer refuses them all (a name that mixes public and private answers is an
//! attack or a mistake, and we can't tell which answer was meant); what is handed back is exactly what
//! gets connected to; answers are kept no longer than their TTL and judged again at every connect. Only
//! DNS is asked: no hosts file, no search domains.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::config::{LookupIpStrategy, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name as DnsName;

use super::failure::is_our_lack;
use super::policy::Policy;

/// How long a look-up may take, all servers and retries together.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Names kept.
const CACHE_ENTRIES: u64 = 8_192;
/// However long the TTL.
const MAX_POSITIVE_TTL: Duration = Duration::from_secs(300);
/// Shorter than the first retry of a delivery (10 s), so that a name that was healed is seen to be.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// Addresses tried of one name; all are judged.
const MAX_ADDRESSES: usize = 8;

/// Whom to ask.
#[derive(Debug, Clone, Default)]
pub enum NameServers {
    /// What the operating system is configured with; a server on this machine if that can't be read.
    #[default]
    System,
    /// Exactly these.
    Fixed(Vec<SocketAddr>),
}

/// Why a name gave no address to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookupFailure {
    #[error("an address of the name is not allowed")]
    Refused,
    #[error("the name has no address")]
    NoAddress,
    #[error("the name could not be looked up")]
    Failed,
    #[error("no descriptor or memory for the look-up")]
    Local,
    #[error("the look-up took too long")]
    TimedOut,
}

/// See the module's documentation.
pub(super) struct JudgingResolver {
    policy: Arc<Policy>,
    dns: TokioResolver,
    timeout: Duration,
}

impl JudgingResolver {
    pub(super) fn new(
        policy: Arc<Policy>,
        servers: NameServers,
        timeout: Duration,
    ) -> Result<JudgingResolver, NetError> {
        let mut builder = match servers {
            NameServers::Fixed(servers) => from_servers(servers),
            NameServers::System => TokioResolver::builder_tokio().unwrap_or_else(|error| {
                tracing::warn!(%error, "no DNS configuration found: asking a name server on this machine");
                from_servers(vec![SocketAddr::from(([127, 0, 0, 1], 53))])
            }),
        };
        configure(builder.options_mut());
        Ok(JudgingResolver { policy, dns: builder.build()?, timeout })
    }

    /// Addresses that may be connected to, in the order to try them.
    pub(super) async fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, LookupFailure> {
        let found = self.look_up(name).await?;
        self.judge(found, port)
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, LookupFailure> {
        let mut name = DnsName::from_ascii(name).map_err(|_| LookupFailure::Failed)?;
        // Absolute: a search domain must not turn a stranger's name into one of ours.
        name.set_fqdn(true);
        match tokio::time::timeout(self.timeout, self.dns.lookup_ip(name)).await {
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(error)) if error.is_no_records_found() => Err(LookupFailure::NoAddress),
            Ok(Err(NetError::Io(error))) if is_our_lack(&error) => Err(LookupFailure::Local),
            Ok(Err(error)) => {
                tracing::debug!(%error, "DNS look-up failed");
                Err(LookupFailure::Failed)
            }
            Err(_) => Err(LookupFailure::TimedOut),
        }
    }

    fn judge(&self, found: Vec<IpAddr>, port: u16) -> Result<Vec<SocketAddr>, LookupFailure> {
        let addrs: Vec<SocketAddr> = found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        if addrs.is_empty() {
            return Err(LookupFailure::NoAddress);
        }
        if addrs.iter().any(|&addr| self.policy.judge(addr).is_err()) {
            return Err(LookupFailure::Refused);
        }
        Ok(families_in_turn(addrs))
    }
}

/// At most [`MAX_ADDRESSES`], IPv4 and IPv6 in turn, so that a family that doesn't work here costs one try.
fn families_in_turn(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (v4, v6): (Vec<_>, Vec<_>) = addrs.into_iter().partition(SocketAddr::is_ipv4);
    let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
    let pairs = std::iter::from_fn(|| match (v4.next(), v6.next()) {
        (None, None) => None,
        pair => Some([pair.0, pair.1]),
    });
    pairs.flatten().flatten().take(MAX_ADDRESSES).collect()
}

fn from_servers(servers: Vec<SocketAddr>) -> hickory_resolver::ResolverBuilder<TokioRuntimeProvider> {
    let servers = servers
        .into_iter()
        .map(|server| {
            let on_port = |mut connection: ConnectionConfig| {
                connection.port = server.port();
                connection
            };
            let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
            NameServerConfig::new(server.ip(), true, connections)
        })
        .collect();
    TokioResolver::builder_with_config(
        ResolverConfig::from_name_servers(servers),
        TokioRuntimeProvider::default(),
    )
}

fn configure(options: &mut ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = CACHE_ENTRIES;
    options.positive_max_ttl = Some(MAX_POSITIVE_TTL);
    options.negative_max_ttl = Some(MAX_NEGATIVE_TTL);
}
