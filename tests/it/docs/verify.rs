//! Every program of docs/verify.md believes what Posthaste sends, and nothing that was forged.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use super::{
    page::{blocks, read},
    program::Program,
};
use crate::helpers::{Receiver, receiver::Seen, spawn};

const PAGE: &str = "docs/verify.md";
const LANGUAGES: [&str; 7] = ["sh", "python", "js", "go", "php", "ruby", "rust"];
const SECRET: &str = "whsec_QSBzZWNyZXQgZm9yIHRoZSBkb2N1bWVudGF0aW9uLg==";
const NEWER: &str = "whsec_VGhlIHNlY3JldCB0aGF0IGNvbWVzIGFmdGVyIGl0Lg==";
const OTHER: &str = "whsec_QW5vdGhlciBzZWNyZXQsIHRoYXQgZml0cyBub25lLg==";
/// More than receivers tolerate.
const STALE_S: i64 = 600;

/// One run of a program: what it is given, and whether it should believe it.
struct Case {
    what: &'static str,
    secret: &'static str,
    arguments: Vec<String>,
    body: Vec<u8>,
    is_good: bool,
}

impl Case {
    fn new(what: &'static str, is_good: bool, secret: &'static str, arguments: &[&str], body: &[u8]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { what, secret, arguments, body: body.to_owned(), is_good }
    }
}

/// The same request, well signed at another time.
fn signed_at(seen: &Seen, shift_s: i64) -> [String; 3] {
    let id = seen.header("webhook-id").to_owned();
    let at = (seen.header("webhook-timestamp").parse::<i64>().unwrap() + shift_s).to_string();
    let key = BASE64_STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let mac = mac.chain_update(format!("{id}.{at}.")).chain_update(&seen.body);
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    [id, at, format!("v1,{signature}")]
}

fn standard_cases(plain: &Seen, rotated: &Seen) -> Vec<Case> {
    let arguments = |seen: &Seen| {
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| seen.header(name).to_owned())
    };
    let case = |what, is_good, secret, arguments: &[String; 3], body: &[u8]| {
        Case::new(what, is_good, secret, &arguments.each_ref().map(|one| &one[..]), body)
    };
    let (good, both) = (arguments(plain), arguments(rotated));
    let [id, at, signature] = good.each_ref().map(|one| &one[..]);
    let tampered = [plain.body.as_ref(), b" "].concat();
    vec![
        case("plain", true, SECRET, &good, &plain.body),
        case("rotated, old secret", true, SECRET, &both, &rotated.body),
        case("rotated, new secret", true, NEWER, &both, &rotated.body),
        case("signed here", true, SECRET, &signed_at(plain, 1), &plain.body),
        case("another secret", false, OTHER, &good, &plain.body),
        case("secret before it was there", false, NEWER, &good, &plain.body),
        case("tampered", false, SECRET, &good, &tampered),
        case("another's signature", false, SECRET, &good, &rotated.body),
        case("stale", false, SECRET, &signed_at(plain, -STALE_S), &plain.body),
        case("of the future", false, SECRET, &signed_at(plain, STALE_S), &plain.body),
        Case::new("another id", false, SECRET, &["evt_another", at, signature], &plain.body),
        Case::new("no time", false, SECRET, &[id, "now", signature], &plain.body),
        Case::new("no signature", false, SECRET, &[id, at, ""], &plain.body),
        Case::new("a version alone", false, SECRET, &[id, at, "v1,"], &plain.body),
        Case::new("cut short", false, SECRET, &[id, at, &signature[..20]], &plain.body),
        Case::new("another version", false, SECRET, &[id, at, &signature.replace("v1,", "v2,")], &plain.body),
    ]
}

fn hex_cases(plain: &Seen, rotated: &Seen) -> Vec<Case> {
    let (good, newer) = (plain.header("x-webhook-signature"), rotated.header("x-webhook-signature"));
    let tampered = [plain.body.as_ref(), b" "].concat();
    vec![
        Case::new("plain", true, SECRET, &[good], &plain.body),
        Case::new("rotated, new secret", true, NEWER, &[newer], &rotated.body),
        Case::new("rotated, old secret", false, SECRET, &[newer], &rotated.body),
        Case::new("another secret", false, OTHER, &[good], &plain.body),
        Case::new("tampered", false, SECRET, &[good], &tampered),
        Case::new("another's signature", false, SECRET, &[newer], &plain.body),
        Case::new("no signature", false, SECRET, &[""], &plain.body),
        Case::new("cut short", false, SECRET, &[&good[..32]], &plain.body),
        Case::new("no hex", false, SECRET, &["zü"], &plain.body),
    ]
}

#[tokio::test]
async fn every_program_believes_what_is_sent_and_nothing_that_was_forged() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({"secret": SECRET})).await;
    tenant.publish("message.incoming", json!({"text": "Grüße ☺ 👩‍👧 \u{2028}\n", "n": [1.5, {}]})).await;
    let plain = receiver.next().await;
    let rotate = format!("/v1/endpoints/{}/secret/rotate", endpoint["id"].as_str().unwrap());
    tenant.client.post(&rotate, json!({"secret": NEWER})).await.expect(200);
    tenant.publish("message.incoming", json!({})).await;
    let rotated = receiver.next().await;
    app.stop().await;

    let page = read(PAGE);
    let mut ran = 0;
    for (kind, cases) in
        [("standard", standard_cases(&plain, &rotated)), ("hex", hex_cases(&plain, &rotated))]
    {
        let shown: Vec<_> = blocks(&page).into_iter().filter(|block| block.kind == kind).collect();
        let languages: Vec<&str> = shown.iter().map(|block| &block.language[..]).collect();
        assert_eq!(languages, LANGUAGES, "{kind}");
        for block in &shown {
            let Some(program) = Program::prepare(block) else {
                eprintln!("{PAGE}: {kind} in {} was not run: it is not installed", block.language);
                continue;
            };
            for case in &cases {
                let output = program.run(case.secret, &case.arguments, &case.body);
                let believed = output.status.success() && output.stdout == b"ok\n";
                let refused = !output.status.success() && output.stdout.is_empty();
                let right = if case.is_good { believed } else { refused };
                assert!(right, "{kind} in {}: {}: {output:?}", block.language, case.what);
            }
            ran += 1;
        }
    }
    // Rust, at least, is here.
    assert!(ran >= 2, "only {ran} were run");
}

#[tokio::test]
async fn what_the_page_signs_is_believed() {
    let block =
        blocks(&read(PAGE)).into_iter().find(|block| block.kind == "sign").expect("a program that signs");
    let Some(program) = Program::prepare(&block) else {
        eprintln!("{PAGE}: the program that signs was not run: openssl or curl is not installed");
        return;
    };
    let mut receiver = Receiver::start().await;
    let url = receiver.url("/hook");
    let body = "{\"text\":\"Grüße\"}\n";
    let running = tokio::task::spawn_blocking(move || program.run(SECRET, &[url], body.as_bytes()));
    let output = running.await.unwrap();
    assert!(output.status.success() && output.stdout == b"200\n", "{output:?}");
    let seen = receiver.next().await;
    assert_eq!(seen.body, body);
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(&seen.body, &seen.headers).unwrap();
    let secret = posthaste::types::secret::SigningSecret::parse(SECRET).unwrap();
    posthaste::signing::verify_hex(&secret, seen.header("x-webhook-signature"), &seen.body).unwrap();
}
