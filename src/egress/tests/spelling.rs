//! Property: no address inside a denied range is accepted, whatever its spelling; and whatever is accepted can be
//! sent to and leads to no denied address.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::urls::{REFUSED_HOSTS, around};
use super::{HTTP_TOO, public_policy};
use crate::egress::ranges::{DENIED_V4, DENIED_V6};

fn denied_v4() -> impl Strategy<Value = Ipv4Addr> {
    (select(DENIED_V4), any::<u32>()).prop_map(|((network, prefix), bits)| {
        let host_mask = u32::MAX.checked_shr(prefix).unwrap_or(0);
        Ipv4Addr::from_bits(network.to_bits() | (bits & host_mask))
    })
}

fn denied_v6() -> impl Strategy<Value = Ipv6Addr> {
    let in_hole = (select(DENIED_V6), any::<u128>()).prop_map(|((network, prefix), bits)| {
        let host_mask = u128::MAX.checked_shr(prefix).unwrap_or(0);
        Ipv6Addr::from_bits(network.to_bits() | (bits & host_mask))
    });
    let not_global = any::<u128>()
        .prop_map(Ipv6Addr::from_bits)
        .prop_filter("outside 2000::/3, and no mapped IPv4", |ip| {
            ip.segments()[0] >> 13 != 1 && ip.to_ipv4_mapped().is_none()
        });
    prop_oneof![in_hole, not_global]
}

/// One part of a dotted address, in base 8, 10 or 16, with zeros before it.
fn part(value: u32, base: u8, zeros: usize) -> String {
    let zeros = "0".repeat(zeros);
    match base {
        0 => format!("0{zeros}{value:o}"),
        1 => format!("0x{zeros}{value:x}"),
        2 => format!("0X{zeros}{value:X}"),
        _ => value.to_string(),
    }
}

fn restyle(text: &str, digits: usize, dots: usize) -> String {
    text.chars()
        .map(|c| match (c, digits) {
            ('.', _) => ['.', '。', '．', '｡'][dots],
            ('0', 1) => '⓪',
            ('1'..='9', 1) => char::from_u32('①' as u32 + c as u32 - '1' as u32).expect("a circled digit"),
            ('0'..='9', 2) => char::from_u32('０' as u32 + c as u32 - '0' as u32).expect("a wide digit"),
            ('0'..='9', 3) => char::from_u32('𝟎' as u32 + c as u32 - '0' as u32).expect("a bold digit"),
            (c, _) => c,
        })
        .collect()
}

/// The spellings that URL parsers take for an IPv4 address.
pub(super) fn spelled_v4(ip: Ipv4Addr) -> impl Strategy<Value = String> {
    (1..=4_usize, prop::array::uniform4((0..4_u8, 0..3_usize)), 0..4_usize, 0..4_usize, any::<bool>())
        .prop_map(move |(count, bases, digits, dots, final_dot)| {
            let octets = ip.octets().map(u32::from);
            let mut parts: Vec<u32> = octets[..count - 1].to_vec();
            // The last part holds all that is left.
            parts.push(octets[count - 1..].iter().fold(0, |sum, octet| (sum << 8) | octet));
            let mut text: Vec<String> =
                parts.iter().zip(bases).map(|(&value, (base, zeros))| part(value, base, zeros)).collect();
            if final_dot {
                text.push(String::new());
            }
            restyle(&text.join("."), digits, dots)
        })
}

/// IPv6 addresses that carry an IPv4 address.
fn carrying(ip: Ipv4Addr) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = ip.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    vec![
        ip.to_ipv6_mapped(),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !high, !low),
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x5efe, high, low),
        Ipv6Addr::new(0x2a00, 0x1450, 0x4001, 1, 0x200, 0x5efe, high, low),
    ]
}

fn spelled_v6(ip: Ipv6Addr) -> Vec<String> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let full = format!("{a:04x}:{b:04x}:{c:04x}:{d:04x}:{e:04x}:{f:04x}:{g:04x}:{h:04x}");
    let [.., w, x, y, z] = ip.octets();
    let dotted = format!("{a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x}:{w}.{x}.{y}.{z}");
    vec![ip.to_string(), full.clone(), full.to_uppercase(), dotted]
}

fn assert_refused(host: &str) -> Result<(), TestCaseError> {
    let policy = public_policy();
    for url in [format!("https://{host}/"), format!("http://{host}:8080/x?y")] {
        prop_assert!(policy.parse_url(&url, HTTP_TOO).is_err(), "{} was accepted", url);
    }
    Ok(())
}

proptest! {
    #[test]
    fn denied_v4_is_refused_however_spelled((ip, host) in denied_v4().prop_flat_map(|ip| (Just(ip), spelled_v4(ip)))) {
        // The generator must not test nonsense only: plain spellings are understood as that address.
        if host.is_ascii() {
            let parsed = url::Url::parse(&format!("https://{host}/")).expect("a URL");
            prop_assert_eq!(parsed.host(), Some(url::Host::Ipv4(ip)));
        }
        assert_refused(&host)?;
        prop_assert!(public_policy().judge(SocketAddr::new(IpAddr::V4(ip), 443)).is_err());
    }

    #[test]
    fn denied_v4_inside_v6_is_refused(ip in denied_v4()) {
        for ip in carrying(ip) {
            for host in spelled_v6(ip) {
                assert_refused(&format!("[{host}]"))?;
            }
            prop_assert!(public_policy().judge(SocketAddr::new(IpAddr::V6(ip), 443)).is_err());
        }
    }

    #[test]
    fn denied_v6_is_refused_however_spelled(ip in denied_v6()) {
        for host in spelled_v6(ip) {
            assert_refused(&format!("[{host}]"))?;
        }
        prop_assert!(public_policy().judge(SocketAddr::new(IpAddr::V6(ip), 443)).is_err());
    }

    #[test]
    fn what_is_accepted_can_be_sent_and_is_not_denied(
        scheme in select(&["https://", "http://", "HTTPS://", "https:/", "//", "ftp://", ""][..]),
        rest in prop::collection::vec(select(&[
            "example.com", "127.0.0.1", "8.8.8.8", "[::1]", "localhost", "0x7f", "1", "0", ".", "@", ":", "/", "\\", "?",
            "#", "%", "%00", "%2e", "[", "]", "a", "-", "_", "é", "①", "。", "\t", " ", "\u{ad}", "443", "22", "|", "\"", "<", "{", "^", "`",
        ][..]), 0..8),
        any_text in "\\PC{0,8}",
    ) {
        let policy = public_policy();
        for raw in [format!("{scheme}{}", rest.concat()), format!("{scheme}{}{any_text}", rest.concat())] {
            if let Ok(url) = policy.parse_url(&raw, HTTP_TOO) {
                prop_assert_eq!(url.as_str(), raw.as_str());
                prop_assert!(url.origin().literal().is_none_or(|addr| policy.judge(addr).is_ok()));
                prop_assert!(!url.host_header().as_bytes().contains(&b'@'));
            }
        }
    }
}

/// Generated spellings that the test below counts.
const SPELLINGS: usize = 10_000;

#[test]
fn ten_thousand_spellings_and_the_whole_table_are_refused() {
    let mut runner = TestRunner::deterministic();
    let spelled = prop_oneof![
        denied_v4().prop_flat_map(spelled_v4),
        denied_v4()
            .prop_map(carrying)
            .prop_flat_map(select)
            .prop_map(spelled_v6)
            .prop_flat_map(select)
            .prop_map(|host| format!("[{host}]")),
        denied_v6().prop_map(spelled_v6).prop_flat_map(select).prop_map(|host| format!("[{host}]")),
    ];
    let generated = (0..SPELLINGS).map(|_| spelled.new_tree(&mut runner).expect("a spelling").current());
    let hosts: HashSet<String> = generated.chain(REFUSED_HOSTS.iter().map(|&host| host.to_owned())).collect();
    let policy = public_policy();
    let tried: Vec<String> = hosts.iter().flat_map(|host| around(host)).collect();
    let accepted: Vec<&String> = tried.iter().filter(|url| policy.parse_url(url, HTTP_TOO).is_ok()).collect();
    println!(
        "refused {} of {} URLs, with {} different hosts",
        tried.len() - accepted.len(),
        tried.len(),
        hosts.len()
    );
    assert_eq!(accepted, Vec::<&String>::new());
    assert!(hosts.len() > SPELLINGS * 9 / 10, "the generator repeats itself");
}
