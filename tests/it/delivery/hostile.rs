//! A hundred receivers that mean harm, all at once, beside a healthy one; and the way out through a proxy.

use std::{collections::BTreeSet, process::Stdio, sync::Arc};

use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::timeout};

use crate::helpers::{
    Receiver, Tenant, TestApp,
    app::{arguments, settings},
    client::PATIENCE,
    cluster::fresh_database,
    hostile::{Authority, Hanging, Hostile},
    process::Process,
};

const HOSTILE: usize = 100;
/// Deliveries to each of them. All of them together fit into the 512 slots: the healthy one is not to wait for a slot.
const EACH: usize = 2;
const HEALTHY_EVENTS: usize = 500;
const SLOTS: f64 = 512.0;

/// A sample of the metrics; 0 where there is none.
async fn metric(app: &TestApp, sample: &str) -> f64 {
    let text = app.anonymous().get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}

async fn hostile_endpoint(tenant: &Tenant, hostile: &Hostile) -> Value {
    // One attempt each: the retry is an hour away.
    let fields = json!({
        "event_types": ["message.sent"], "timeout_ms": hostile.timeout_ms, "retry_schedule_s": [3600],
        "name": hostile.kind,
    });
    tenant.endpoint(&hostile.url, fields).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_hostile_receivers_leave_a_healthy_one_alone() {
    let authority = Authority::new();
    let hanging = Hanging {
        arrived: Arc::new(Semaphore::new(0)),
        given_up: Arc::new(Semaphore::new(0)),
        released: Arc::new(Semaphore::new(0)),
    };
    let kinds = Hostile::all(&authority, &hanging).await;
    // A process of its own, so that its metrics are of this test alone.
    let directory = tempfile::tempdir().expect("a directory");
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).expect("written");
    let (database, _) = fresh_database().await;
    let settings = settings(&database, &[]);
    let arguments = arguments(&settings);
    let mut line = vec!["serve", "--egress-ca-file", ca.to_str().unwrap()];
    line.extend(arguments.iter().map(String::as_str));
    let mut process = Process::start(&line, &[], directory.path());
    let base = process.line("listening on ").await;
    let operator_key = settings.operator_key.clone().unwrap();
    let app = TestApp { app: None, base, operator_key, settings, database };

    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let fields = json!({"event_types": ["message.incoming"]});
    tenant.endpoint(&receiver.url("/healthy"), fields).await;
    let mut endpoints = Vec::new();
    for hostile in kinds.iter().cycle().take(HOSTILE) {
        endpoints.push((hostile, hostile_endpoint(&tenant, hostile).await));
    }
    let hang = endpoints.iter().filter(|(hostile, _)| hostile.kind.starts_with("hangs")).count() * EACH;
    assert!(hang > 0);

    tenant.publish_batch("message.sent", EACH).await;
    let all_hang = hanging.arrived.acquire_many(hang.try_into().unwrap());
    let _all_hang = timeout(PATIENCE, all_hang).await.expect("they hang").expect("open");
    let events = tenant.publish_batch("message.incoming", HEALTHY_EVENTS).await;
    let seen = receiver.take(HEALTHY_EVENTS).await;
    let arrived: BTreeSet<&str> = seen.iter().map(|one| one.header("webhook-id")).collect();
    assert_eq!(arrived, events.iter().map(String::as_str).collect());
    assert_eq!(hanging.given_up.available_permits(), 0, "the others hung all the while");
    let open = metric(&app, "posthaste_egress_connections").await;
    assert!(
        open >= hang as f64 && open <= metric(&app, "posthaste_egress_connections_limit").await,
        "{open}"
    );
    assert!(metric(&app, "posthaste_attempts_in_flight").await <= SLOTS);

    hanging.released.close();
    let mut classes = BTreeSet::new();
    for (hostile, endpoint) in &endpoints {
        let path = format!("/v1/endpoints/{}/attempts", endpoint["id"].as_str().unwrap());
        let attempts =
            tenant.client.get_until(&path, |page| page["data"].as_array().unwrap().len() == EACH).await;
        for attempt in attempts["data"].as_array().unwrap() {
            assert_eq!(attempt["error"].as_str(), hostile.error, "{}: {attempt}", hostile.kind);
            let is_told = attempt["diagnosis"].as_str().is_some_and(|text| text.len() > 20);
            assert_eq!(is_told, hostile.error.is_some(), "{attempt}");
            let body = attempt["response"]["body"].as_str().unwrap_or_default();
            assert!(body.len() <= 16 * 1024);
        }
        classes.extend(hostile.error);
    }
    for class in classes {
        let sample = format!(r#"posthaste_attempts_total{{outcome="failed",error="{class}"}}"#);
        assert!(metric(&app, &sample).await >= EACH as f64, "{class}");
    }
    let (opened, reused) = (
        metric(&app, "posthaste_egress_connections_opened_total").await,
        metric(&app, "posthaste_egress_connections_reused_total").await,
    );
    assert!(reused > 0.0 && opened + reused >= HEALTHY_EVENTS as f64, "{opened} opened, {reused} reused");
    process.signal("TERM");
    assert!(process.wait().await.success());
}

#[tokio::test]
async fn a_proxy_that_is_none_stops_the_start_and_keeps_its_password() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_posthaste"));
    command.arg("serve").env_clear().current_dir(directory.path()).stdin(Stdio::null());
    command.env("POSTHASTE_EGRESS_PROXY", "socks5://user:s3cret@proxy:1080");
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("POSTHASTE_EGRESS_PROXY") && !said.contains("s3cret"), "{said}");
    assert!(!directory.path().join("data").exists(), "nothing was begun");
}
