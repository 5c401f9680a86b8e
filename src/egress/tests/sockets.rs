//! Property, on real sockets: no address that the policy forbids is ever connected to, however the URL spells it and
//! whatever the DNS answers.
//!
//! 127.0.0.1 plays the public internet, the rest of loopback our own network. One listener takes what comes to any of them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::dns_server::{Answer, DnsServer};
use super::receiver::{OK_AND_CLOSE, Receiver, answer_all};
use super::spelling::spelled_v4;
use super::*;

/// Each is a few connections.
const CASES: u32 = 64;
const PUBLIC: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn inside() -> impl Strategy<Value = Ipv4Addr> {
    let neighbours = (0..=255_u8, 0..=255_u8, 2..=254_u8).prop_map(|(b, c, d)| Ipv4Addr::new(127, b, c, d));
    // Connecting there reaches the machine itself.
    prop_oneof![neighbours, Just(Ipv4Addr::UNSPECIFIED)]
}

#[test]
fn what_is_forbidden_is_never_connected_to() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let reached: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
    let log = Arc::clone(&reached);
    let (receiver, dns) = runtime.block_on(async {
        let receiver = Receiver::start_on("0.0.0.0", move |stream| {
            // Closed after each answer, so that each request connects.
            log.lock().expect("not poisoned").push(stream.local_addr().expect("an address").ip());
            answer_all(stream, Arc::new(OK_AND_CLOSE.into()))
        });
        (receiver.await, DnsServer::start().await)
    });
    let port = receiver.addr.port();
    let saving = Arc::new(policy_allowing(&["127.0.0.0/8", "0.0.0.0/8"]));
    let sending = Arc::new(policy_allowing(&["127.0.0.1/32"]));
    let _entered = runtime.enter();
    let sender = sender(&sending, dns.options());

    let literal = inside().prop_flat_map(|ip| (Just(ip), spelled_v4(ip)));
    let answers = (inside(), 0..4_usize, select(&[true, false][..]));
    let cases = (literal, answers);
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&cases, |((ip, host), (answer, place, is_mixed))| {
        runtime.block_on(async {
            // Saved when it was allowed. A spelling that is no URL can't be sent to at all.
            if let Ok(url) = saving.parse_url(&format!("http://{host}:{port}/"), HTTP_TOO) {
                let exchange = post(&sender, &url, PLENTY).await;
                prop_assert_eq!(class_of(&exchange), ErrorClass::RefusedTarget, "{} is {}", host, ip);
            }
            let mut ips = vec![PUBLIC.to_string(); if is_mixed { 3 } else { 0 }];
            ips.insert(place.min(ips.len()), answer.to_string());
            let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
            dns.set("inside.example.com", Answer::ips(&ips));
            let raw = format!("http://inside.example.com:{port}/");
            let url = saving.parse_url(&raw, HTTP_TOO).expect("an accepted URL");
            prop_assert_eq!(class_of(&post(&sender, &url, PLENTY).await), ErrorClass::RefusedTarget);
            dns.set("inside.example.com", Answer::ips(&["127.0.0.1"]));
            prop_assert!(post(&sender, &url, PLENTY).await.result.is_ok());
            Ok(())
        })
    });
    outcome.expect("the property holds");
    let reached = reached.lock().expect("not poisoned");
    assert!(!reached.is_empty() && reached.iter().all(|ip| *ip == PUBLIC), "{reached:?}");
}
