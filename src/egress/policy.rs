//! The one egress policy: may Posthaste send there?
//!
//! Pure, built once from the settings, and asked by everything that ends in a request to a tenant's
//! URL: when an endpoint is created, changed, tested and replayed, and again at every single attempt
//! for the address that is about to be connected to.
//!
//! Order of the verdict, first match wins:
//!
//! 1. one of our own listeners: refused, whatever the operator allows (of one on every address, what is not loopback
//!    is seen when it is connected to, before anything is sent);
//! 2. the operator's deny list: refused;
//! 3. an exact address that the program itself allows (the demo's receiver): allowed;
//! 4. the operator's allow list: allowed (behind a NAT64 range the IPv4 address within is judged too);
//! 5. the tables of `ranges`: allowed if public.
//!
//! A refusal carries no reason on purpose: whoever probes our network learns one sentence.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::ranges;
use super::url::{EndpointUrl, UrlRefusal};

/// What the operator decides. The default allows the public internet over https, nothing else.
#[derive(Debug, Clone, Default)]
pub struct PolicySettings {
    /// Ranges that may be sent to although they aren't public.
    pub allow: Vec<IpNet>,
    /// Ranges that may never be sent to, public or not. Stronger than `allow`.
    pub deny: Vec<IpNet>,
    /// Single addresses that may be sent to, on any port number.
    pub allow_exact: Vec<SocketAddr>,
    /// Where this process listens: never a target. An unspecified address (`0.0.0.0`, `::`) stands for
    /// loopback here, and for the machine's other addresses in `Policy::judge_reached`.
    pub own_listeners: Vec<SocketAddr>,
    /// Whether plain http is fine for every format.
    pub allow_http: bool,
}

/// What the endpoint's wire format says about schemes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchemeRule {
    pub format_allows_http: bool,
}

/// The verdict "no", without a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the target address is not allowed")]
pub struct Refused;

/// See the module's documentation.
#[derive(Debug)]
pub struct Policy {
    settings: PolicySettings,
}

impl Policy {
    pub fn new(mut settings: PolicySettings) -> Policy {
        settings.allow = settings.allow.into_iter().map(canonical_net).collect();
        settings.deny = settings.deny.into_iter().map(canonical_net).collect();
        for addr in settings.allow_exact.iter_mut().chain(&mut settings.own_listeners) {
            addr.set_ip(addr.ip().to_canonical());
        }
        Policy { settings }
    }

    /// The only way to an [`EndpointUrl`].
    pub fn parse_url(&self, raw: &str, rule: SchemeRule) -> Result<EndpointUrl, UrlRefusal> {
        EndpointUrl::parse(self, raw, rule)
    }

    /// Judges an address that is about to be connected to.
    pub fn judge(&self, addr: SocketAddr) -> Result<(), Refused> {
        let ip = addr.ip().to_canonical();
        if self.is_own_listener(ip, addr.port()) || self.settings.deny.iter().any(|net| net.contains(&ip)) {
            return Err(Refused);
        }
        if self.allows_exactly(addr) {
            return Ok(());
        }
        if self.settings.allow.iter().any(|net| net.contains(&ip)) {
            return match ranges::nat64_target(ip) {
                Some(inner) => self.judge(SocketAddr::new(IpAddr::V4(inner), addr.port())),
                None => Ok(()),
            };
        }
        if ranges::is_public(ip) { Ok(()) } else { Err(Refused) }
    }

    /// Judges a connection that was made and carries nothing yet. Where both ends have one address it leads to this
    /// machine: on the port of a listener of ours on every address it is that listener.
    pub(super) fn judge_reached(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Refused> {
        let is_here = local.ip().to_canonical() == peer.ip().to_canonical();
        let mut everywhere = self.settings.own_listeners.iter().filter(|own| own.ip().is_unspecified());
        if is_here && everywhere.any(|own| own.port() == peer.port()) { Err(Refused) } else { Ok(()) }
    }

    pub(super) fn allows_http(&self, rule: SchemeRule) -> bool {
        self.settings.allow_http || rule.format_allows_http
    }

    pub(super) fn allows_exactly(&self, addr: SocketAddr) -> bool {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        self.settings.allow_exact.contains(&addr)
    }

    fn is_own_listener(&self, ip: IpAddr, port: u16) -> bool {
        self.settings.own_listeners.iter().any(|own| {
            let same_ip = own.ip() == ip;
            // Connecting to the unspecified address reaches loopback, and listening on it includes loopback.
            let here = ip.is_loopback() || ip.is_unspecified();
            own.port() == port
                && (same_ip
                    || (own.ip().is_unspecified() && here)
                    || (own.ip().is_loopback() && ip.is_unspecified()))
        })
    }
}

/// An operator may write a range of IPv4 addresses in IPv6's mapped form; addresses are judged as IPv4,
/// so such a deny entry would otherwise never match.
fn canonical_net(net: IpNet) -> IpNet {
    const MAPPED_PREFIX: u8 = 96;
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= MAPPED_PREFIX
        && let Some(v4) = Ipv6Addr::to_ipv4_mapped(&v6.network())
        && let Ok(v4) = Ipv4Net::new(v4, v6.prefix_len() - MAPPED_PREFIX)
    {
        return IpNet::V4(v4);
    }
    net
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("a socket address")
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a range")).collect()
    }

    #[test]
    fn the_default_is_the_public_internet() {
        let policy = Policy::new(PolicySettings::default());
        assert_eq!(policy.judge(addr("8.8.8.8:443")), Ok(()));
        assert_eq!(policy.judge(addr("[2a00:1450::1]:443")), Ok(()));
        assert_eq!(policy.judge(addr("[::ffff:8.8.8.8]:443")), Ok(()));
        for no in ["127.0.0.1:443", "[::ffff:127.0.0.1]:443", "[::1]:443", "[64:ff9b::808:808]:443"] {
            assert_eq!(policy.judge(addr(no)), Err(Refused), "{no}");
        }
    }

    #[test]
    fn deny_beats_allow_and_own_listeners_beat_both() {
        let policy = Policy::new(PolicySettings {
            allow: nets(&["10.0.0.0/8", "127.0.0.0/8"]),
            deny: nets(&["10.1.0.0/16", "8.8.8.8/32", "::ffff:9.9.9.0/120"]),
            allow_exact: vec![addr("127.0.0.1:8080"), addr("192.168.0.9:9000")],
            own_listeners: vec![addr("127.0.0.1:8080"), addr("[::]:9090")],
            allow_http: false,
        });
        for yes in ["10.0.0.1:443", "127.0.0.1:8081", "127.0.0.2:8080", "192.168.0.9:9000", "8.8.4.4:443"] {
            assert_eq!(policy.judge(addr(yes)), Ok(()), "{yes}");
        }
        for no in [
            "10.1.0.1:443",
            "8.8.8.8:443",
            "9.9.9.9:443",
            "127.0.0.1:8080",
            "[::ffff:127.0.0.1]:8080",
            "127.0.0.1:9090",
            "192.168.0.9:9001",
        ] {
            assert_eq!(policy.judge(addr(no)), Err(Refused), "{no}");
        }
    }

    #[test]
    fn an_allowed_nat64_range_does_not_lead_inside() {
        let policy =
            Policy::new(PolicySettings { allow: nets(&["64:ff9b::/96"]), ..PolicySettings::default() });
        assert_eq!(policy.judge(addr("[64:ff9b::808:808]:443")), Ok(()));
        assert_eq!(policy.judge(addr("[64:ff9b::7f00:1]:443")), Err(Refused));
    }
}
