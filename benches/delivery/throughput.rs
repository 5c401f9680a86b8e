//! How much goes through, published as fast as the answers come: one by one, to ten endpoints each, and in batches; and what
//! each delivery costs.

use std::time::{Duration, Instant};

use super::{
    Bench, CONNECTIONS, DATA_BYTES,
    http::{Request, closed_loop},
    limits::Limits,
    program::Counters,
    report::Section,
    usage::{self, Usage},
};

const FAN_OUT: usize = 10;
/// Events of one batch request.
const BATCH_EVENTS: usize = 100;
const BATCH_CONNECTIONS: usize = 8;
const WARM_UP_REQUESTS: usize = 512;

/// Deliveries a second, published one by one to one endpoint.
pub struct Throughput {
    pub per_s: f64,
}

struct Cost {
    events: usize,
    deliveries: usize,
    wall: Duration,
    before: Usage,
    after: Usage,
    counted_before: Counters,
    counted_after: Counters,
}

impl Cost {
    fn per_s(&self) -> f64 {
        self.deliveries as f64 / self.wall.as_secs_f64()
    }

    fn each(&self, total: f64) -> f64 {
        total / self.deliveries.max(self.events) as f64
    }

    /// WAL bytes, whole pages among them, transactions.
    fn counted(&self, what: fn(Counters) -> i64) -> f64 {
        self.each((what(self.counted_after) - what(self.counted_before)) as f64)
    }

    fn program_us(&self) -> f64 {
        self.each(self.after.program_us - self.before.program_us)
    }

    fn postgres_us(&self) -> f64 {
        self.each(self.after.postgres_us - self.before.postgres_us)
    }
}

pub async fn measure(bench: &mut Bench, limits: &Limits, report: &mut Vec<Section>) -> Throughput {
    let tenant = bench.program.tenant("throughput").await;
    tenant.endpoint(&bench.hook(""), "message.incoming").await;
    for place in 0..FAN_OUT {
        tenant.endpoint(&bench.hook(&format!("?to={place}")), "message.delivered").await;
    }
    let single = |event_type| (tenant.publish(event_type, DATA_BYTES), CONNECTIONS);
    // Events that nobody gets: what an event costs by itself.
    let alone = run(bench, single("message.sent"), 0).await;
    let one = run(bench, single("message.incoming"), 1).await;
    let ten = run(bench, single("message.delivered"), FAN_OUT).await;
    let batch = (tenant.publish_batch("message.incoming", DATA_BYTES, BATCH_EVENTS), BATCH_CONNECTIONS);
    let batch = run(bench, batch, 1).await;

    let about = format!("{} s each, {DATA_BYTES} bytes of data, publish to last receipt", bench.seconds);
    let mut section = Section::new("throughput", about);
    let runs = [
        ("published singly", &one),
        ("published singly to 10 endpoints", &ten),
        ("published 100 at once", &batch),
    ];
    for (name, cost) in &runs {
        section.chart(format!("deliveries {name}"), cost.per_s(), "/s");
        section.say(format!("of raw POSTs by our own client, {name}"), cost.per_s() / limits.own_per_s, "");
        section.say(format!("of raw POSTs, reqwest to axum, {name}"), cost.per_s() / limits.usual_per_s, "");
    }
    section.say("events that nobody gets", alone.events as f64 / alone.wall.as_secs_f64(), "/s");
    section.say(
        "memory of the program at its peak",
        usage::peak_kib(bench.program.pid) as f64 / 1024.0,
        "MiB",
    );
    section.print();
    report.push(section);

    let mut section = Section::new("cost", "of one delivery, from publish to finish");
    for (name, cost) in &runs {
        section.chart(format!("Posthaste, {name}"), cost.program_us(), "µs");
        section.chart(format!("Postgres, {name}"), cost.postgres_us(), "µs");
    }
    section.say("an event that nobody gets", alone.program_us() + alone.postgres_us(), "µs");
    let wal = alone.counted(|counted| counted.wal_bytes);
    section.say("WAL of an event that nobody gets", wal, "bytes");
    for (name, cost) in &runs {
        let events = cost.events as f64 / cost.deliveries as f64;
        let besides = cost.counted(|counted| counted.wal_bytes) - wal * events;
        section.say(format!("WAL of a delivery besides, {name}"), besides, "bytes");
        let images = cost.counted(|counted| counted.page_images);
        section.say(format!("pages written whole after a checkpoint, {name}"), images, "");
        let transactions = cost.counted(|counted| counted.transactions);
        section.say(format!("transactions, {name}"), transactions, "");
    }
    section.print();
    report.push(section);
    Throughput { per_s: one.per_s() }
}

async fn run(bench: &mut Bench, (request, connections): (Request, usize), fan_out: usize) -> Cost {
    let address = bench.program.address;
    let warm = closed_loop(address, &request, connections, |number| number < WARM_UP_REQUESTS).await;
    bench.sink.wait_for(warm.0 * request.events() * fan_out).await;
    bench.program.idle().await;
    bench.program.run("CHECKPOINT").await;
    let counted_before = bench.program.counters().await;
    bench.sink.begin(None);
    let before = Usage::of(bench.program.pid, bench.program.postmaster);
    let (until, started) = (bench.until(), Instant::now());
    let (requests, _) = closed_loop(address, &request, connections, move |_| Instant::now() < until).await;
    let events = requests * request.events();
    bench.sink.wait_for(events * fan_out).await;
    let wall = started.elapsed();
    bench.program.idle().await;
    let after = Usage::of(bench.program.pid, bench.program.postmaster);
    let counted_after = bench.program.counters().await;
    bench.sink.begin(None);
    Cost { events, deliveries: events * fan_out, wall, before, after, counted_before, counted_after }
}
