//! From publish to receipt, at fixed rates.

use super::{
    Bench, DATA_BYTES,
    http::open_loop,
    program::Tenant,
    report::Section,
    stopwatch::{Latencies, Stopwatch},
    throughput::Throughput,
};

/// The rate that peers are compared at.
const LOW_RATE_PER_S: f64 = 300.0;
const SHARES: [f64; 3] = [0.1, 0.5, 0.9];
/// Rates below this share of the throughput are in the chart.
const CHARTED_SHARE: f64 = 0.8;
/// So many that none is waited for, up to full load.
const OPEN_CONNECTIONS: usize = 256;
/// The first part of the events warms up.
const WARM_UP: f64 = 0.1;

pub async fn measure(bench: &mut Bench, throughput: &Throughput, report: &mut Vec<Section>) {
    let tenant = bench.program.tenant("latency").await;
    tenant.endpoint(&bench.hook(""), "message.incoming").await;
    let about = format!("publish to receipt, open loop, {} s each, {DATA_BYTES} bytes", bench.seconds);
    let mut section = Section::new("latency", about);
    let shares =
        SHARES.map(|share| (format!("{:.0} % of throughput", share * 100.0), share * throughput.per_s));
    let rates = std::iter::once((format!("{LOW_RATE_PER_S:.0}/s"), LOW_RATE_PER_S)).chain(shares);
    for (name, rate) in rates {
        let latencies = at_rate(bench, &tenant, rate).await;
        // Near the limit a queue grows: its bar would hide the others.
        let is_charted = rate < throughput.per_s * CHARTED_SHARE;
        for (quantile, called) in [(0.5, "p50"), (0.99, "p99")] {
            let (name, ms) = (format!("{called} at {name}"), latencies.quantile_ms(quantile));
            if is_charted {
                section.chart(name, ms, "ms")
            } else {
                section.say(name, ms, "ms")
            };
        }
        section.say(format!("largest at {name}"), latencies.max_ms(), "ms");
    }
    section.print();
    report.push(section);
}

/// Events of `message.incoming` at a fixed rate; every one of them arrives.
pub async fn at_rate(bench: &mut Bench, tenant: &Tenant, rate_per_s: f64) -> Latencies {
    // What the load before has left to be flushed is not this one's.
    bench.program.run("CHECKPOINT").await;
    let count = (rate_per_s * f64::from(bench.seconds)) as usize;
    let watch = Stopwatch::new(count);
    bench.sink.begin(Some(watch.clone()));
    let request = tenant.publish("message.incoming", DATA_BYTES);
    open_loop(bench.program.address, &request, OPEN_CONNECTIONS, rate_per_s, count, &watch).await;
    bench.sink.wait_for(count).await;
    bench.sink.begin(None);
    watch.latencies((count as f64 * WARM_UP) as usize)
}
