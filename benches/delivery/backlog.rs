//! Draining what has piled up: endpoints that were paused, with a million deliveries, go on.

use std::time::Instant;

use serde_json::json;

use super::{
    Bench, DATA_BYTES,
    http::closed_loop,
    report::Section,
    usage::{self, Usage},
};

const ENDPOINTS: usize = 10;
/// Events of one batch request.
const BATCH_EVENTS: usize = 500;
const BATCH_CONNECTIONS: usize = 4;

pub async fn measure(bench: &mut Bench, report: &mut Vec<Section>) {
    let tenant = bench.program.tenant("backlog").await;
    let mut endpoints = Vec::new();
    for place in 0..ENDPOINTS {
        let endpoint = tenant.endpoint(&bench.hook(&format!("?to={place}")), "message.incoming").await;
        tenant.post(&format!("/v1/endpoints/{endpoint}/pause"), json!({})).await;
        endpoints.push(endpoint);
    }
    let batch = tenant.publish_batch("message.incoming", DATA_BYTES, BATCH_EVENTS);
    let requests = bench.backlog / ENDPOINTS / BATCH_EVENTS;
    let rows = requests * BATCH_EVENTS * ENDPOINTS;
    let started = Instant::now();
    closed_loop(bench.program.address, &batch, BATCH_CONNECTIONS, move |number| number < requests).await;
    let filled = started.elapsed();
    let waiting_kib = usage::now_kib(bench.program.pid);

    bench.sink.begin(None);
    let before = Usage::of(bench.program.pid, bench.program.postmaster);
    let started = Instant::now();
    for endpoint in &endpoints {
        tenant.post(&format!("/v1/endpoints/{endpoint}/resume"), json!({})).await;
    }
    bench.sink.wait_for(rows).await;
    let drained = started.elapsed();
    bench.program.idle().await;
    let after = Usage::of(bench.program.pid, bench.program.postmaster);

    let mut section =
        Section::new("backlog", format!("{rows} deliveries to {ENDPOINTS} endpoints that were paused"));
    section.chart("rows taken in while paused", rows as f64 / filled.as_secs_f64(), "/s");
    section.chart("deliveries once resumed", rows as f64 / drained.as_secs_f64(), "/s");
    section.say("CPU of Posthaste, each", (after.program_us - before.program_us) / rows as f64, "µs");
    section.say("CPU of Postgres, each", (after.postgres_us - before.postgres_us) / rows as f64, "µs");
    section.say("memory of the program, all waiting", waiting_kib as f64 / 1024.0, "MiB");
    section.say(
        "memory of the program at its peak",
        usage::peak_kib(bench.program.pid) as f64 / 1024.0,
        "MiB",
    );
    section.print();
    report.push(section);
}
