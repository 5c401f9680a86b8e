//! The machine's own limits, in the same run: raw POSTs and a bare INSERT loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use posthaste::egress::{EndpointUrl, Outbound, Policy, PolicySettings, SchemeRule, Sender, SenderOptions};

use super::{
    Bench, CONNECTIONS, DATA_BYTES,
    http::{Request, closed_loop},
    report::Section,
    usage,
};

const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// Rows of one INSERT.
const ROWS: i32 = 200;

pub struct Limits {
    /// Raw POSTs a second by the client that Posthaste sends with.
    pub raw_per_s: f64,
}

pub async fn measure(bench: &mut Bench, report: &mut Vec<Section>) -> Limits {
    let mut section = Section::new(
        "limits",
        format!("what this machine does without a queue, {DATA_BYTES} bytes, {CONNECTIONS} at once"),
    );
    let until = bench.until();
    let request = Request::new("/raw", "", &"x".repeat(DATA_BYTES));
    bench.sink.begin(None);
    let before = usage::own_cpu_us();
    let (count, took) =
        closed_loop(bench.sink.address, &request, CONNECTIONS, move |_| Instant::now() < until).await;
    section.chart("raw POSTs, least client", count as f64 / took.as_secs_f64(), "/s");
    section.say("  CPU each, both sides", (usage::own_cpu_us() - before) / count as f64, "µs");

    let before = usage::own_cpu_us();
    let (count, took) = sender(bench).await;
    let raw_per_s = count as f64 / took.as_secs_f64();
    section.chart("raw POSTs, Posthaste's own client", raw_per_s, "/s");
    section.say("  CPU each, both sides", (usage::own_cpu_us() - before) / count as f64, "µs");

    section.chart("rows INSERTed, 200 a commit, durable", inserts(bench).await, "/s");
    section.print();
    report.push(section);
    Limits { raw_per_s }
}

/// The same client, the same receiver, no queue.
async fn sender(bench: &Bench) -> (usize, Duration) {
    let settings = PolicySettings {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        allow_http: true,
        ..PolicySettings::default()
    };
    let policy = Arc::new(Policy::new(settings));
    let url = format!("http://{}/raw", bench.sink.address);
    let url: Arc<EndpointUrl> =
        Arc::new(policy.parse_url(&url, SchemeRule { format_allows_http: true }).unwrap());
    let options = SenderOptions { max_idle_per_host: CONNECTIONS, ..SenderOptions::default() };
    let sender = Sender::new(policy, options).unwrap();
    let (until, sent, started) = (bench.until(), Arc::new(AtomicUsize::new(0)), Instant::now());
    let body = Bytes::from("x".repeat(DATA_BYTES));
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (sender, sent, body, url) =
                (sender.clone(), Arc::clone(&sent), body.clone(), Arc::clone(&url));
            tokio::spawn(async move {
                while Instant::now() < until {
                    let mut headers = HeaderMap::new();
                    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    let outbound = Outbound {
                        url: &url,
                        identity: None,
                        headers,
                        body: body.clone(),
                        timeout: POST_TIMEOUT,
                    };
                    sender.post(outbound).await.result.unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (sent.load(Ordering::Relaxed), started.elapsed())
}

async fn inserts(bench: &mut Bench) -> f64 {
    bench.program.run("CREATE TABLE bench_rows (id uuid PRIMARY KEY, data bytea NOT NULL)").await;
    let (until, started, mut rows) = (bench.until(), Instant::now(), 0);
    while Instant::now() < until {
        sqlx::query("INSERT INTO bench_rows SELECT gen_random_uuid(), $2 FROM generate_series(1, $1)")
            .bind(ROWS)
            .bind(vec![b'x'; DATA_BYTES])
            .execute(&mut bench.program.sql)
            .await
            .unwrap();
        rows += ROWS;
    }
    let per_s = f64::from(rows) / started.elapsed().as_secs_f64();
    bench.program.run("DROP TABLE bench_rows").await;
    per_s
}
