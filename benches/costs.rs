//! What the pure parts cost, on one core and without I/O: may a request go there, sealing and opening a secret, rendering and
//! signing an attempt in every built-in format and with ed25519. `cargo bench --bench costs` prints a table; SECURITY.md and
//! docs/formats.md keep it.
//!
//! Time is the thread's CPU time, the median of [`ROUNDS`]: what else the machine does hardly shows.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails here says where")]

use std::{hint::black_box, net::SocketAddr, time::Duration};

use posthaste::{
    egress::{CustomHeaders, Policy, PolicySettings, SchemeRule},
    endpoints::target::request_headers,
    formats::{EventView, Format, presets},
    seal::{Purpose, Vault},
    signing::Signer,
    types::{EventId, Timestamp, ecma_json::normalise, secret::SigningSecret},
};
use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

const ROUNDS: usize = 15;
/// Long beside the clock's grain.
const ROUND: Duration = Duration::from_millis(20);
const NS_PER_S: f64 = 1e9;
const BODY_BYTES: [usize; 2] = [1_024, 64 * 1_024];

fn cpu_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * NS_PER_S + now.tv_nsec as f64
}

/// Nanoseconds that one call takes.
fn cost<T>(mut call: impl FnMut() -> T) -> f64 {
    let mut calls = 1_u32;
    let mut round = |calls: u32| {
        let began = cpu_ns();
        for _ in 0..calls {
            black_box(call());
        }
        cpu_ns() - began
    };
    while round(calls) < ROUND.as_nanos() as f64 {
        calls *= 2;
    }
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round(calls) / f64::from(calls)).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn row(what: &str, ns: f64) {
    println!("{what:<58} {ns:>10.0} ns {:>12.0} /s", NS_PER_S / ns);
}

fn egress() {
    let policy = Policy::new(PolicySettings {
        allow: vec!["10.20.0.0/16".parse().unwrap()],
        deny: vec!["198.41.0.0/24".parse().unwrap()],
        own_listeners: vec!["127.0.0.1:8080".parse().unwrap()],
        ..PolicySettings::default()
    });
    for (what, addr) in [
        ("public IPv4", "93.184.215.14:443"),
        ("public IPv6", "[2606:4700:4700::1111]:443"),
        ("private IPv4", "192.168.0.1:443"),
        ("mapped loopback", "[::ffff:127.0.0.1]:443"),
    ] {
        let addr: SocketAddr = addr.parse().unwrap();
        row(&format!("judge an address: {what}"), cost(|| policy.judge(black_box(addr))));
    }
    let rule = SchemeRule::default();
    for (what, url) in [
        ("a name", "https://crm.example.com/hooks/posthaste?store=17"),
        ("an address", "https://93.184.215.14:8443/hook"),
        ("refused, 0x7f.1", "https://0x7f.1/latest/meta-data/"),
    ] {
        row(
            &format!("parse and judge a URL: {what}"),
            cost(|| policy.parse_url(black_box(url), rule).is_ok()),
        );
    }
}

fn sealing() {
    let vault = Vault::parse(&Vault::generate_key()).unwrap();
    let item = Uuid::from_u128(3);
    let purpose =
        Purpose { what: "signing secret", tenant: Uuid::from_u128(1), owner: Uuid::from_u128(2), item };
    let secret = SigningSecret::generate();
    for (what, plain) in
        [("a signing secret", secret.reveal().as_bytes()), ("4 KiB of headers", &[b'x'; 4_096][..])]
    {
        let record = vault.seal(plain, purpose).unwrap();
        row(
            &format!("seal {what}, {} bytes", plain.len()),
            cost(|| vault.seal(black_box(plain), purpose).unwrap()),
        );
        row(&format!("open {what}"), cost(|| vault.open(black_box(&record), purpose).unwrap()));
        println!("  a record is {} bytes longer", record.len() - plain.len());
    }
}

fn attempt(format: &Format, body_bytes: usize) {
    let text = "a sentence of what somebody said. ".repeat(body_bytes / 34);
    let data = normalise(&serde_json::json!({"text": text, "from": "+49301234567"}).to_string()).unwrap();
    let (id, at) =
        (EventId::from_uuid(Uuid::from_u128(7)), Timestamp::parse("2026-11-20T10:00:00Z").unwrap());
    let id_text = id.to_string();
    let event = EventView {
        id: &id_text,
        event_type: "message.incoming",
        occurred_at: at.datetime(),
        tenant_id: "ten_0193a1b2-c3d4-7e5f-8a6b-0123456789ab",
        location_id: "loc_0193a1b2-c3d4-7e5f-8a6b-0123456789ab",
        channel: Some("whatsapp"),
        api_version: None,
        live_mode: true,
        data: data.as_bytes(),
    };
    let signer = Signer::new(&format.signatures, &[SigningSecret::generate()]).unwrap();
    let custom = CustomHeaders::default();
    let body = format.envelope.render(&event);
    let render = cost(|| format.envelope.render(black_box(&event)));
    let sign = cost(|| request_headers(&custom, &signer, id, 1, at, black_box(&body)));
    let (name, signatures) = (&format.name, format.signatures.len());
    row(&format!("{name}, {} bytes: render", body.len()), render);
    row(&format!("{name}, {} bytes: headers, {signatures} of them signatures", body.len()), sign);
}

/// The format of a tenant's own that docs/formats.md shows, "With a public key".
fn asymmetric() -> Format {
    serde_json::from_value(serde_json::json!({
        "name": "ed25519",
        "version": 1_000,
        "envelope": {"id": "{{id}}", "type": "{{type}}", "timestamp": "{{timestamp}}", "data": "{{data}}"},
        "signatures": [{"header": "webhook-signature", "algorithm": "ed25519", "key": "base64",
            "content": "{{id}}.{{timestamp}}.{{body}}", "encoding": "base64", "value": "v1a,{{signature}}", "multiple": true}],
    }))
    .unwrap()
}

fn main() {
    egress();
    sealing();
    let asymmetric = asymmetric();
    for body_bytes in BODY_BYTES {
        for format in presets::formats().iter().map(AsRef::as_ref).chain([&asymmetric]) {
            attempt(format, body_bytes);
        }
    }
}
