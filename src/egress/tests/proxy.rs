//! The operator's egress proxy: what it is asked for, what never gets to it, and how it fails.

use std::net::SocketAddr;

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::dns_server::{Answer, DnsServer};
use super::receiver::{OK, Receiver, read_request};
use super::*;

/// A proxy that answers each CONNECT as told (by target), and what it was asked.
async fn proxy(status: fn(&str) -> u16) -> (Receiver, UnboundedReceiver<String>) {
    let (report, reports) = unbounded_channel();
    let proxy = Receiver::start(move |mut client| {
        let report = report.clone();
        async move {
            let asked = read_request(&mut client).await.expect("a CONNECT");
            let target = asked.split(' ').nth(1).expect("a target").to_owned();
            let status = status(&target);
            report.send(asked).expect("the test waits");
            client.write_all(format!("HTTP/1.1 {status} So\r\n\r\n").as_bytes()).await.expect("written");
            if status == 200 {
                let target: SocketAddr = target.parse().expect("an address, not a name");
                let mut target = TcpStream::connect(target).await.expect("the receiver");
                // Either side may just go.
                let _ = copy_bidirectional(&mut client, &mut target).await;
            }
        }
    })
    .await;
    (proxy, reports)
}

fn options(proxy: &Receiver, dns: &DnsServer) -> SenderOptions {
    let text = format!("http://user:s3cret@{}", proxy.addr);
    SenderOptions { proxy: Some(EgressProxy::parse(&text).expect("a proxy")), ..dns.options() }
}

#[tokio::test]
async fn it_is_asked_for_the_judged_address_and_the_receiver_for_its_name() {
    let dns = DnsServer::start().await;
    dns.set("hooks.example.com", Answer::ips(&["127.0.0.1"]));
    let (report, mut requests) = unbounded_channel();
    let receiver = Receiver::start(move |mut stream| {
        let report = report.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                report.send(request).expect("the test waits");
                stream.write_all(OK.as_bytes()).await.expect("written");
            }
        }
    })
    .await;
    let (proxy, mut asked) = proxy(|_| 200).await;
    let policy = loopback_policy();
    let sender = sender(&policy, options(&proxy, &dns));
    let raw = format!("http://hooks.example.com:{}/hook", receiver.addr.port());
    let url = policy.parse_url(&raw, HTTP_TOO).expect("an accepted URL");

    for _ in 0..3 {
        let exchange = post(&sender, &url, PLENTY).await;
        assert_eq!(exchange.result.expect("a response").status, 200);
        assert_eq!(exchange.remote_addr, Some(receiver.addr));
        let head = requests.recv().await.expect("a request").to_ascii_lowercase();
        assert!(head.starts_with("post /hook http/1.1\r\n") && head.contains("\r\nhost: hooks.example.com:"));
        assert!(!head.contains("proxy-"), "{head}");
    }
    let asked_for = asked.recv().await.expect("a CONNECT");
    assert!(asked_for.starts_with(&format!("CONNECT {} HTTP/1.1\r\n", receiver.addr)), "{asked_for}");
    assert!(asked_for.contains("\r\nProxy-Authorization: Basic dXNlcjpzM2NyZXQ=\r\n"), "{asked_for}");
    assert!(!asked_for.contains("hooks.example.com"));
    assert_eq!(proxy.connections(), 1, "tunnels are used again");
}

/// The proxy is on loopback, where the policy forbids to send.
#[tokio::test]
async fn the_policy_judges_targets_and_not_the_proxy() {
    let dns = DnsServer::start().await;
    dns.set("mixed.example.com", Answer::ips(&["8.8.8.8", "10.0.0.1"]));
    dns.set("public.example.com", Answer::ips(&["8.8.8.8"]));
    let (proxy, mut asked) = proxy(|_| 403).await;
    let policy = Arc::new(public_policy());
    let sender = sender(&policy, options(&proxy, &dns));
    let inside = loopback_policy().parse_url("http://127.0.0.1:8080/", HTTP_TOO).expect("saved when allowed");
    assert_eq!(class_of(&post(&sender, &inside, PLENTY).await), ErrorClass::RefusedTarget);
    let mixed = policy.parse_url("https://mixed.example.com/", HTTPS_ONLY).expect("an accepted URL");
    assert_eq!(class_of(&post(&sender, &mixed, PLENTY).await), ErrorClass::RefusedTarget);
    assert_eq!(proxy.connections(), 0);

    let public = policy.parse_url("https://public.example.com/", HTTPS_ONLY).expect("an accepted URL");
    let error = post(&sender, &public, PLENTY).await.result.expect_err("refused by the proxy");
    assert_eq!(error.class, ErrorClass::Proxy);
    assert_eq!(error.detail, "the operator's egress proxy answered 403 instead of connecting");
    assert!(asked.recv().await.expect("a CONNECT").starts_with("CONNECT 8.8.8.8:443 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_proxy_that_fails_has_a_class_of_its_own() {
    let dns = DnsServer::start().await;
    let policy = Arc::new(public_policy());
    let url = policy.parse_url("https://8.8.8.8/", HTTPS_ONLY).expect("an accepted URL");
    let all: [fn(&str) -> u16; 4] = [|_| 407, |_| 403, |_| 500, |_| 302];
    for status in all {
        let (proxy, _asked) = proxy(status).await;
        let exchange = post(&sender(&policy, options(&proxy, &dns)), &url, PLENTY).await;
        assert_eq!(class_of(&exchange), ErrorClass::Proxy);
        assert_eq!(proxy.connections(), 1);
    }
    let no_proxy = Receiver::answering("SSH-2.0-OpenSSH\r\n\r\n").await;
    let exchange = post(&sender(&policy, options(&no_proxy, &dns)), &url, PLENTY).await;
    assert_eq!(class_of(&exchange), ErrorClass::Proxy);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one");
    let nobody = EgressProxy::parse(&format!("http://{closed}")).expect("a proxy");
    let options = SenderOptions { proxy: Some(nobody), ..dns.options() };
    let error = post(&sender(&policy, options), &url, PLENTY).await.result.expect_err("nobody there");
    assert_eq!(
        (error.class, error.detail.as_ref()),
        (ErrorClass::Proxy, "the operator's egress proxy can't be used")
    );
}

#[tokio::test]
async fn an_address_that_the_proxy_cannot_reach_is_followed_by_the_next() {
    let dns = DnsServer::start().await;
    dns.set("two.example.com", Answer::ips(&["8.8.8.8", "9.9.9.9"]));
    let (proxy, mut asked) = proxy(|target| if target.starts_with("8.8.8.8") { 502 } else { 504 }).await;
    let policy = Arc::new(public_policy());
    let url = policy.parse_url("https://two.example.com/", HTTPS_ONLY).expect("an accepted URL");
    let exchange = post(&sender(&policy, options(&proxy, &dns)), &url, PLENTY).await;
    assert_eq!(class_of(&exchange), ErrorClass::Proxy);
    let mut targets = Vec::new();
    while let Ok(asked) = asked.try_recv() {
        targets.extend(asked.split(' ').nth(1).map(str::to_owned));
    }
    targets.sort();
    assert_eq!(targets, ["8.8.8.8:443", "9.9.9.9:443"]);
}
