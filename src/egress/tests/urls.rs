//! The must-refuse list, a row each, and what must go through.

use super::{HTTP_TOO, HTTPS_ONLY, policy_allowing, public_policy};
use crate::egress::UrlRefusal::{self, *};
use crate::egress::{MAX_URL_BYTES, Policy, PolicySettings};

/// Hosts that must be refused, over https and http, with and without a port.
pub(super) const REFUSED_HOSTS: &[&str] = &[
    // encoded v4
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0X7F000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "00000177.0.0.1",
    "0",
    "0x",
    "00",
    "0.0.0.0",
    "127.0.0.1.",
    "127.1.",
    "①②⑦.⓪.⓪.①",
    "１２７.０.０.１",
    "127。0。0。1",
    "127．0．0．1",
    "127｡0｡0｡1",
    "%31%32%37.0.0.1",
    "%6cocalhost",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "169.254.43518",
    "0251.0376.0251.0376",
    "0xffffffff",
    "4294967295",
    "4294967296",
    "256.0.0.1",
    "127.0.0.0.1",
    // ranges
    "10.0.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    // v6
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::ffff:127.0.0.1]",
    "[::FFFF:7F00:1]",
    "[::ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::8.8.8.8]",
    "[64:ff9b:1::a00:1]",
    "[100::1]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[2001:db8::1]",
    "[2001:10::1]",
    "[2002:7f00:1::]",
    "[2620:4f:8000::1]",
    "[3fff::1]",
    "[4000::1]",
    "[5f00::1]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "[::5efe:7f00:1]",
    "[fe80::5efe:7f00:1]",
    "[2a00:1450::5efe:7f00:1]",
    "[2a00:1450::200:5efe:a00:1]",
    "[::1",
    "::1",
    "[v1.x]",
    "[127.0.0.1]",
    // names
    "localhost",
    "LOCALHOST",
    "localhost.",
    "ⓛocalhost",
    "ｌｏｃａｌｈｏｓｔ",
    "foo.localhost",
    "localhost.localdomain",
    "metadata",
    "metadata.google.internal",
    "metadata.google.internal.",
    "METADATA.GOOGLE.INTERNAL",
    "foo.local",
    "foo.lan",
    "foo.home.arpa",
    "db.default.svc",
    "db.default.svc.cluster.local",
    "intranet",
    "com",
    "example.com.",
    "example..com",
    "a..b.com",
    ".example.com",
    "-bad-.com",
    "bad-.com",
    "-bad.com",
    "a.-.com",
    "ex*mple.com",
    "ex,mple.com",
    "(example).com",
    "1.2.3.example.0x1",
    "xn--.com",
    // what cannot be seen
    "exam\tple.com",
    "exam\nple.com",
    "exam ple.com",
    "exam\u{ad}ple.com",
    "exam\u{200b}ple.com",
    "exam\u{2060}ple.com",
    "exam\u{feff}ple.com",
    "exam\u{202e}ple.com",
    "exam\u{3000}ple.com",
    "exam\u{fe0f}ple.com",
    "local\u{ad}host",
    "127.0.0\u{200b}.1",
    "exam\0ple.com",
    "exam%00ple.com",
    "exam%0d%0aple.com",
    "example.com\\",
    "example.com\\@127.0.0.1",
    // authority
    "user:pw@example.com",
    "user@example.com",
    ":@example.com",
    "@example.com",
    "example.com@127.0.0.1",
    "a@b@127.0.0.1",
    "127.0.0.1\\@example.com",
    "[::1]:443@example.com",
    "",
    "/127.0.0.1",
    "/example.com",
];

/// URLs of a host, in the ways that they are written.
pub(super) fn around(host: &str) -> [String; 5] {
    let of = |before: &str, after: &str| format!("{before}{host}{after}");
    [
        of("https://", "/"),
        of("https://", ""),
        of("HTTPS://", "/hook?x=1"),
        of("http://", "/"),
        of("https://", ":8443/"),
    ]
}

#[test]
fn hosts_that_must_be_refused() {
    let policy = public_policy();
    for url in REFUSED_HOSTS.iter().flat_map(|host| around(host)) {
        assert!(policy.parse_url(&url, HTTP_TOO).is_err(), "{url:?} was accepted");
    }
}

#[test]
fn urls_that_must_be_refused_and_why() {
    let rows: &[(&str, UrlRefusal)] = &[
        // shape
        ("", Malformed),
        ("https://", Malformed),
        ("https:", Malformed),
        ("https:example.com", Malformed),
        ("https:/example.com", Malformed),
        ("https:///127.0.0.1/", Malformed),
        ("https:///example.com/", Malformed),
        ("https://?x=1", Malformed),
        ("http:127.0.0.1", Malformed),
        ("//127.0.0.1/", Malformed),
        ("//example.com/", Malformed),
        ("example.com/hook", Malformed),
        ("/hook", Malformed),
        ("https://example.com:99999/", Malformed),
        ("https://example.com:-1/", Malformed),
        ("https://example.com:80a/", Malformed),
        ("https://example.com:８０８０/", Malformed),
        // schemes
        ("ftp://example.com/", MustBeHttps),
        ("file:///etc/passwd", MustBeHttps),
        ("gopher://127.0.0.1:6379/_", MustBeHttps),
        ("ws://example.com/", MustBeHttps),
        ("unix://example.com/", MustBeHttps),
        ("javascript:alert(1)", Malformed),
        ("javascript://example.com/", MustBeHttps),
        ("data:text/plain,x", Malformed),
        ("http+unix://example.com/", MustBeHttps),
        ("view-source:https://example.com/", MustBeHttps),
        // credentials, fragments
        ("https://user:pw@example.com/", Credentials),
        ("https://example.com@127.0.0.1/", Credentials),
        ("https://a@b@127.0.0.1/", Credentials),
        ("https://[::1]:443@example.com/", Credentials),
        ("https://@example.com/", Credentials),
        ("https://example.com/#", Fragment),
        ("https://example.com/#top", Fragment),
        ("https://example.com#@127.0.0.1/", Fragment),
        // characters
        ("https://127.0.0.1\\@example.com/", ForbiddenCharacter),
        ("https://example.com/a\\b", ForbiddenCharacter),
        ("https://exam\tple.com/", ForbiddenCharacter),
        ("https://example.com/a\r\nX-Evil: 1", ForbiddenCharacter),
        ("https://example.com/a b", ForbiddenCharacter),
        ("ht\ntps://example.com/", ForbiddenCharacter),
        (" https://example.com/", ForbiddenCharacter),
        ("https://example.com/ ", ForbiddenCharacter),
        ("\u{feff}https://example.com/", ForbiddenCharacter),
        ("https://example.com/\u{7f}", ForbiddenCharacter),
        ("https://example.com/\u{85}", ForbiddenCharacter),
        ("https://example.com/\u{200b}", ForbiddenCharacter),
        ("https://exa\u{ad}mple.com/", ForbiddenCharacter),
        ("https://exam%00ple.com/", EncodedHost),
        ("https://example.com:%38%30/", EncodedHost),
        ("https://%31%32%37.0.0.1/", EncodedHost),
        ("https://[fe80::1%25eth0]/", EncodedHost),
        // ports
        ("https://example.com:0/", Port),
        ("https://example.com:22/", Port),
        ("https://example.com:25/", Port),
        ("https://example.com:444/", Port),
        ("https://example.com:1023/", Port),
        ("https://example.com:2375/", Port),
        ("https://example.com:3306/", Port),
        ("https://example.com:5432/", Port),
        ("https://example.com:6000/", Port),
        ("https://example.com:6379/", Port),
        ("https://example.com:6667/", Port),
        ("https://example.com:10080/", Port),
        ("https://example.com:11211/", Port),
        ("https://example.com:27017/", Port),
        ("https://8.8.8.8:6379/", Port),
        // hosts
        ("https://receiver/", SingleLabel),
        ("https://com/", SingleLabel),
        ("https://intranet/", ReservedName),
        ("https://localhost/", ReservedName),
        ("https://localhost./", ReservedName),
        ("https://metadata.google.internal/", ReservedName),
        ("https://example.com./", TrailingDot),
        ("https://2130706433/", Address),
        ("https://0x7f.1/", Address),
        ("https://[::ffff:a9fe:a9fe]/latest/meta-data/", Address),
    ];
    let policy = public_policy();
    for (url, why) in rows {
        assert_eq!(policy.parse_url(url, HTTP_TOO).map(|_| ()), Err(*why), "{url:?}");
    }
}

#[test]
fn urls_that_must_be_accepted() {
    let policy = public_policy();
    for url in [
        "https://example.com",
        "https://example.com/",
        "HTTPS://Example.COM/Hook",
        "https://hooks.example.com:8443/a/b?c=d&e=%20f",
        "https://example.com:443/",
        "https://example.com:80/",
        "https://example.com:65535/",
        "https://a.b.c.d.e.f.example.co.uk/",
        "https://my_app.example.com/",
        "https://xn--bcher-kva.example/",
        "https://bücher.example/straße?q=ü",
        "https://例え.テスト/",
        "https://1e100.net/",
        "https://123.example.com/",
        "https://localhost.example.com/",
        "https://notlocalhost.com/",
        "https://mylocal.io/",
        "https://internal.example.com/",
        "https://8.8.8.8/",
        "https://172.32.0.1/",
        "https://192.169.0.1/",
        "https://100.128.0.1/",
        "https://[2606:4700:4700::1111]/",
        "https://[2a00:1450:4001:81c::200e]:8443/",
        "https://[::ffff:8.8.8.8]/",
        "https://example.com/@user",
        "https://example.com/a:b//c/../d;e=f,g!$&'()*+~",
        "https://example.com/?u=https://127.0.0.1/&m=a@b",
        "https://example.com/{id}|x^y?z=[1]&w=\"q\"<>`",
        "https://nowhere.invalid/",
    ] {
        let accepted = policy.parse_url(url, HTTPS_ONLY).map_err(|error| format!("{url:?}: {error}"));
        assert_eq!(accepted.map(|accepted| accepted.as_str().to_owned()), Ok(url.to_owned()));
    }
}

#[test]
fn http_needs_the_format_or_the_operator() {
    let url = "http://example.com/";
    assert_eq!(public_policy().parse_url(url, HTTPS_ONLY).map(|_| ()), Err(MustBeHttps));
    assert!(public_policy().parse_url(url, HTTP_TOO).is_ok());
    let operator = Policy::new(PolicySettings { allow_http: true, ..PolicySettings::default() });
    assert!(operator.parse_url(url, HTTPS_ONLY).is_ok());
    assert_eq!(operator.parse_url("ftp://example.com/", HTTPS_ONLY).map(|_| ()), Err(MustBeHttps));
}

#[test]
fn an_allowed_range_opens_its_literals_and_no_more() {
    let policy = policy_allowing(&["127.0.0.0/8"]);
    for yes in [
        "http://127.0.0.1:39201/hook",
        "https://127.0.0.1/",
        "http://127.1:8080/",
        "http://[::ffff:127.0.0.1]:8080/",
    ] {
        assert!(policy.parse_url(yes, HTTPS_ONLY).is_ok(), "{yes}");
    }
    for no in
        ["http://localhost:39201/hook", "http://[::1]:39201/", "http://10.0.0.1/", "http://127.0.0.1:6379/"]
    {
        assert!(policy.parse_url(no, HTTPS_ONLY).is_err(), "{no}");
    }
}

#[test]
fn one_exact_address_opens_that_one_alone() {
    let own = "127.0.0.1:33060".parse().expect("an address");
    let policy = Policy::new(PolicySettings { allow_exact: vec![own], ..PolicySettings::default() });
    assert!(policy.parse_url("http://127.0.0.1:33060/hook", HTTP_TOO).is_ok());
    for no in ["http://127.0.0.1:33061/", "http://127.0.0.2:33060/", "http://127.0.0.1/"] {
        assert_eq!(policy.parse_url(no, HTTP_TOO).map(|_| ()), Err(Address), "{no}");
    }
}

#[test]
fn length_is_limited_as_given_and_as_sent() {
    let policy = public_policy();
    let of_length = |length: usize| format!("https://example.com/{}", "a".repeat(length - 20));
    assert!(policy.parse_url(&of_length(MAX_URL_BYTES), HTTPS_ONLY).is_ok());
    assert_eq!(policy.parse_url(&of_length(MAX_URL_BYTES + 1), HTTPS_ONLY).map(|_| ()), Err(TooLong));
    let grows = format!("https://example.com/{}", "ü".repeat(500));
    assert_eq!(policy.parse_url(&grows, HTTPS_ONLY).map(|_| ()), Err(TooLong));
}

#[test]
fn the_text_is_kept_and_the_query_stays_out_of_logs() {
    let url =
        public_policy().parse_url("https://Example.com/Hook?token=s3cret", HTTPS_ONLY).expect("accepted");
    assert_eq!(url.as_str(), "https://Example.com/Hook?token=s3cret");
    assert_eq!(url.host(), "example.com");
    assert_eq!(url.redacted().to_string(), "https://example.com/Hook?…");
    assert_eq!(format!("{url:?}"), "EndpointUrl(https://example.com/Hook?…)");
}
