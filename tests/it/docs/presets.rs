//! Each preset's page shows what an integrator really gets.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use posthaste::{signing, types::secret::SigningSecret};
use serde_json::{Value, json};

use super::page::{blocks, quoted, read, rows};
use crate::helpers::{Receiver, spawn};

const PRESETS: [&str; 6] =
    ["standard", "messagesync", "whatsable", "aisoule", "whatssync", "whatsapp_platform"];
const MAX_LINES: usize = 120;
/// When that happened which the pages show.
const AT: &str = "2026-11-20T09:14:52.381Z";
/// What every HTTP request has.
const HTTP_HEADERS: [&str; 2] = ["host", "content-length"];

/// The request that a page shows.
struct Sample {
    headers: HeaderMap,
    body: Value,
    secret: String,
}

impl Sample {
    fn of(page: &str) -> Self {
        let block = blocks(page).into_iter().find(|block| block.language == "http").expect("a request");
        let (head, body) = block.text.split_once("\n\n").expect("a body");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        };
        let secret =
            page.lines().find(|line| line.starts_with("This one is signed with")).expect("its secret");
        Self {
            headers: head.lines().map(header).collect(),
            body: serde_json::from_str(body).expect("JSON"),
            secret: quoted(secret)[0].to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// `body` with what is another one each time taken out.
fn lasting(mut body: Value) -> Value {
    for name in ["id", "location_id"] {
        if let Some(value) = body.get_mut(name) {
            let (prefix, _) = value.as_str().unwrap().split_once('_').unwrap();
            *value = json!(prefix);
        }
    }
    body
}

#[tokio::test]
async fn the_sample_of_each_page_is_what_is_sent() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    for preset in PRESETS {
        let page = read(&format!("docs/presets/{preset}.md"));
        let sample = Sample::of(&page);
        let tenant = app.tenant_with(json!({"preset": preset})).await;
        tenant.endpoint(&receiver.url("/hook"), json!({"event_types": ["*"], "secret": sample.secret})).await;
        let first = |names: [&str; 2]| names.iter().find_map(|name| sample.body.get(*name).cloned());
        // Bare data says neither its type nor its time.
        let event_type = first(["type", "event"]).unwrap_or_else(|| json!("message.incoming"));
        let data = match sample.body.get("data") {
            Some(data) => data.get("object").unwrap_or(data).clone(),
            None => sample.body.clone(),
        };
        tenant.try_publish(json!({"type": event_type, "timestamp": AT, "data": data})).await.expect(202);

        let seen = receiver.next().await;
        // As text, since the order counts.
        assert_eq!(lasting(seen.json()).to_string(), lasting(sample.body.clone()).to_string(), "{preset}");
        let names: BTreeSet<&str> = seen.headers.keys().map(|name| name.as_str()).collect();
        let shown = sample.headers.keys().map(|name| name.as_str()).chain(HTTP_HEADERS);
        assert_eq!(names, shown.collect::<BTreeSet<_>>(), "{preset}");
        assert_eq!(seen.header("content-type"), sample.header("content-type").unwrap());

        let written = sample.body.to_string();
        let secret = SigningSecret::parse(&sample.secret).unwrap();
        let hex = sample.header("x-webhook-signature").or(sample.header("x-whatsync-signature")).unwrap();
        signing::verify_hex(&secret, hex, written.as_bytes()).expect("the page's signature is its body's");
        if let Some(at_s) = sample.header("webhook-timestamp") {
            signing::verify(&secret, &sample.headers, written.as_bytes(), at_s.parse().unwrap()).unwrap();
        }
    }
    app.stop().await;
}

#[test]
fn each_page_lists_the_types_of_its_preset_and_is_short() {
    for preset in PRESETS {
        let page = read(&format!("docs/presets/{preset}.md"));
        assert!(page.lines().count() <= MAX_LINES, "{preset}");
        let file: Value = serde_json::from_str(&read(&format!("presets/{preset}.json"))).unwrap();
        let types: Vec<&str> =
            file["event_types"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        let shown: Vec<&str> = rows(&page)
            .into_iter()
            .skip_while(|cells| cells[0] != "event type")
            .skip(2)
            .take(types.len())
            .filter_map(|cells| quoted(cells[0]).first().copied())
            .collect();
        assert_eq!(shown, types, "{preset}");
    }
}

#[test]
fn the_headers_on_the_page_of_programs_are_those_of_the_standard_request() {
    let (verify, standard) = (read("docs/verify.md"), read("docs/presets/standard.md"));
    let shown: Vec<&str> = verify.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature", "x-webhook-signature"] {
        let header = standard.lines().find(|line| line.starts_with(&format!("{name}: "))).expect(name);
        assert!(shown.contains(&header), "{header}");
    }
}
