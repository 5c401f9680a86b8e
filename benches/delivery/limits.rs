//! The machine's own limits, in the same run: raw POSTs and a bare INSERT loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue},
    routing::post,
};
use bytes::Bytes;
use posthaste::egress::{EndpointUrl, Outbound, Policy, PolicySettings, SchemeRule, Sender, SenderOptions};

use tokio::net::TcpListener;

use super::{
    Bench, CONNECTIONS, DATA_BYTES,
    http::{Request, closed_loop},
    report::Section,
    usage,
};

const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// Those of a delivery.
const HEADERS: [(&str, &str); 5] = [
    ("content-type", "application/json"),
    ("user-agent", "Posthaste/0.1.0"),
    ("webhook-id", "evt_01a1ff1f4bf8778781f0ada7cc44a76a"),
    ("webhook-timestamp", "1795279195"),
    ("webhook-signature", "v1,m5x2Jv3q0mT0p6kqkq0tF0cF3J1m3r9Y2nq8c3mX4yE="),
];
/// A delivery's body is its data in an envelope.
const ENVELOPE_BYTES: usize = 150;
/// Rows of one INSERT.
const ROWS: i32 = 200;

/// POSTs a second without a queue, of the bytes that a delivery has.
pub struct Limits {
    /// By the client that Posthaste sends with, to a receiver that does next to nothing.
    pub own_per_s: f64,
    /// By the client and to the receiver that most programs have: reqwest and axum.
    pub usual_per_s: f64,
}

pub async fn measure(bench: &mut Bench, report: &mut Vec<Section>) -> Limits {
    let mut section = Section::new(
        "limits",
        format!(
            "what this machine does without a queue, {DATA_BYTES} bytes and an envelope, {CONNECTIONS} at once"
        ),
    );
    let until = bench.until();
    let headers = HEADERS.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    let request = Request::new("/raw", &headers, &body());
    bench.sink.begin(None);
    let before = usage::own_cpu_us();
    let (count, took) =
        closed_loop(bench.sink.address, &request, CONNECTIONS, move |_| Instant::now() < until).await;
    section.chart("raw POSTs, least client", count as f64 / took.as_secs_f64(), "/s");
    section.say("CPU of both sides, least client", (usage::own_cpu_us() - before) / count as f64, "µs");

    let before = usage::own_cpu_us();
    let (count, took) = own(bench).await;
    let own_per_s = count as f64 / took.as_secs_f64();
    section.chart("raw POSTs, Posthaste's own client", own_per_s, "/s");
    section.say(
        "CPU of both sides, Posthaste's own client",
        (usage::own_cpu_us() - before) / count as f64,
        "µs",
    );

    let before = usage::own_cpu_us();
    let (count, took) = usual(bench).await;
    let usual_per_s = count as f64 / took.as_secs_f64();
    section.chart("raw POSTs, reqwest to axum", usual_per_s, "/s");
    section.say("CPU of both sides, reqwest to axum", (usage::own_cpu_us() - before) / count as f64, "µs");

    section.chart("rows INSERTed, 200 a commit, durable", inserts(bench).await, "/s");
    section.print();
    report.push(section);
    Limits { own_per_s, usual_per_s }
}

fn body() -> String {
    "x".repeat(DATA_BYTES + ENVELOPE_BYTES)
}

/// The same client, the same receiver, no queue.
async fn own(bench: &Bench) -> (usize, Duration) {
    let settings = PolicySettings {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        allow_http: true,
        ..PolicySettings::default()
    };
    let policy = Arc::new(Policy::new(settings));
    let url = format!("http://{}/raw", bench.sink.address);
    let url: Arc<EndpointUrl> =
        Arc::new(policy.parse_url(&url, SchemeRule { format_allows_http: true }).unwrap());
    let sender = Sender::new(policy, SenderOptions::default()).unwrap();
    let body = Bytes::from(body());
    let headers = HEADERS
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect::<HeaderMap>();
    at_once(bench, move || {
        let (sender, body, url, headers) = (sender.clone(), body.clone(), Arc::clone(&url), headers.clone());
        async move {
            let outbound = Outbound { url: &url, identity: None, headers, body, timeout: POST_TIMEOUT };
            sender.post(outbound).await.result.unwrap();
        }
    })
    .await
}

/// What a program has that POSTs without much thought, and what a receiver has.
async fn usual(bench: &Bench) -> (usize, Duration) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/raw", listener.local_addr().unwrap());
    let receiver = Router::new().route("/raw", post(async |body: Bytes| drop(body)));
    let receiver = tokio::spawn(axum::serve(listener, receiver).into_future());
    let client = reqwest::Client::new();
    let body = Bytes::from(body());
    let done = at_once(bench, move || {
        let request = client.post(&url).body(body.clone());
        let request = HEADERS.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        async move {
            request.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
        }
    })
    .await;
    receiver.abort();
    done
}

/// One POST behind the other, from as many tasks as there are publishers.
async fn at_once<F>(bench: &Bench, post: impl Fn() -> F + Clone + Send + 'static) -> (usize, Duration)
where
    F: Future<Output = ()> + Send,
{
    let (until, sent, started) = (bench.until(), Arc::new(AtomicUsize::new(0)), Instant::now());
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (sent, post) = (Arc::clone(&sent), post.clone());
            tokio::spawn(async move {
                while Instant::now() < until {
                    post().await;
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
