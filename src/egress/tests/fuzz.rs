//! Fuzz: whatever is accepted, every layer below connects to exactly what was judged.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use hickory_resolver::proto::rr::Name as DnsName;
use hyper::Uri;
use proptest::prelude::*;
use url::Url;

use super::{HTTP_TOO, public_policy};
use crate::egress::{
    CustomHeaders, MAX_CUSTOM_HEADER_BYTES, MAX_CUSTOM_HEADERS, MAX_URL_BYTES, Policy, PolicySettings,
};
use crate::egress::{is_forbidden, names, ports};
use crate::types::hostile::{cases, text};

const URLS: &[&str] = &[
    "https://example.com/hook?x=1",
    "https://hooks.example.co.uk:8443/a/b?c=d&e=%20f",
    "http://10.1.2.3:8080/",
    "https://10.9.0.1/",
    "https://127.0.0.1:33060/hook",
    "https://8.8.8.8/",
    "https://0x7f.1/",
    "https://2130706433/",
    "https://0251.0376.0251.0376/",
    "https://[2606:4700:4700::1111]:8443/",
    "https://[::ffff:8.8.8.8]/",
    "https://[64:ff9b::808:808]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2a00:1450::5efe:7f00:1]/",
    "https://user:pw@example.com/#top",
    "https://bücher.example/straße?q=ü",
    "https://xn--bcher-kva.example/",
    "https://①②⑦.⓪.⓪.①/",
    "HTTPS://METADATA.google.internal./",
];
const PIECES: &[&str] = &[
    "://",
    "//",
    "/",
    "\\",
    "@",
    ":",
    "#",
    "?",
    "%",
    "%2e",
    "%40",
    "[",
    "]",
    ".",
    "。",
    "..",
    "-",
    "_",
    "0x",
    "0",
    "1",
    "127.0.0.1",
    "169.254.169.254",
    "::1",
    "localhost",
    ".local",
    "xn--",
    "①",
    "é",
    "ß",
    "\u{ad}",
    "\u{200d}",
    "\u{130}",
    "\t",
    " ",
    "|",
    "^",
    "`",
    "{",
    "\"",
    ":443",
    ":80",
    ":0",
    ":65536",
    ":022",
    ":6379",
    "http",
    "https",
    "ftp",
];

static POLICIES: LazyLock<[Policy; 2]> = LazyLock::new(|| {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a range")).collect();
    let addrs = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect();
    let opened = PolicySettings {
        allow: nets(&["10.0.0.0/8", "64:ff9b::/96"]),
        deny: nets(&["10.9.0.0/16", "8.8.8.8/32"]),
        allow_exact: addrs(&["127.0.0.1:33060"]),
        own_listeners: addrs(&["10.0.0.9:8080", "[::]:9090"]),
        allow_http: true,
    };
    [public_policy(), Policy::new(opened)]
});

fn check(policy: &Policy, raw: &str) -> Result<(), TestCaseError> {
    let Ok(url) = policy.parse_url(raw, HTTP_TOO) else { return Ok(()) };
    let parsed = Url::parse(raw).expect("accepted");
    let (origin, literal) = (url.origin(), url.origin().literal());
    prop_assert_eq!(url.as_str(), raw);
    prop_assert!(matches!(parsed.scheme(), "http" | "https") && parsed.as_str().len() <= MAX_URL_BYTES);
    prop_assert!(parsed.username().is_empty() && parsed.password().is_none() && parsed.fragment().is_none());
    prop_assert!(ports::is_allowed(origin.port) || literal.is_some_and(|addr| policy.allows_exactly(addr)));

    // What is sent, read again, is the same target.
    let again = policy.parse_url(parsed.as_str(), HTTP_TOO);
    let again = again.map_err(|refusal| TestCaseError::fail(format!("{parsed} was refused: {refusal}")))?;
    prop_assert_eq!((again.origin(), again.absolute()), (origin, url.absolute()));

    // The request says no other host and port than the connection is made to.
    for authority in [url.absolute().authority().map(|it| it.as_str()), url.host_header().to_str().ok()] {
        let said: Uri =
            format!("{}://{}/", parsed.scheme(), authority.unwrap_or_default()).parse().expect("a Uri");
        let host = said.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = said.port_u16().unwrap_or(if origin.https { 443 } else { 80 });
        prop_assert_eq!((host.parse::<IpAddr>().ok(), port), (literal.map(|addr| addr.ip()), origin.port));
        prop_assert!(literal.is_some() || host == &*origin.host);
    }
    prop_assert!(url.path().authority().is_none() && url.path().path().starts_with('/'));
    let host = &*origin.host;
    match (literal, host.parse::<IpAddr>()) {
        (Some(addr), Ok(ip)) => {
            prop_assert_eq!(addr, SocketAddr::new(ip, origin.port));
            prop_assert!(policy.judge(addr).is_ok());
        }
        (None, Err(_)) => {
            prop_assert!(names::judge(host).is_ok() && DnsName::from_ascii(host).is_ok());
            // Nor is it an address for a resolver that reads them as C does: 127.1, 0x7f000001.
            let last = host.rsplit('.').next().unwrap_or_default();
            let is_hex =
                last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
            prop_assert!(!is_hex && !last.bytes().all(|byte| byte.is_ascii_digit()));
        }
        (judged, connected) => {
            prop_assert!(false, "{:?} was judged, {:?} would be connected to", judged, connected);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn an_accepted_url_leads_where_it_was_judged_to_lead(raw in text(URLS, PIECES)) {
        for policy in &*POLICIES {
            check(policy, &raw)?;
        }
    }

    #[test]
    fn a_verdict_is_the_same_however_an_address_is_written(near in prop::sample::select(&[
        0x7f00_0001_u32, 0x0a00_0000, 0x0a09_0000, 0x0a00_0009, 0x0808_0808, 0xa9fe_a9fe, 0, u32::MAX,
    ][..]), flipped in 0..=32_u32, port in prop_oneof![Just(8080), Just(9090), Just(33_060), any::<u16>()]) {
        let v4 = std::net::Ipv4Addr::from_bits(near ^ 1_u32.checked_shl(flipped).unwrap_or(0));
        for policy in &*POLICIES {
            let judge = |ip: IpAddr| policy.judge(SocketAddr::new(ip, port));
            prop_assert_eq!(judge(v4.into()), judge(v4.to_ipv6_mapped().into()));
        }
        let [_, opened] = &*POLICIES;
        let is_own = v4.octets() == [10, 0, 0, 9] && port == 8080 || port == 9090 && (v4.is_loopback() || v4.is_unspecified());
        if is_own || v4.octets()[..2] == [10, 9] || v4.octets() == [8; 4] {
            prop_assert!(opened.judge(SocketAddr::new(v4.into(), port)).is_err());
        }
    }

    #[test]
    fn accepted_headers_are_few_small_visible_and_harmless(pairs in prop::collection::vec((
        text(&["X-Team", "Authorization", "Host", "webhook-id", "Content-Length"], &["-", "_", " ", ":", "\r\n", "é", "x-forwarded-", "x-amz-"]),
        text(&["Bearer s3cret", "a, b;c=\"d\""], &[" ", "\t", "\r\nX-Evil: 1", "\0", "é", "\u{7f}"]),
    ), 0..24)) {
        let given = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        if let Ok(headers) = CustomHeaders::parse(given, &["x-signature"]) {
            let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            prop_assert!(headers.iter().count() == pairs.len() && pairs.len() <= MAX_CUSTOM_HEADERS);
            prop_assert!(bytes <= MAX_CUSTOM_HEADER_BYTES);
            for (name, value) in headers.iter() {
                prop_assert!(!is_forbidden(name) && name != "x-signature");
                prop_assert!(value.is_sensitive() && value.to_str().is_ok_and(|text| !text.contains(['\r', '\n', '\0'])));
            }
        }
    }
}
