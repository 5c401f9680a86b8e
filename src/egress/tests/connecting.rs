//! What is connected to: DNS answers, rebinding, redirects, proxies, pooled connections.

use std::process::Command;
use std::sync::Arc;

use super::dns_server::{Answer, DnsServer};
use super::receiver::{OK, OK_AND_CLOSE, Receiver, answer_all, read_request};
use super::*;

fn name_url(policy: &Policy, name: &str, receiver: &Receiver) -> EndpointUrl {
    let raw = format!("http://{name}:{}/hook?k=v", receiver.addr.port());
    policy.parse_url(&raw, HTTP_TOO).expect("an accepted URL")
}

#[tokio::test]
async fn a_name_is_resolved_judged_and_reached() {
    let dns = DnsServer::start().await;
    dns.set("hooks.example.com", Answer::ips(&["127.0.0.1"]));
    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Receiver::start(move |mut stream| {
        let report = report.clone();
        async move {
            let request = read_request(&mut stream).await.expect("a request");
            report.send(request).expect("the test waits");
            answer_all_once(stream).await;
        }
    })
    .await;
    let policy = loopback_policy();
    let url = name_url(&policy, "hooks.example.com", &receiver);

    let exchange = post(&sender(&policy, dns.options()), &url, PLENTY).await;

    let response = exchange.result.expect("a response");
    assert_eq!((response.status, response.body.as_ref(), response.truncated), (200, &b"ok"[..], false));
    assert_eq!(exchange.remote_addr, Some(receiver.addr));
    let timings = exchange.timings;
    assert!(timings.dns_ms.is_some() && timings.connect_ms.is_some() && timings.first_byte_ms.is_some());
    assert_eq!(timings.tls_ms, None);

    let request = reports.recv().await.expect("the request");
    assert!(request.starts_with("POST /hook?k=v HTTP/1.1\r\n"), "{request}");
    let head = request.to_ascii_lowercase();
    assert!(head.contains(&format!("\r\nhost: hooks.example.com:{}\r\n", receiver.addr.port())));
    assert!(head.contains("\r\nuser-agent: posthaste/"));
    assert!(head.contains("\r\ncontent-type: application/json\r\n"));
    for never in ["accept-encoding", "cookie", "referer", "expect"] {
        assert!(!head.contains(never), "{never}");
    }
    assert!(request.ends_with("\r\n\r\n{\"a\":1}"));
}

async fn answer_all_once(mut stream: tokio::net::TcpStream) {
    tokio::io::AsyncWriteExt::write_all(&mut stream, OK.as_bytes()).await.expect("written");
    answer_all(stream, Arc::new(Vec::new())).await;
}

/// 127.0.0.1 plays the public internet, 127.0.0.2 our own network.
#[tokio::test]
async fn a_name_that_turns_inside_after_saving_is_refused() {
    let dns = DnsServer::start().await;
    let outside = Receiver::answering(OK_AND_CLOSE).await;
    let policy = Arc::new(policy_allowing(&["127.0.0.1/32"]));
    let sender = sender(&policy, dns.options());
    let url = name_url(&policy, "rebind.example.com", &outside);

    dns.set("rebind.example.com", Answer::ips(&["127.0.0.1"]));
    assert_eq!(post(&sender, &url, PLENTY).await.result.expect("public at first").status, 200);
    dns.set("rebind.example.com", Answer::ips(&["127.0.0.2"]));
    let exchange = post(&sender, &url, PLENTY).await;
    assert_eq!(class_of(&exchange), ErrorClass::RefusedTarget);
    assert_eq!(exchange.result.expect_err("refused").detail, "the target address is not allowed");
    dns.set("rebind.example.com", Answer::ips(&["127.0.0.1"]));
    assert_eq!(post(&sender, &url, PLENTY).await.result.expect("healed").status, 200);
    assert_eq!(outside.connections(), 2);
}

#[tokio::test]
async fn one_forbidden_answer_refuses_them_all() {
    let dns = DnsServer::start().await;
    let receiver = Receiver::answering(OK).await;
    let policy = Arc::new(policy_allowing(&["127.0.0.1/32"]));
    let sender = sender(&policy, dns.options());
    for (name, ips) in [
        ("a.example.com", &["8.8.8.8", "10.0.0.1"][..]),
        ("b.example.com", &["10.0.0.1", "8.8.8.8"]),
        ("c.example.com", &["127.0.0.1", "::1"]),
        ("d.example.com", &["8.8.8.8", "::1"]),
        ("e.example.com", &["::ffff:10.0.0.1"]),
        ("f.example.com", &["127.0.0.1", "64:ff9b::7f00:1"]),
        ("g.example.com", &["169.254.169.254"]),
        ("h.example.com", &["0.0.0.0"]),
        ("i.example.com", &["fd00::1", "2606:4700:4700::1111"]),
        ("late.example.com", &["127.0.0.1"; 9].iter().copied().chain(["10.0.0.1"]).collect::<Vec<_>>()),
    ] {
        dns.set(name, Answer::ips(ips));
        let url = name_url(&policy, name, &receiver);
        assert_eq!(class_of(&post(&sender, &url, PLENTY).await), ErrorClass::RefusedTarget, "{name}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn dns_that_does_not_answer_is_a_dns_failure() {
    let dns = DnsServer::start().await;
    let receiver = Receiver::answering(OK).await;
    let policy = loopback_policy();
    let sender = sender(&policy, SenderOptions { lookup_timeout: SHORT, ..dns.options() });
    for (name, answer, detail) in [
        ("empty.example.com", Answer::Nothing, "the host name has no address"),
        ("missing.example.com", Answer::NxDomain, "the host name has no address"),
        ("broken.example.com", Answer::ServFail, "the host name could not be looked up"),
        ("silent.example.com", Answer::Silence, "looking up the host name took too long"),
    ] {
        dns.set(name, answer);
        let error = post(&sender, &name_url(&policy, name, &receiver), PLENTY).await.result.expect_err(name);
        assert_eq!((error.class, error.detail.as_ref()), (ErrorClass::Dns, detail), "{name}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn the_endpoints_own_timeout_covers_the_lookup() {
    let dns = DnsServer::start().await;
    dns.set("silent.example.com", Answer::Silence);
    let receiver = Receiver::answering(OK).await;
    let policy = loopback_policy();
    let exchange =
        post(&sender(&policy, dns.options()), &name_url(&policy, "silent.example.com", &receiver), SHORT)
            .await;
    assert_eq!(class_of(&exchange), ErrorClass::Timeout);
    assert_eq!(
        exchange.result.expect_err("a time-out").detail,
        "the host name could not be looked up within the time-out of 1000 ms"
    );
}

#[tokio::test]
async fn answers_are_kept_for_their_ttl_and_not_longer() {
    let dns = DnsServer::start().await;
    dns.set("kept.example.com", Answer::lasting(&["127.0.0.1"], 60));
    dns.set("fleeting.example.com", Answer::ips(&["127.0.0.1"]));
    let receiver = Receiver::answering(OK_AND_CLOSE).await;
    let policy = loopback_policy();
    let sender = sender(&policy, dns.options());

    let kept = name_url(&policy, "kept.example.com", &receiver);
    post(&sender, &kept, PLENTY).await.result.expect("a response");
    let asked = dns.queries();
    dns.set("kept.example.com", Answer::ServFail);
    post(&sender, &kept, PLENTY).await.result.expect("a response from the cached address");

    let fleeting = name_url(&policy, "fleeting.example.com", &receiver);
    post(&sender, &fleeting, PLENTY).await.result.expect("a response");
    let asked_for_fleeting = dns.queries();
    post(&sender, &fleeting, PLENTY).await.result.expect("a response");
    assert!(asked < asked_for_fleeting && asked_for_fleeting < dns.queries());
}

#[tokio::test]
async fn a_literal_address_is_judged_at_every_attempt() {
    let receiver = Receiver::answering(OK).await;
    let saved_when_allowed = receiver.url(&loopback_policy());
    let policy = Arc::new(public_policy());
    let exchange = post(&sender(&policy, SenderOptions::default()), &saved_when_allowed, PLENTY).await;
    assert_eq!(class_of(&exchange), ErrorClass::RefusedTarget);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn our_own_listener_is_not_a_target_by_name_either() {
    let dns = DnsServer::start().await;
    dns.set("me.example.com", Answer::ips(&["127.0.0.1"]));
    let listener = Receiver::answering(OK).await;
    let neighbour = Receiver::answering(OK).await;
    let policy = Arc::new(Policy::new(PolicySettings {
        allow: vec!["127.0.0.0/8".parse().expect("a range")],
        own_listeners: vec![listener.addr],
        ..PolicySettings::default()
    }));
    let sender = sender(&policy, dns.options());
    let refused = post(&sender, &name_url(&policy, "me.example.com", &listener), PLENTY).await;
    assert_eq!(class_of(&refused), ErrorClass::RefusedTarget);
    let reached = post(&sender, &name_url(&policy, "me.example.com", &neighbour), PLENTY).await;
    assert_eq!(reached.result.expect("a response").status, 200);
    assert_eq!(listener.connections(), 0);
}

/// An address of this machine that is not loopback. Nothing is sent.
fn address_of_this_machine() -> std::net::IpAddr {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect("203.0.113.1:9").expect("a route to somewhere");
    socket.local_addr().expect("its address").ip()
}

#[tokio::test]
async fn our_own_listener_on_every_address_gets_no_request_at_any_of_them() {
    let here = address_of_this_machine();
    assert!(!here.is_loopback());
    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let listener = Receiver::start_on("0.0.0.0", move |mut stream| {
        let report = report.clone();
        async move {
            report.send(read_request(&mut stream).await).expect("the test waits");
        }
    })
    .await;
    let neighbour = Receiver::start_on("0.0.0.0", |stream| answer_all(stream, Arc::new(OK.into()))).await;
    let policy = Arc::new(Policy::new(PolicySettings {
        allow: vec![here.into()],
        own_listeners: vec![listener.addr],
        ..PolicySettings::default()
    }));
    let sender = sender(&policy, SenderOptions::default());
    let url = |receiver: &Receiver| {
        let raw = format!("http://{}/hook", std::net::SocketAddr::new(here, receiver.addr.port()));
        policy.parse_url(&raw, HTTP_TOO).expect("an accepted URL")
    };
    let refused = post(&sender, &url(&listener), PLENTY).await;
    assert_eq!(class_of(&refused), ErrorClass::RefusedTarget);
    assert_eq!(reports.recv().await, Some(None), "closed without a request");
    let reached = post(&sender, &url(&neighbour), PLENTY).await;
    assert_eq!(reached.result.expect("a response").status, 200);
}

#[test]
fn our_own_lack_of_descriptors_is_not_the_receivers_fault() {
    use rustix::io::Errno;
    for (errno, class) in [
        (Errno::MFILE, ErrorClass::Local),
        (Errno::NFILE, ErrorClass::Local),
        (Errno::CONNREFUSED, ErrorClass::Connect),
        (Errno::HOSTUNREACH, ErrorClass::Connect),
        (Errno::ADDRNOTAVAIL, ErrorClass::Connect),
    ] {
        assert_eq!(SendError::not_connected(&errno.into()).class, class, "{errno:?}");
    }
}

#[tokio::test]
async fn redirects_are_answers_and_not_followed() {
    let elsewhere = Receiver::answering(OK).await;
    for status in [301, 302, 303, 307, 308] {
        for location in
            ["http://169.254.169.254/latest/meta-data/".to_owned(), format!("http://{}/", elsewhere.addr)]
        {
            let receiver = Receiver::answering(format!(
                "HTTP/1.1 {status} Go\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
            ))
            .await;
            let policy = loopback_policy();
            let exchange =
                post(&sender(&policy, SenderOptions::default()), &receiver.url(&policy), PLENTY).await;
            let response = exchange.result.expect("a response");
            assert_eq!(response.status, status);
            assert_eq!(response.headers["location"], location.as_str());
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn connections_are_used_again_and_then_have_no_phases() {
    let receiver = Receiver::answering(OK).await;
    let policy = loopback_policy();
    let sender = sender(&policy, SenderOptions::default());
    let first = post(&sender, &receiver.url(&policy), PLENTY).await;
    assert!(first.timings.connect_ms.is_some());
    assert_eq!(first.timings.dns_ms, None);
    for _ in 0..5 {
        let again = post(&sender, &receiver.url(&policy), PLENTY).await;
        assert_eq!(again.result.expect("a response").status, 200);
        assert_eq!((again.timings.connect_ms, again.timings.tls_ms), (None, None));
        assert!(again.timings.first_byte_ms.is_some());
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn nobody_listening_is_a_connect_failure() {
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let policy = loopback_policy();
    let url = policy.parse_url(&format!("http://{closed}/"), HTTP_TOO).expect("an accepted URL");
    let exchange = post(&sender(&policy, SenderOptions::default()), &url, PLENTY).await;
    let error = exchange.result.expect_err("nobody answers");
    assert_eq!(
        (error.class, error.detail.as_ref()),
        (ErrorClass::Connect, "the endpoint refused the connection")
    );
}

/// The name of the variable that makes a run of the test below the child.
const PROXY_CHILD: &str = "EGRESS_TEST_PROXY_CHILD";

/// reqwest reads the environment when a client is built, and changing the environment of a running process
/// is unsound: so the test runs itself again as a child with the variables set.
#[tokio::test]
async fn proxies_in_the_environment_are_ignored() {
    let policy = loopback_policy();
    if let Ok(url) = std::env::var(PROXY_CHILD) {
        let url = policy.parse_url(&url, HTTP_TOO).expect("an accepted URL");
        let exchange = post(&sender(&policy, SenderOptions::default()), &url, PLENTY).await;
        assert_eq!(exchange.result.expect("a response").body.as_ref(), b"ok");
        return;
    }
    let receiver = Receiver::answering(OK).await;
    let proxy = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nproxy").await;
    let mut child = Command::new(std::env::current_exe().expect("this test binary"));
    child.args(["--exact", "egress::tests::connecting::proxies_in_the_environment_are_ignored"]);
    child
        .env(PROXY_CHILD, format!("http://{}/", receiver.addr))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(variable, format!("http://{}", proxy.addr));
    }
    let output = tokio::task::spawn_blocking(move || child.output()).await.expect("joined").expect("a child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((receiver.connections(), proxy.connections()), (1, 0));
}
