//! Metrics: what `docs/metrics.md` says, all of it and nothing else, and where it is served.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::json;

use crate::helpers::{Answer, Receiver, client::Client, spawn, spawn_with};

/// Name to type and labels, as documented.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(path).expect("docs/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `posthaste_"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').splitn(4, '|').map(str::trim).collect();
        let labels = cells[2].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels))
    };
    rows.map(row).collect()
}

/// Name to type and labels, as exported; every line is in the form that Prometheus reads.
fn exported(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, told) = rest.split_once(' ').expect("a help text");
            assert!(!told.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(found.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new())).is_none(), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a value");
            value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            let (name, labels) =
                sample.strip_suffix('}').map_or((sample, ""), |inner| inner.split_once('{').expect("{"));
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|part| name.strip_suffix(part))
                .find(|family| found.get(*family).is_some_and(|(kind, _)| kind == "histogram"))
                .unwrap_or(name);
            let (_, known) = found.get_mut(family).unwrap_or_else(|| panic!("{line} comes before its type"));
            let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            known.extend(names.filter(|name| *name != "le").map(str::to_owned));
        }
    }
    assert!(found.keys().all(|name| helped.contains(name)), "every metric has a help text");
    found
}

async fn scraped(client: &Client) -> String {
    let reply = client.get("/metrics").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    reply.text
}

fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{text}")).parse().expect("a number")
}

#[tokio::test]
async fn what_is_documented_is_exported_and_nothing_else() {
    let (mut app, receiver) = (spawn().await, Receiver::start().await);
    receiver.script("/gone", [Answer::status(410)]);
    let tenant = app.tenant().await;
    let good = tenant.endpoint(&receiver.url("/good"), json!({})).await;
    let gone = tenant.endpoint(&receiver.url("/gone"), json!({})).await;
    let event = tenant.publish("message.incoming", json!({})).await;
    tenant.delivery_when(&event, &good, |delivery| delivery["status"] == "succeeded").await;
    tenant.delivery_when(&event, &gone, |delivery| delivery["status"] == "failed").await;
    let text = scraped(&app.anonymous()).await;
    assert_eq!(exported(&text), documented());
    // Of this process, in which other tests run too.
    for sample in [
        "posthaste_events_accepted_total",
        r#"posthaste_attempts_total{outcome="succeeded",error="none"}"#,
        r#"posthaste_attempts_total{outcome="failed",error="response_status"}"#,
        r#"posthaste_deliveries_finished_total{outcome="succeeded"}"#,
        r#"posthaste_deliveries_finished_total{outcome="failed"}"#,
        r#"posthaste_http_requests_total{method="POST",route="/v1/locations/{location_id}/events",status="202"}"#,
        "posthaste_ingest_batch_events_count",
        "posthaste_finish_duration_seconds_count",
        "posthaste_process_resident_memory_bytes",
    ] {
        assert!(value(&text, sample) >= 1.0, "{sample}");
    }
    for id in [&tenant.id, good["id"].as_str().unwrap(), event["id"].as_str().unwrap(), "127.0.0.1"] {
        assert!(!text.contains(id), "{id} is a label");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_path_that_somebody_makes_up_is_no_label() {
    let mut app = spawn().await;
    let client = app.anonymous();
    client.get("/v1/made-up-by-somebody").await.problem(404);
    client.send(reqwest::Method::from_bytes(b"MADEUP").unwrap(), "/healthz", None).await.problem(405);
    let text = scraped(&client).await;
    assert!(!text.contains("made-up") && !text.contains("MADEUP"), "{text}");
    assert!(value(&text, r#"posthaste_http_requests_total{method="GET",route="none",status="404"}"#) >= 1.0);
    app.stop().await;
}

#[tokio::test]
async fn they_can_have_an_address_of_their_own() {
    let mut app = spawn_with(&["--metrics-listen", "127.0.0.1:0"]).await;
    app.anonymous().get("/metrics").await.problem(404);
    let address = app.app.as_ref().and_then(|app| app.metrics_address).expect("an address");
    let alone = Client::new(&format!("http://{address}"), None).elsewhere();
    assert!(scraped(&alone).await.contains("posthaste_build_info{"));
    for path in ["/healthz", "/v1/me", "/openapi.json"] {
        alone.get(path).await.problem(404);
    }
    app.stop().await;
}
