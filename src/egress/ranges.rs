//! Which IP addresses are public: the tables, and nothing else.
//!
//! IPv4 is a list of what is denied, since most of it is public. IPv6 is a list of what is allowed
//! (`2000::/3`, the only global unicast space handed out so far) less the holes in it, so that
//! whatever is standardised next stays refused until somebody has looked at it.
//!
//! Operators' own lists and the service's own listeners are not known here: see `policy`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of IPv4 addresses: network, prefix length.
type V4 = (Ipv4Addr, u32);
/// A range of IPv6 addresses: network, prefix length.
type V6 = (Ipv6Addr, u32);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u32) -> V4 {
    (Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u32) -> V6 {
    (Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// Denied IPv4 ranges, most often seen first.
pub(super) const DENIED_V4: &[V4] = &[
    v4(127, 0, 0, 0, 8),      // loopback
    v4(10, 0, 0, 0, 8),       // private
    v4(192, 168, 0, 0, 16),   // private
    v4(172, 16, 0, 0, 12),    // private
    v4(169, 254, 0, 0, 16),   // link-local, cloud metadata
    v4(100, 64, 0, 0, 10),    // carrier-grade NAT, also metadata at one cloud
    v4(0, 0, 0, 0, 8),        // "this network": connects to the machine itself on Linux
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, broadcast
    v4(192, 0, 0, 0, 24),     // protocol assignments, metadata at one cloud
    v4(192, 0, 2, 0, 24),     // documentation
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(198, 18, 0, 0, 15),    // benchmarks
    v4(192, 31, 196, 0, 24),  // AS112
    v4(192, 52, 193, 0, 24),  // AMT
    v4(192, 88, 99, 0, 24),   // 6to4 relays
    v4(192, 175, 48, 0, 24),  // AS112
    v4(168, 63, 129, 16, 32), // Azure WireServer: looks public, is the host's own agent
];

/// The one IPv6 range that is allowed.
const GLOBAL_UNICAST: V6 = v6(0x2000, 0, 0, 3);

/// Holes in [`GLOBAL_UNICAST`].
pub(super) const DENIED_V6: &[V6] = &[
    v6(0x2001, 0, 0, 23),         // protocol assignments, Teredo among them
    v6(0x2001, 0xdb8, 0, 32),     // documentation
    v6(0x2002, 0, 0, 16),         // 6to4: carries any IPv4 address
    v6(0x2620, 0x4f, 0x8000, 48), // AS112
    v6(0x3fff, 0, 0, 20),         // documentation
];

/// NAT64's well-known range: what is sent there arrives at the IPv4 address in the last 32 bits.
const NAT64: V6 = v6(0x64, 0xff9b, 0, 96);

/// Whether the public internet is behind an address. `ip` must be canonical (no IPv4-mapped IPv6).
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !DENIED_V4.iter().any(|range| contains_v4(range, ip)),
        IpAddr::V6(ip) => {
            contains_v6(&GLOBAL_UNICAST, ip)
                && !DENIED_V6.iter().any(|range| contains_v6(range, ip))
                && !is_isatap(ip)
        }
    }
}

/// The IPv4 address that a NAT64 gateway would send to.
pub(super) fn nat64_target(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V6(ip) if contains_v6(&NAT64, ip) => {
            let [.., a, b, c, d] = ip.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

/// ISATAP tunnels to the IPv4 address in the last 32 bits, under any prefix.
fn is_isatap(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    // 0200 is the same with the "globally unique" bit set.
    matches!(segments[4], 0 | 0x0200) && segments[5] == 0x5efe
}

fn contains_v4((network, prefix): &V4, ip: Ipv4Addr) -> bool {
    (network.to_bits() ^ ip.to_bits()) >> (u32::BITS - prefix) == 0
}

fn contains_v6((network, prefix): &V6, ip: Ipv6Addr) -> bool {
    (network.to_bits() ^ ip.to_bits()) >> (u128::BITS - prefix) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_public_text(text: &str) -> bool {
        is_public(text.parse().expect("an address"))
    }

    #[test]
    fn ranges_end_where_they_should() {
        for (last_denied, first_public) in [
            ("0.255.255.255", "1.0.0.0"),
            ("10.255.255.255", "11.0.0.0"),
            ("100.127.255.255", "100.128.0.0"),
            ("127.255.255.255", "128.0.0.0"),
            ("169.254.255.255", "169.255.0.0"),
            ("172.31.255.255", "172.32.0.0"),
            ("192.168.255.255", "192.169.0.0"),
            ("198.19.255.255", "198.20.0.0"),
            ("168.63.129.16", "168.63.129.17"),
            ("2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"),
            ("2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"),
            ("3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"),
        ] {
            assert!(!is_public_text(last_denied), "{last_denied}");
            assert!(is_public_text(first_public), "{first_public}");
        }
        for (last_public, first_denied) in [
            ("9.255.255.255", "10.0.0.0"),
            ("100.63.255.255", "100.64.0.0"),
            ("172.15.255.255", "172.16.0.0"),
            ("223.255.255.255", "224.0.0.0"),
            ("168.63.129.15", "168.63.129.16"),
            ("2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001::"),
            ("3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff::"),
        ] {
            assert!(is_public_text(last_public), "{last_public}");
            assert!(!is_public_text(first_denied), "{first_denied}");
        }
        assert!(!is_public_text("1fff:ffff::"));
        assert!(!is_public_text("4000::"));
    }

    #[test]
    fn isatap_is_denied_under_any_prefix() {
        assert!(!is_public_text("2a00:1450:4001:81c:0:5efe:808:808"));
        assert!(!is_public_text("2a00:1450:4001:81c:200:5efe:808:808"));
        assert!(is_public_text("2a00:1450:4001:81c:1:5efe:808:808"));
    }

    #[test]
    fn nat64_shows_its_target() {
        let ip = "64:ff9b::7f00:1".parse().expect("an address");
        assert_eq!(nat64_target(ip), Some(Ipv4Addr::LOCALHOST));
        let ip = "64:ff9b:0:1::7f00:1".parse().expect("an address");
        assert_eq!(nat64_target(ip), None);
    }
}
