//! Many processes on one Postgres, coming and going in all the ways there are while others publish: what was accepted arrives, and
//! twice only what a killed worker had no time to write down.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Instant,
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, interval},
};
use tokio_util::sync::CancellationToken;

use super::scale::shared_by;
use crate::helpers::{
    Answer, Receiver, TestApp, app::settings, client::Client, cluster::fresh_database, process::Process,
    sql::Sql,
};

const LOCATIONS: usize = 24;
const PUBLISHERS: usize = 3;
/// Of each of them. Enough that something is under way at any time.
const PUBLISH_EVERY: Duration = Duration::from_millis(15);
const HANGING: usize = 4;

/// The processes, and where the APIs listen.
struct Crowd {
    settings: posthaste::config::Settings,
    sql: Sql,
    apis: Vec<(Process, String)>,
    workers: Vec<(Process, String)>,
    bases: watch::Sender<Vec<String>>,
}

impl Crowd {
    async fn api_joins(&mut self) {
        self.apis.push(Process::role("api", &self.settings).await);
        self.tell();
    }

    async fn api_is_killed(&mut self) {
        let (mut api, _) = self.apis.remove(0);
        api.kill().await;
        self.tell();
    }

    fn tell(&self) {
        self.bases.send_replace(self.apis.iter().map(|(_, base)| base.clone()).collect());
    }

    /// Joins, and is known by its node.
    async fn worker_joins(&mut self) {
        let (process, _) = Process::role("worker", &self.settings).await;
        shared_by(&mut self.sql, i64::try_from(self.workers.len()).unwrap() + 1).await;
        let newest = "SELECT id::text FROM nodes ORDER BY started_at DESC LIMIT 1";
        let node: String = sqlx::query_scalar(newest).fetch_one(&mut self.sql.0).await.unwrap();
        self.workers.push((process, node));
    }

    /// Until those that are left own all shards, each its part.
    async fn share(&mut self) {
        shared_by(&mut self.sql, i64::try_from(self.workers.len()).unwrap()).await;
    }

    fn clients(&self, key: &str) -> Vec<Client> {
        self.apis.iter().map(|(_, base)| Client::new(base, Some(key))).collect()
    }
}

/// Publishes through whatever APIs there are. What got no answer is nobody's promise.
async fn publish(
    number: usize,
    key: String,
    bases: watch::Receiver<Vec<String>>,
    accepted: Arc<Mutex<HashSet<String>>>,
    stop: CancellationToken,
) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut pace = interval(PUBLISH_EVERY);
    for round in number.. {
        tokio::select! {
            _ = pace.tick() => {}
            () = stop.cancelled() => return,
        }
        let base = {
            let bases = bases.borrow();
            bases[round % bases.len()].clone()
        };
        let request = http.post(format!("{base}/v1/locations/l{}/events", (round * 7 + number) % LOCATIONS));
        let body = json!({"type": "message.sent", "data": {"n": round}});
        let Ok(reply) = request.bearer_auth(&key).json(&body).send().await else { continue };
        let status = reply.status().as_u16();
        let Ok(body) = reply.json::<Value>().await else { continue };
        assert_eq!(status, 202, "{body}");
        assert_eq!(body["deliveries"].as_array().unwrap().len(), 1, "{body}");
        accepted.lock().unwrap().insert(body["id"].as_str().unwrap().to_owned());
    }
}

/// What one API has answered holds for the next publish through any.
async fn changes_are_seen(clients: &[Client], url: &str) {
    let published_to = async |client: &Client| {
        let body = json!({"type": "contact.created", "data": {}});
        let published = client.post("/v1/locations/default/events", body).await.expect(202);
        published["deliveries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["status"].clone())
            .collect::<Vec<_>>()
    };
    for (place, maker) in clients.iter().enumerate() {
        let next = &clients[(place + 1) % clients.len()];
        let fields = json!({"name": "N", "url": url, "event_types": ["contact.*"]});
        let made = maker.post("/v1/endpoints", fields).await.expect(201);
        let path = format!("/v1/endpoints/{}", made["id"].as_str().unwrap());
        for client in clients {
            assert_eq!(published_to(client).await, ["pending"]);
        }
        next.poke(&format!("{path}/pause")).await.expect(200);
        for client in clients {
            assert_eq!(published_to(client).await, ["held"]);
        }
        maker.delete(&path).await.expect(204);
        for client in clients {
            assert_eq!(published_to(client).await, [Value::Null; 0]);
        }
    }
}

#[tokio::test]
async fn a_crowd_that_comes_and_goes_loses_nothing() {
    let (database, _) = fresh_database().await;
    let mut receiver = Receiver::start().await;
    let settings = settings(&database, &[]);
    let mut crowd = Crowd {
        settings: settings.clone(),
        sql: Sql::open(&database).await,
        apis: Vec::new(),
        workers: Vec::new(),
        bases: watch::Sender::new(Vec::new()),
    };
    crowd.api_joins().await;
    crowd.api_joins().await;
    crowd.worker_joins().await;
    crowd.worker_joins().await;
    let base = crowd.apis[0].1.clone();
    let operator_key = settings.operator_key.clone().unwrap();
    let tenant = TestApp { app: None, base, operator_key, settings, database }.tenant().await;
    for n in 0..LOCATIONS {
        let location = json!({"name": "L", "external_id": format!("l{n}")});
        tenant.client.post("/v1/locations", location).await.expect(201);
        tenant.endpoint(&receiver.url("/hook"), json!({"location_id": format!("l{n}")})).await;
    }
    let fields = json!({"event_types": ["form.submitted"], "max_in_flight": HANGING, "timeout_ms": 30_000});
    receiver.script("/hangs", [Answer::never()]);
    let hanging = tenant.endpoint(&receiver.url("/hangs"), fields).await;
    let other = receiver.url("/other");

    let (accepted, stop) = (Arc::<Mutex<HashSet<String>>>::default(), CancellationToken::new());
    let mut publishers = JoinSet::new();
    for number in 0..PUBLISHERS {
        let (bases, accepted) = (crowd.bases.subscribe(), Arc::clone(&accepted));
        publishers.spawn(publish(number, tenant.key.clone(), bases, accepted, stop.clone()));
    }
    crowd.worker_joins().await;
    changes_are_seen(&crowd.clients(&tenant.key), &other).await;
    let (mut leaver, _) = crowd.workers.remove(0);
    leaver.signal("TERM");
    assert!(leaver.wait().await.success());
    crowd.share().await;

    // Whoever has requests that hang is killed.
    let hung = tenant.publish_batch("form.submitted", HANGING).await;
    while receiver.under_way("/hangs") < HANGING {
        tokio::task::yield_now().await;
    }
    let id = hanging["id"].as_str().unwrap().trim_start_matches("ep_");
    let owner = format!(
        "SELECT node::text FROM shards WHERE shard = (SELECT shard FROM endpoints WHERE id = '{id}')"
    );
    let owner: String =
        sqlx::query_scalar(sqlx::AssertSqlSafe(owner)).fetch_one(&mut crowd.sql.0).await.unwrap();
    let place = crowd.workers.iter().position(|(_, node)| *node == owner).expect("one of them");
    crowd.workers.remove(place).0.kill().await;
    let killed_at = Instant::now();
    let written = "SELECT 'evt_' || event_id FROM attempts WHERE succeeded";
    let written: Vec<String> = sqlx::query_scalar(written).fetch_all(&mut crowd.sql.0).await.unwrap();
    receiver.script("/hangs", [Answer::status(200)]);
    crowd.api_is_killed().await;
    crowd.share().await;
    crowd.api_joins().await;
    crowd.worker_joins().await;
    changes_are_seen(&crowd.clients(&tenant.key), &other).await;
    stop.cancel();
    while let Some(ended) = publishers.join_next().await {
        ended.unwrap();
    }

    // But for what was held of endpoints that are deleted.
    let waiting = "SELECT count(*) FROM queue q JOIN endpoints e ON e.shard = q.shard AND e.id = q.endpoint_id WHERE e.deleted_at IS NULL";
    crowd.sql.until(waiting, 0).await;
    let mut came: HashMap<String, Vec<Instant>> = HashMap::new();
    for seen in receiver.rest().into_iter().filter(|seen| seen.path != "/other") {
        came.entry(seen.header("webhook-id").to_owned()).or_default().push(seen.at);
    }
    let accepted = std::mem::take(&mut *accepted.lock().unwrap());
    let missing: Vec<&String> = accepted.iter().chain(&hung).filter(|id| !came.contains_key(*id)).collect();
    assert!(missing.is_empty(), "{} of {} never came", missing.len(), accepted.len());
    let written: HashSet<String> = written.into_iter().collect();
    let twice: HashSet<&String> = came.iter().filter(|(_, at)| at.len() > 1).map(|(id, _)| id).collect();
    println!("{} accepted, {} came twice", accepted.len(), twice.len());
    for id in &twice {
        assert!(came[*id].len() == 2 && came[*id][0] < killed_at, "{id} came at {:?}", came[*id]);
        assert!(!written.contains(*id), "{id} came again, although its result was on disk");
    }
    assert!(hung.iter().all(|id| twice.contains(id)), "what was in flight is sent again");
}
