//! Wire formats in the style of other services: receivers that integrators wrote for those verify what Posthaste sends. They are
//! Python, and run as it.

mod ed25519;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::text;
use crate::helpers::{Receiver, app::Tenant, receiver::Seen, spawn};

/// Longer than any of them takes a request to be fresh.
const STALE_S: u64 = 301;

/// A running Python that verifies requests.
struct Python {
    process: Child,
    requests: ChildStdin,
    verdicts: BufReader<ChildStdout>,
}

impl Python {
    fn start() -> Self {
        let mut process = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/api/styles/receivers.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need python3");
        let requests = process.stdin.take().unwrap();
        let verdicts = BufReader::new(process.stdout.take().unwrap());
        Self { process, requests, verdicts }
    }

    /// What the receiver of this style says, that has this key and whose clock is so many seconds ahead.
    fn verdict(&mut self, style: &str, key: &str, seen: &Seen, ahead_s: u64) -> String {
        let headers: BTreeMap<&str, &str> =
            seen.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + ahead_s;
        self.ask(&json!({"style": style, "key": key, "headers": headers, "body": STANDARD.encode(&seen.body),
            "now": now}))
    }

    fn ask(&mut self, request: &Value) -> String {
        writeln!(self.requests, "{request}").unwrap();
        let mut verdict = String::new();
        self.verdicts.read_line(&mut verdict).unwrap();
        verdict.trim_end().to_owned()
    }

    #[track_caller]
    fn accepts(&mut self, style: &str, key: &str, seen: &Seen) {
        assert_eq!(self.verdict(style, key, seen, 0), "ok", "{style}: {seen:?}");
    }

    #[track_caller]
    fn refuses(&mut self, style: &str, key: &str, seen: &Seen) {
        let verdict = self.verdict(style, key, seen, 0);
        assert!(verdict != "ok" && !verdict.is_empty(), "{style}: {seen:?}");
    }

    #[track_caller]
    fn refuses_when_stale(&mut self, style: &str, key: &str, seen: &Seen) {
        let verdict = self.verdict(style, key, seen, STALE_S);
        assert!(verdict != "ok" && !verdict.is_empty(), "{style}: {seen:?}");
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn sent(tenant: &Tenant, receiver: &mut Receiver) -> (Value, Seen) {
    let data = json!({"text": "नमस्ते, ça va? 😀 \u{2028}", "n": 1.0, "b": {"2": [], "1": null}});
    let event = tenant.publish("message.incoming", data).await;
    (event, receiver.next().await)
}

async fn rotate(tenant: &Tenant, endpoint: &Value, body: Value) -> Value {
    let path = format!("/v1/endpoints/{}/secret/rotate", text(endpoint, "id"));
    tenant.client.post(&path, body).await.expect(200)
}

fn tampered(seen: &Seen) -> Seen {
    let body = std::str::from_utf8(&seen.body).unwrap().replace("ça va", "ca va");
    assert_ne!(body.as_bytes(), &seen.body[..]);
    Seen { body: body.into(), ..seen.clone() }
}

fn with_header(seen: &Seen, name: &'static str, value: &str) -> Seen {
    let mut changed = seen.clone();
    assert!(changed.headers.insert(name, value.parse().unwrap()).is_some(), "{name}");
    changed
}

/// What previews are signed at: 2026-11-20T10:00:00Z.
const PREVIEWED_S: u64 = 1_795_168_800;

/// A receiver's code can be tried on a preview before anything is sent.
#[track_caller]
fn verifies_preview(python: &mut Python, style: &str, key: &str, shown: &Value) {
    let body = STANDARD.encode(text(shown, "body"));
    let mut request =
        json!({"style": style, "key": key, "headers": shown["headers"], "body": body, "now": PREVIEWED_S});
    assert_eq!(python.ask(&request), "ok", "{shown}");
    request["body"] = json!(STANDARD.encode(text(shown, "body").replace('1', "2")));
    assert_ne!(python.ask(&request), "ok", "{shown}");
}

#[tokio::test]
async fn a_preview_verifies_in_every_style() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let mut python = Python::start();
    for style in ["stripe", "github", "shopify", "slack"] {
        let preview =
            json!({"format": style, "event": {"type": "message.sent", "data": {"n": 1, "text": "ñ"}}});
        let shown = tenant.client.post("/v1/formats/preview", preview).await.expect(200);
        assert_eq!(shown["signed_with"]["public_key"], Value::Null);
        verifies_preview(&mut python, style, text(&shown["signed_with"], "secret"), &shown);
    }
    app.stop().await;
}

/// The event's own receiver, plain, tampered with, and with the secret of somebody else.
async fn verifies(python: &mut Python, style: &str) -> Seen {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/"), json!({"format": style})).await;
    assert_eq!(endpoint.get("public_key"), None);
    let old = text(&endpoint, "secret").to_owned();
    let (event, seen) = sent(&tenant, &mut receiver).await;
    assert_eq!(seen.json()["id"], event["id"]);
    assert_eq!(seen.json()["type"], "message.incoming");
    python.accepts(style, &old, &seen);
    python.refuses(style, &old, &tampered(&seen));
    python.refuses(style, &old.replace("whsec_", ""), &seen);

    // History shows the request as it was sent, whatever the headers are called.
    let done = tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
    let told = done["attempts"][0]["request"]["headers"].as_object().unwrap();
    for (name, value) in told {
        assert_eq!(value, seen.header(name), "{name}");
    }
    assert!(told.keys().any(|name| name.contains(style) || name.contains("hub")), "{told:?}");

    // Over a rotation, both secrets verify where the header has room for both.
    let rotated = rotate(&tenant, &endpoint, json!({"grace_period_s": 600})).await;
    assert_eq!(rotated["public_key"], Value::Null);
    let new = text(&rotated, "secret");
    let (_, during) = sent(&tenant, &mut receiver).await;
    python.accepts(style, new, &during);
    python.refuses(style, new, &tampered(&during));
    match style {
        "stripe" => python.accepts(style, &old, &during),
        _ => python.refuses(style, &old, &during),
    }
    // A secret of the service's own look, brought along: the receiver keeps what it is configured with.
    let brought = "8f742231b10e8888abcd99yyyzzz85a5";
    rotate(&tenant, &endpoint, json!({"secret": brought, "grace_period_s": 0})).await;
    let (_, after) = sent(&tenant, &mut receiver).await;
    python.accepts(style, brought, &after);
    python.refuses(style, new, &after);
    app.stop().await;
    during
}

#[tokio::test]
async fn a_receiver_for_stripe_verifies_its_style() {
    let mut python = Python::start();
    let seen = verifies(&mut python, "stripe").await;
    let header = seen.header("stripe-signature");
    let names: Vec<&str> = header.split(',').map(|item| item.split_once('=').unwrap().0).collect();
    assert_eq!(names, ["t", "v1", "v1"], "one time, and a signature for each secret");
    assert_eq!(header.split(',').next().unwrap(), format!("t={}", seen.header("webhook-timestamp")));
    let keys: Vec<String> = seen.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["id", "object", "api_version", "created", "data", "livemode", "type"]);
}

#[tokio::test]
async fn a_receiver_for_github_verifies_its_style() {
    let seen = verifies(&mut Python::start(), "github").await;
    assert_eq!(seen.header("webhook-timestamp"), "", "which nothing would vouch for");
}

#[tokio::test]
async fn a_receiver_for_shopify_verifies_its_style() {
    verifies(&mut Python::start(), "shopify").await;
}

#[tokio::test]
async fn a_receiver_for_slack_verifies_its_style() {
    let seen = verifies(&mut Python::start(), "slack").await;
    assert_eq!(seen.header("webhook-timestamp"), "", "it has another name");
}

#[tokio::test]
async fn replays_are_refused_where_the_style_tells_the_time() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let mut python = Python::start();
    let secret = "8f742231b10e8888abcd99yyyzzz85a5";
    for style in ["stripe", "slack"] {
        let fields = json!({"format": style, "secret": secret, "event_types": ["message.incoming"]});
        let endpoint = tenant.endpoint(&receiver.url("/"), fields).await;
        let (_, seen) = sent(&tenant, &mut receiver).await;
        python.accepts(style, secret, &seen);
        python.refuses_when_stale(style, secret, &seen);
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let later = (now_s + 60).to_string();
        let moved = match style {
            "slack" => with_header(&seen, "x-slack-request-timestamp", &later),
            _ => {
                let (_, signature) = seen.header("stripe-signature").split_once(',').unwrap();
                with_header(&seen, "stripe-signature", &format!("t={later},{signature}"))
            }
        };
        python.refuses(style, secret, &moved);
        let path = format!("/v1/endpoints/{}", text(&endpoint, "id"));
        tenant.client.delete(&path).await.expect(204);
    }
    app.stop().await;
}
