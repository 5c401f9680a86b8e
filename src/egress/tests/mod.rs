//! Egress against the real thing: the policy's tables, a DNS server and scripted receivers on loopback.
//!
//! Loopback stands for the public internet here: the tests' policy allows it, or a part of it.

mod connecting;
mod cost;
mod dns_server;
mod fuzz;
mod hostile;
mod identity;
mod pooling;
mod proxy;
mod receiver;
mod sockets;
mod spelling;
mod tls;
mod urls;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderValue};

use super::*;

/// Far longer than any test takes: reached only when something is broken.
const PLENTY: Duration = Duration::from_secs(20);
/// For receivers that never finish: the test has to wait this long. Long enough for a busy machine to get as
/// far as the receiver.
const SHORT: Duration = Duration::from_secs(1);

const HTTP_TOO: SchemeRule = SchemeRule { format_allows_http: true };
const HTTPS_ONLY: SchemeRule = SchemeRule { format_allows_http: false };

fn policy_allowing(ranges: &[&str]) -> Policy {
    let allow = ranges.iter().map(|range| range.parse().expect("a range")).collect();
    Policy::new(PolicySettings { allow, allow_http: true, ..PolicySettings::default() })
}

fn loopback_policy() -> Arc<Policy> {
    Arc::new(policy_allowing(&["127.0.0.0/8"]))
}

/// A policy that knows the public internet only.
fn public_policy() -> Policy {
    Policy::new(PolicySettings::default())
}

fn sender(policy: &Arc<Policy>, options: SenderOptions) -> Sender {
    Sender::new(Arc::clone(policy), options).expect("a sender")
}

async fn post(sender: &Sender, url: &EndpointUrl, timeout: Duration) -> Exchange {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    sender
        .post(Outbound { url, identity: None, headers, body: Bytes::from_static(b"{\"a\":1}"), timeout })
        .await
}

fn class_of(exchange: &Exchange) -> ErrorClass {
    exchange.result.as_ref().expect_err("an error").class
}

#[test]
fn every_class_is_counted_under_its_own_word() {
    for class in ErrorClass::ALL {
        assert!(crate::telemetry::metrics::ERRORS.contains(&class.as_str()), "{class:?}");
    }
}
