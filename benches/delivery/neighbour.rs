//! What a tenant notices of another one with much waiting for an endpoint that hangs.

use super::{
    Bench, DATA_BYTES,
    http::{HANG, closed_loop},
    latency::at_rate,
    report::Section,
};

const RATE_PER_S: f64 = 300.0;
const WAITING: usize = 100_000;
/// Events of one batch request.
const BATCH_EVENTS: usize = 1_000;
const BATCH_CONNECTIONS: usize = 2;

pub async fn measure(bench: &mut Bench, report: &mut Vec<Section>) {
    let well = bench.program.tenant("well").await;
    well.endpoint(&bench.hook(""), "message.incoming").await;
    let alone = at_rate(bench, &well, RATE_PER_S).await;

    let ill = bench.program.tenant("ill").await;
    ill.endpoint(&bench.url(HANG), "message.incoming").await;
    let batch = ill.publish_batch("message.incoming", DATA_BYTES, BATCH_EVENTS);
    let requests = WAITING / BATCH_EVENTS;
    closed_loop(bench.program.address, &batch, BATCH_CONNECTIONS, move |number| number < requests).await;
    let beside = at_rate(bench, &well, RATE_PER_S).await;

    let about = format!(
        "{RATE_PER_S:.0}/s to an endpoint that answers, {WAITING} waiting for another tenant's that hangs"
    );
    let mut section = Section::new("neighbour", about);
    for (name, latencies) in [("alone", &alone), ("beside the one that hangs", &beside)] {
        section.chart(format!("p50 {name}"), latencies.quantile_ms(0.5), "ms");
        section.chart(format!("p99 {name}"), latencies.quantile_ms(0.99), "ms");
    }
    section.say("p99 beside / alone", beside.quantile_ms(0.99) / alone.quantile_ms(0.99), "");
    section.print();
    report.push(section);
}
