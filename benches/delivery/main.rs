//! The whole program measured: `posthaste serve` on a private, durable Postgres, with the load and the receivers in this
//! process, everything on this machine.
//!
//! `cargo bench --bench delivery -- [SCENARIO…] [--seconds 60] [--backlog 1000000] [--json FILE] [--charts DIRECTORY]`.
//! Loopback only; bounded in time and count. `docs/performance.md` says what the figures mean.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails here says where")]

mod backlog;
mod claims;
mod http;
mod latency;
mod limits;
mod neighbour;
mod program;
mod report;
mod stopwatch;
mod throughput;
mod usage;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use http::Sink;
use program::Program;
use report::Section;
use serde_json::{Map, Value};

/// Requests under way at once.
const CONNECTIONS: usize = 64;
/// Of an event's data.
const DATA_BYTES: usize = 1_024;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Scenario {
    /// Raw POSTs, INSERTs; then deliveries as fast as they go
    Throughput,
    /// From publish to receipt at fixed rates; needs the throughput
    Latency,
    /// Beside another tenant's endpoint that hangs
    Neighbour,
    /// Draining what has piled up
    Backlog,
    /// Reading the next rows, with ever more behind them
    Claims,
}

/// Measures Posthaste on this machine.
#[derive(Parser)]
struct Args {
    /// What to measure [default: all]
    scenarios: Vec<Scenario>,
    /// How long each rate is held
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Deliveries that pile up
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(5_000..=10_000_000))]
    backlog: u64,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also draw the figures into this directory
    #[arg(long)]
    charts: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What every scenario works with.
struct Bench {
    program: Program,
    sink: Sink,
    seconds: u32,
    backlog: usize,
}

impl Bench {
    /// A receiver that answers at once.
    fn hook(&self, query: &str) -> String {
        self.url(&format!("/hook{query}"))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.sink.address)
    }

    /// When what begins now is to end.
    fn until(&self) -> Instant {
        Instant::now() + Duration::from_secs(u64::from(self.seconds))
    }
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let wanted = |scenario| args.scenarios.is_empty() || args.scenarios.contains(&scenario);
    let directory = tempfile::Builder::new().prefix("posthaste-bench-").tempdir().unwrap();
    // As root, Postgres runs as another user and must get in.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut bench = Bench {
        program: Program::start(directory.path()).await,
        sink: Sink::start().await,
        seconds: args.seconds,
        backlog: usize::try_from(args.backlog).unwrap(),
    };
    let mut report = Vec::new();
    if wanted(Scenario::Throughput) || wanted(Scenario::Latency) {
        let limits = limits::measure(&mut bench, &mut report).await;
        let throughput = throughput::measure(&mut bench, &limits, &mut report).await;
        if wanted(Scenario::Latency) {
            latency::measure(&mut bench, &throughput, &mut report).await;
        }
    }
    if wanted(Scenario::Claims) {
        claims::measure(&mut bench, &mut report).await;
    }
    if wanted(Scenario::Backlog) {
        backlog::measure(&mut bench, &mut report).await;
    }
    // The last: what hangs goes on hanging.
    if wanted(Scenario::Neighbour) {
        neighbour::measure(&mut bench, &mut report).await;
    }
    bench.program.stop();
    write(&report, args.json.as_deref(), args.charts.as_deref());
}

fn write(report: &[Section], json: Option<&Path>, charts: Option<&Path>) {
    if let Some(file) = json {
        let sections: Map<String, Value> =
            report.iter().map(|section| (section.name.to_owned(), section.json())).collect();
        fs::write(file, serde_json::to_vec_pretty(&sections).unwrap()).unwrap();
    }
    if let Some(directory) = charts {
        fs::create_dir_all(directory).unwrap();
        report.iter().for_each(|section| section.draw(directory));
    }
}
