//! Metrics, as Prometheus reads them: counted in this process, from its start on.
//!
//! Names, units and labels are told in `docs/metrics.md`. Labels have few values and never name a tenant, an endpoint or a
//! URL. Handles are made once: counting is an atomic addition, without a look-up, but for requests, which are looked up
//! by route. Every metric is there from the start, at zero.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, RwLock},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

/// Upper ends of the buckets of durations, in seconds: as far as an attempt may take.
const DURATION_BUCKETS_S: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper ends of the buckets of batch sizes.
const SIZE_BUCKETS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];
/// What can be wrong with an attempt; anything else is counted as `other`.
pub const ERRORS: [&str; 19] = [
    "none",
    "dns",
    "refused_target",
    "proxy",
    "connect",
    "local",
    "tls",
    "tls_expired",
    "tls_wrong_name",
    "tls_untrusted",
    "timeout",
    "response_too_slow",
    "reset",
    "response_incomplete",
    "response_too_large",
    "interim_flood",
    "protocol",
    "response_status",
    "other",
];
const METADATA: Metadata<'static> = Metadata::new("posthaste", Level::INFO, Some(module_path!()));

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The metrics of this process.
pub fn metrics() -> &'static Metrics {
    &METRICS
}

pub struct Metrics {
    recorder: PrometheusRecorder,
    /// By route and method.
    requests: RwLock<HashMap<String, HashMap<String, Arc<Requests>>>>,
    pub events_accepted: Counter,
    pub publishes_refused: Counter,
    pub ingest_batch_events: Histogram,
    pub ingest_duration: Histogram,
    attempts: [Counter; ERRORS.len()],
    attempt_duration: [Histogram; 2],
    pub deliveries_succeeded: Counter,
    pub deliveries_failed: Counter,
    pub finish_batch_results: Histogram,
    pub finish_duration: Histogram,
    pub egress_connections: Gauge,
    pub egress_connections_limit: Gauge,
    pub egress_connections_opened: Counter,
    pub egress_connections_reused: Counter,
    pub egress_connections_evicted: Counter,
    pub attempts_in_flight: Gauge,
    pub results_waiting: Gauge,
    pub scheduler_lanes: Gauge,
    pub scheduler_lanes_throttled: Gauge,
    pub scheduler_rows: Gauge,
    pub due_lag: Gauge,
    pub shards_owned: Gauge,
    pub lease_left: Gauge,
    pub resident_memory: Gauge,
}

/// Requests of one route and method: how long they took, and how many of each status.
struct Requests {
    duration: Histogram,
    statuses: RwLock<HashMap<u16, Counter>>,
}

impl Metrics {
    fn new() -> Self {
        let recorder = recorder();
        let make = Make(&recorder);
        let (deliveries, told) = (
            "posthaste_deliveries_finished_total",
            "Deliveries that reached their end, by outcome: succeeded, or failed (out of retries, or 410)",
        );
        let (duration, how_long) = (
            "posthaste_attempt_duration_seconds",
            "How long attempts took, from look-up to the end of the answer",
        );
        let metrics = Self {
            requests: RwLock::default(),
            events_accepted: make.counter(
                "posthaste_events_accepted_total",
                "Events that were published and are on disk",
                &[],
            ),
            publishes_refused: make.counter(
                "posthaste_publishes_refused_total",
                "Publishes that were answered 503 since too much was being published at once",
                &[],
            ),
            ingest_batch_events: make.histogram(
                "posthaste_ingest_batch_events",
                "Events of one storing statement",
                Unit::Count,
                &[],
            ),
            ingest_duration: make.histogram(
                "posthaste_ingest_duration_seconds",
                "How long storing statements of events took",
                Unit::Seconds,
                &[],
            ),
            attempts: ERRORS.map(|error| {
                make.counter(
                    "posthaste_attempts_total",
                    "Attempts that were sent, by outcome and class of error",
                    &[("outcome", if error == "none" { "succeeded" } else { "failed" }), ("error", error)],
                )
            }),
            attempt_duration: ["succeeded", "failed"]
                .map(|outcome| make.histogram(duration, how_long, Unit::Seconds, &[("outcome", outcome)])),
            deliveries_succeeded: make.counter(deliveries, told, &[("outcome", "succeeded")]),
            deliveries_failed: make.counter(deliveries, told, &[("outcome", "failed")]),
            finish_batch_results: make.histogram(
                "posthaste_finish_batch_results",
                "Results of one finishing statement",
                Unit::Count,
                &[],
            ),
            finish_duration: make.histogram(
                "posthaste_finish_duration_seconds",
                "How long finishing statements took, waiting for Postgres included",
                Unit::Seconds,
                &[],
            ),
            egress_connections: make.gauge(
                "posthaste_egress_connections",
                "Connections to receivers that are open, or being opened",
            ),
            egress_connections_limit: make.gauge(
                "posthaste_egress_connections_limit",
                "How many connections to receivers may be open at once",
            ),
            egress_connections_opened: make.counter(
                "posthaste_egress_connections_opened_total",
                "Connections to receivers that were made",
                &[],
            ),
            egress_connections_reused: make.counter(
                "posthaste_egress_connections_reused_total",
                "Requests that went over a connection made before",
                &[],
            ),
            egress_connections_evicted: make.counter(
                "posthaste_egress_connections_evicted_total",
                "Idle connections that were closed to make place for others",
                &[],
            ),
            attempts_in_flight: make.gauge("posthaste_attempts_in_flight", "Attempts under way"),
            results_waiting: make.gauge("posthaste_results_waiting", "Results that are not on disk yet"),
            scheduler_lanes: make.gauge("posthaste_scheduler_lanes", "Endpoints that the scheduler knows"),
            scheduler_lanes_throttled: make.gauge(
                "posthaste_scheduler_lanes_throttled",
                "Endpoints among them whose circuit breaker is open: they get one request at a time",
            ),
            scheduler_rows: make.gauge(
                "posthaste_scheduler_rows",
                "Deliveries held in memory, ready to be sent; the rest of the queue is in Postgres alone",
            ),
            due_lag: make.gauge(
                "posthaste_due_lag_seconds",
                "For how long the oldest of them that may be sent has been due",
            ),
            shards_owned: make.gauge("posthaste_shards_owned", "Shards that this process owns, of 4096"),
            lease_left: make.gauge(
                "posthaste_lease_left_seconds",
                "For how long this process may go on sending without a further beat",
            ),
            resident_memory: make.gauge(
                "posthaste_process_resident_memory_bytes",
                "Memory of this process, without its Postgres",
            ),
            recorder,
        };
        let version = &[("version", env!("CARGO_PKG_VERSION"))];
        Make(&metrics.recorder).labelled_gauge("posthaste_build_info", "The program", version).set(1.0);
        metrics
    }

    /// Counts a request. `route`: its template; empty where there is none.
    pub fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let known = self.requests.read().ok().and_then(|routes| routes.get(route)?.get(method).cloned());
        let requests = known.unwrap_or_else(|| self.requests_of(method, route));
        requests.duration.record(took);
        let counter = requests.statuses.read().ok().and_then(|statuses| statuses.get(&status).cloned());
        let counter = counter.unwrap_or_else(|| {
            let labels = [("method", method), ("route", named(route)), ("status", &status.to_string())];
            let told = "Requests answered, by method, route and status";
            let counter = Make(&self.recorder).counter("posthaste_http_requests_total", told, &labels);
            if let Ok(mut statuses) = requests.statuses.write() {
                statuses.insert(status, counter.clone());
            }
            counter
        });
        counter.increment(1);
    }

    fn requests_of(&self, method: &str, route: &str) -> Arc<Requests> {
        let labels = [("method", method), ("route", named(route))];
        let told = "How long requests took";
        let name = "posthaste_http_request_duration_seconds";
        let duration = Make(&self.recorder).histogram(name, told, Unit::Seconds, &labels);
        let requests = Arc::new(Requests { duration, statuses: RwLock::default() });
        match self.requests.write() {
            Ok(mut routes) => {
                let methods = routes.entry(route.to_owned()).or_default();
                Arc::clone(methods.entry(method.to_owned()).or_insert(requests))
            }
            Err(_) => requests,
        }
    }

    /// Counts an attempt. `error`: its class, where it failed.
    pub fn attempt(&self, error: Option<&str>, took: Duration) {
        let class = error.unwrap_or("none");
        let at = ERRORS.iter().position(|known| *known == class).unwrap_or(ERRORS.len() - 1);
        self.attempts[at].increment(1);
        self.attempt_duration[usize::from(error.is_some())].record(took);
    }

    /// Connections of a pool, as they are.
    pub fn pool(&self, name: &'static str, size: u32, idle: usize) {
        let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(size);
        for (state, connections) in [("idle", idle), ("used", size - idle)] {
            let labels = &[("pool", name), ("state", state)];
            let gauge = Make(&self.recorder).labelled_gauge(
                "posthaste_pool_connections",
                "Connections to Postgres, by pool and state",
                labels,
            );
            gauge.set(f64::from(connections));
        }
    }

    /// What a scrape gets.
    pub fn render(&self) -> String {
        self.recorder.handle().render()
    }

    /// To be called now and then: what histograms have gathered is summed up, and the memory is looked at.
    pub fn upkeep(&self) {
        self.recorder.handle().run_upkeep();
        if let Some(bytes) = resident_bytes() {
            self.resident_memory.set(bytes);
        }
    }
}

/// A path that is no route's is not a label: anybody could make up any number of them.
fn named(route: &str) -> &str {
    if route.is_empty() { "none" } else { route }
}

fn resident_bytes() -> Option<f64> {
    let pages: f64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}

fn recorder() -> PrometheusRecorder {
    let sizes = ["posthaste_ingest_batch_events", "posthaste_finish_batch_results"];
    let builder = PrometheusBuilder::new().set_buckets(&DURATION_BUCKETS_S).and_then(|builder| {
        sizes.iter().try_fold(builder, |builder, name| {
            builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), &SIZE_BUCKETS)
        })
    });
    builder.expect("there are buckets").build_recorder()
}

/// Makes handles.
struct Make<'a>(&'a PrometheusRecorder);

impl Make<'_> {
    fn counter(&self, name: &'static str, told: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.0.describe_counter(name.into(), Some(Unit::Count), told.into());
        let counter = self.0.register_counter(&key(name, labels), &METADATA);
        // It is there from the start.
        counter.increment(0);
        counter
    }

    fn gauge(&self, name: &'static str, told: &'static str) -> Gauge {
        let gauge = self.labelled_gauge(name, told, &[]);
        gauge.set(0.0);
        gauge
    }

    fn labelled_gauge(
        &self,
        name: &'static str,
        told: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Gauge {
        self.0.describe_gauge(name.into(), None, told.into());
        self.0.register_gauge(&key(name, labels), &METADATA)
    }

    fn histogram(
        &self,
        name: &'static str,
        told: &'static str,
        unit: Unit,
        labels: &[(&'static str, &str)],
    ) -> Histogram {
        self.0.describe_histogram(name.into(), Some(unit), told.into());
        self.0.register_histogram(&key(name, labels), &METADATA)
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_exported() {
        let metrics = Metrics::new();
        for status in [200, 200, 404] {
            metrics.request("GET", "/v1/events/{event_id}", status, Duration::from_millis(3));
        }
        metrics.request("GET", "", 404, Duration::ZERO);
        metrics.attempt(None, Duration::from_millis(30));
        metrics.attempt(Some("timeout"), Duration::from_secs(10));
        metrics.attempt(Some("something new"), Duration::from_secs(1));
        metrics.pool("api", 3, 1);
        metrics.upkeep();
        let text = metrics.render();
        for line in [
            r#"posthaste_http_requests_total{method="GET",route="/v1/events/{event_id}",status="200"} 2"#,
            r#"posthaste_http_requests_total{method="GET",route="none",status="404"} 1"#,
            r#"posthaste_http_request_duration_seconds_bucket{method="GET",route="/v1/events/{event_id}",le="0.005"} 3"#,
            r#"posthaste_attempts_total{outcome="succeeded",error="none"} 1"#,
            r#"posthaste_attempts_total{outcome="failed",error="timeout"} 1"#,
            r#"posthaste_attempts_total{outcome="failed",error="other"} 1"#,
            r#"posthaste_attempts_total{outcome="failed",error="dns"} 0"#,
            r#"posthaste_attempt_duration_seconds_count{outcome="failed"} 2"#,
            r#"posthaste_pool_connections{pool="api",state="used"} 2"#,
            r#"posthaste_deliveries_finished_total{outcome="failed"} 0"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
    }
}
