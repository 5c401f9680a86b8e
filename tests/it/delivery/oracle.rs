//! The receiver's log against the database, over a program that is killed twice in the middle of it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, MissedTickBehavior, interval},
};

use crate::helpers::{
    Answer, Receiver,
    app::settings,
    client::Client,
    cluster::fresh_database,
    process::Process,
    receiver::Seen,
    sql::{Sql, UNTRUE_STATS},
};

const TENANTS: usize = 5;
const ENDPOINTS: usize = 4;
const EVENTS: usize = 1_500;
const PUBLISHERS: usize = 12;
/// The program is killed when so many events are accepted.
const KILLED_AT: [usize; 2] = [500, 1_000];
const MAX_IN_FLIGHT: usize = 8;
/// Results that may wait to be written when it is killed; see `UNWRITTEN_MAX` in the worker.
const UNWRITTEN_MAX: usize = 2_000;

/// What an endpoint does with a request, by its number.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// One in five attempts fails.
    Flaky,
    /// 429, which is no sign for the circuit breaker: each delivery is tried to its end.
    Refuses,
    /// Fails, and is throttled.
    Dead,
    /// 410 from the twentieth request on.
    Leaves,
    Paused,
    Good,
}

fn manner(endpoint: usize) -> Manner {
    match endpoint {
        3 => Manner::Refuses,
        7 => Manner::Leaves,
        11 => Manner::Paused,
        15 => Manner::Dead,
        _ if endpoint.is_multiple_of(2) => Manner::Flaky,
        _ => Manner::Good,
    }
}

/// What the receiver has answered, by endpoint's path and event.
type Log = Arc<Mutex<HashMap<(String, String), Vec<bool>>>>;

fn answer(log: &Log, counts: &mut HashMap<String, usize>, seen: &Seen) -> Answer {
    let endpoint: usize = seen.path.trim_start_matches('/').parse().unwrap();
    let count = counts.entry(seen.path.clone()).or_default();
    *count += 1;
    let status = match manner(endpoint) {
        Manner::Flaky if count.is_multiple_of(5) => 503,
        Manner::Refuses => 429,
        Manner::Dead => 500,
        Manner::Leaves if *count >= 20 => 410,
        _ => 200,
    };
    let key = (seen.path.clone(), seen.header("webhook-id").to_owned());
    log.lock().unwrap().entry(key).or_default().push(status == 200);
    Answer::status(status)
}

struct Tenant {
    key: String,
    location: String,
}

/// The program on its database, wherever it listens after each start.
struct Program {
    process: Process,
    base: watch::Sender<String>,
}

impl Program {
    async fn start(settings: &posthaste::config::Settings) -> Self {
        let (process, base) = Process::role("serve", settings).await;
        Self { process, base: watch::Sender::new(base) }
    }

    async fn kill_and_start_again(&mut self, settings: &posthaste::config::Settings) {
        self.process.kill().await;
        let (process, base) = Process::role("serve", settings).await;
        self.process = process;
        self.base.send_replace(base);
    }
}

/// Publishes until so many are accepted; those whose answer was lost are nobody's promise.
async fn publish_all(
    tenants: Arc<Vec<Tenant>>,
    mut base: watch::Receiver<String>,
    accepted: watch::Sender<usize>,
    deliveries: Arc<Mutex<Vec<(String, String)>>>,
) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    while *accepted.borrow() < EVENTS {
        let now = base.borrow_and_update().clone();
        let tenant = &tenants[*accepted.borrow() % TENANTS];
        let request = http
            .post(format!("{now}/v1/locations/{}/events", tenant.location))
            .bearer_auth(&tenant.key)
            .json(&json!({"type": "message.sent", "data": {"text": "x".repeat(300)}}));
        let Ok(reply) = request.send().await else {
            // Killed: the next address is told when it is up again.
            if base.changed().await.is_err() {
                return;
            }
            continue;
        };
        let status = reply.status().as_u16();
        let Ok(body) = reply.json::<Value>().await else { continue };
        assert_eq!(status, 202, "{body}");
        let event = body["id"].as_str().unwrap();
        for delivery in body["deliveries"].as_array().unwrap() {
            let endpoint = delivery["endpoint_id"].as_str().unwrap().to_owned();
            deliveries.lock().unwrap().push((endpoint, event.to_owned()));
        }
        accepted.send_modify(|count| *count += 1);
    }
}

#[tokio::test]
async fn whatever_was_accepted_has_arrived_or_is_accounted_for() {
    let (database, _) = fresh_database().await;
    let settings = settings(&database, &[]);
    let receiver = Receiver::start().await;
    let log = Log::default();
    let (writes, mut counts) = (Arc::clone(&log), HashMap::new());
    receiver.decide(move |seen| Some(answer(&writes, &mut counts, seen)));
    let mut program = Program::start(&settings).await;

    let operator = Client::new(&program.base.borrow(), settings.operator_key.as_deref());
    let (mut tenants, mut paths) = (Vec::new(), HashMap::new());
    for tenant in 0..TENANTS {
        let made =
            operator.post("/v1/tenants", json!({"name": format!("Tenant {tenant}")})).await.expect(201);
        let path = format!("/v1/tenants/{}/keys", made["id"].as_str().unwrap());
        let scopes = json!({"name": "a key", "scopes": ["read", "write", "publish"]});
        let key = operator.post(&path, scopes).await.expect(201)["key"].as_str().unwrap().to_owned();
        let client = Client::new(&program.base.borrow(), Some(&key));
        for endpoint in 0..ENDPOINTS {
            let number = tenant * ENDPOINTS + endpoint;
            let body = json!({
                "name": "An endpoint", "url": receiver.url(&format!("/{number}")), "event_types": ["*"],
                "max_in_flight": MAX_IN_FLIGHT, "retry_schedule_s": [1, 1, 1],
                "rate_limit_per_s": if number == 1 { json!(200) } else { Value::Null },
            });
            let made = client.post("/v1/endpoints", body).await.expect(201);
            let id = made["id"].as_str().unwrap().to_owned();
            if manner(number) == Manner::Paused {
                client.poke(&format!("/v1/endpoints/{id}/pause")).await.expect(200);
            }
            paths.insert(id, (format!("/{number}"), manner(number)));
        }
        let location = client.get("/v1/locations/default").await.expect(200);
        tenants.push(Tenant { key, location: location["id"].as_str().unwrap().to_owned() });
    }

    let (tenants, accepted) = (Arc::new(tenants), watch::Sender::new(0));
    let deliveries = Arc::<Mutex<Vec<(String, String)>>>::default();
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let (base, accepted) = (program.base.subscribe(), accepted.clone());
        publishers.spawn(publish_all(Arc::clone(&tenants), base, accepted, Arc::clone(&deliveries)));
    }
    let mut progress = accepted.subscribe();
    for count in KILLED_AT {
        progress.wait_for(|accepted| *accepted >= count).await.unwrap();
        program.kill_and_start_again(&settings).await;
    }
    while let Some(done) = publishers.join_next().await {
        done.unwrap();
    }

    // Takeover included: until nothing waits but for endpoints that are held or throttled.
    let mut sql = Sql::open(&database).await;
    let open = "SELECT count(*) FROM queue q JOIN endpoints e ON e.shard = q.shard AND e.id = q.endpoint_id
                JOIN endpoint_health h ON h.shard = q.shard AND h.endpoint_id = q.endpoint_id
                WHERE e.paused_at IS NULL AND h.disabled_at IS NULL AND h.throttled_until IS NULL";
    let mut looks = interval(Duration::from_millis(100));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = (i64::MAX, 0);
    while last.0 > 0 {
        looks.tick().await;
        let left = sql.count(open).await;
        last = if left < last.0 { (left, 0) } else { (left, last.1 + 1) };
        assert!(last.1 < 600, "a minute without any progress, and {left} wait");
    }
    program.process.signal("TERM");
    assert!(program.process.wait().await.success());

    let mut state = HashMap::new();
    for (table, status) in [("queue", "'held'"), ("settled", "status")] {
        let query = format!("SELECT 'ep_' || endpoint_id, 'evt_' || event_id, {status} FROM {table}");
        let rows: Vec<(String, String, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_all(&mut sql.0).await.unwrap();
        state.extend(rows.into_iter().map(|(endpoint, event, status)| ((endpoint, event), status)));
    }
    let log = std::mem::take(&mut *log.lock().unwrap());
    let accepted = std::mem::take(&mut *deliveries.lock().unwrap());
    let (mut arrived, mut unaccounted) = (0, Vec::new());
    for (endpoint, event) in &accepted {
        let (path, manner) = &paths[endpoint];
        let answers = log.get(&(path.clone(), event.clone())).map_or(&[][..], Vec::as_slice);
        let has_arrived = answers.contains(&true);
        let status = state.get(&(endpoint.clone(), event.clone())).map(String::as_str);
        arrived += usize::from(has_arrived);
        let is_right = match (manner, status) {
            (Manner::Paused, status) => status == Some("held") && answers.is_empty(),
            (Manner::Dead, status) => status.is_some() && !has_arrived,
            (Manner::Refuses, status) => status == Some("failed") && !has_arrived,
            (Manner::Leaves, Some(status)) => status == "held" || (status == "failed" && !has_arrived),
            // Four attempts may all meet the one in five; even those after a success whose result died with a process.
            (Manner::Flaky, Some(status)) => status == "failed" && answers.last() == Some(&false),
            (Manner::Good, Some(_)) => false,
            (_, None) => has_arrived,
        };
        if !is_right {
            unaccounted.push((endpoint, event, path, status, answers));
        }
    }
    assert!(unaccounted.is_empty(), "{} of {}: {:?}", unaccounted.len(), accepted.len(), unaccounted.first());
    let early = "SELECT count(*) FROM (
                     SELECT at - lag(at) OVER delivery AS gap FROM attempts
                     WINDOW delivery AS (PARTITION BY shard, endpoint_id, event_id ORDER BY number, id)
                 ) AS retry WHERE gap < interval '1 second'";
    assert_eq!(sql.count(early).await, 0, "retries came early");
    assert_eq!(sql.count(UNTRUE_STATS).await, 0, "statistics say something else than the rows");
    let doubles: usize = log
        .values()
        .map(|answers| answers.iter().filter(|is_success| **is_success).count().saturating_sub(1))
        .sum();
    let bound = KILLED_AT.len() * (TENANTS * ENDPOINTS * MAX_IN_FLIGHT + UNWRITTEN_MAX);
    println!("{} deliveries accepted, {arrived} arrived, {doubles} of them twice", accepted.len());
    assert!(doubles <= bound, "{doubles} doubles");
    let events: HashSet<&String> = accepted.iter().map(|(_, event)| event).collect();
    assert_eq!(events.len(), accepted.len() / ENDPOINTS, "each event went to every endpoint of its tenant");
}
