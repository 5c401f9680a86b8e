//! The flusher: writes results in batches, one batch at a time, for as long as it takes.
//!
//! Results are never dropped because Postgres is away: the batch waits and is written again, which changes nothing that
//! the first time has changed already. A row that Postgres refuses is found by halving and written with less: without what
//! the receiver answered, then without its attempt.

use std::{collections::HashMap, time::Duration};

use sqlx::PgPool;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use uuid::Uuid;

use super::{health::Health, owner::Message, retry::Next};
use crate::{
    queue::{
        Turn,
        finish::{self, Applied, Finished, HealthChange, Throttle, Verdict},
    },
    telemetry::metrics::metrics,
    types::{EndpointId, EventId, Timestamp},
    web::error::is_away,
};

/// Results of one statement.
const BATCH: usize = 500;
/// Longest that a result waits for others.
const GATHER_FOR: Duration = Duration::from_millis(5);
const TRY_AGAIN_MIN: Duration = Duration::from_millis(50);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(2);
/// How often health that waits for its second is looked at.
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// At the end: how long Postgres may be away before the rest is given up (and sent again by the next owner).
const LAST_FLUSH_WITHIN: Duration = Duration::from_secs(10);

/// A result to be written, on behalf of `node`.
pub struct Item {
    pub node: Uuid,
    pub finished: Finished,
    pub next: Next,
    pub was_failing: bool,
    /// What has become of the endpoint's circuit breaker.
    pub throttle: Option<Throttle>,
}

/// What became of a result.
#[derive(Clone, Copy, Debug)]
pub enum Written {
    /// Gone from the queue.
    Ended,
    Due(Timestamp),
    /// It was written before, or overtaken by somebody else's change: the queue tells.
    Unsure,
    /// Not written: the row is still there.
    Lost,
}

pub type Report = Vec<(Turn, Written)>;

/// Runs until every sender is gone and all is written.
pub async fn run(
    pool: PgPool,
    mut items: mpsc::UnboundedReceiver<Item>,
    messages: mpsc::UnboundedSender<Message>,
) {
    let mut flusher = Flusher { pool, health: Health::default(), ending: None };
    let mut node = Uuid::nil();
    loop {
        let mut batch: Vec<Item> = Vec::with_capacity(BATCH);
        let first = if flusher.health.is_empty() {
            items.recv().await
        } else {
            match timeout_at(Instant::now() + HEALTH_EVERY, items.recv()).await {
                Ok(first) => first,
                Err(_) => {
                    flusher.write(node, Vec::new()).await;
                    continue;
                }
            }
        };
        let Some(first) = first else { break };
        batch.push(first);
        let until = Instant::now() + GATHER_FOR;
        let mut open = true;
        while open && batch.len() < BATCH {
            match timeout_at(until, items.recv()).await {
                Ok(Some(item)) => batch.push(item),
                Ok(None) => open = false,
                Err(_) => break,
            }
        }
        if items.is_closed() && flusher.ending.is_none() {
            flusher.ending = Some(Instant::now() + LAST_FLUSH_WITHIN);
        }
        // Results of a node that was declared dead are still written in its name: the fence sorts them out.
        while !batch.is_empty() {
            node = batch[0].node;
            let (mine, others) = batch.into_iter().partition(|item| item.node == node);
            batch = others;
            let report = flusher.write(node, mine).await;
            let _ = messages.send(Message::Flushed(report));
        }
    }
    let rest = flusher.health.rest();
    if !rest.is_empty()
        && let Err(error) = flusher.finish(node, &[], &rest, true).await
    {
        tracing::warn!(%error, "the last word on some endpoints' health is lost");
    }
}

struct Flusher {
    pool: PgPool,
    health: Health,
    ending: Option<Instant>,
}

impl Flusher {
    async fn finish(
        &self,
        node: Uuid,
        batch: &[Finished],
        health: &[HealthChange],
        again: bool,
    ) -> sqlx::Result<Vec<Applied>> {
        let mut connection = self.pool.acquire().await?;
        finish::finish(&mut connection, node, batch, health, again).await
    }

    async fn write(&mut self, node: Uuid, items: Vec<Item>) -> Report {
        for item in &items {
            self.health.note(&item.finished, item.next, item.was_failing, item.throttle);
        }
        let mut batch: Vec<Finished> = items.into_iter().map(|item| item.finished).collect();
        // The same order for everybody, so that two statements never wait for each other in a circle.
        batch.sort_unstable_by_key(|one| (one.endpoint_id.shard(), one.endpoint_id, one.event_id));
        let mut health = self.health.due(monotonic_us());
        health.sort_unstable_by_key(|one| (one.endpoint_id.shard(), one.endpoint_id));

        let mut report = Vec::with_capacity(batch.len());
        let mut parts: Vec<(Vec<Finished>, Vec<HealthChange>)> = vec![(batch, health)];
        while let Some((mut part, health)) = parts.pop() {
            let started = Instant::now();
            match self.insist(node, &part, &health).await {
                Ok(applied) => {
                    metrics().finish_batch_results.record(part.len() as f64);
                    metrics().finish_duration.record(started.elapsed());
                    tell(&part, &applied, &mut report);
                }
                Err(error) if is_away(&error) => {
                    tracing::error!(%error, results = part.len(), "results are given up; the next owner sends these again");
                    report.extend(part.iter().map(|one| (one.turn(), Written::Lost)));
                }
                Err(error) if part.len() > 1 => {
                    tracing::warn!(%error, results = part.len(), "a batch of results was refused; halving it");
                    let second = part.split_off(part.len() / 2);
                    parts.push((second, Vec::new()));
                    parts.push((part, health));
                }
                Err(error) => {
                    let Some(refused) = part.pop() else {
                        tracing::error!(%error, endpoints = health.len(), "the health of endpoints was refused");
                        continue;
                    };
                    let turn = refused.turn();
                    tracing::error!(%error, ?turn, "a result was refused; writing less of it");
                    let lighter = lighten(refused);
                    if lighter.is_none() {
                        report.push((turn, Written::Lost));
                    }
                    // What it says of its endpoint, and others of theirs, stands.
                    parts.push((lighter.into_iter().collect(), health));
                }
            }
        }
        report
    }

    /// Tries until Postgres answers, with an answer or a refusal.
    async fn insist(
        &self,
        node: Uuid,
        batch: &[Finished],
        health: &[HealthChange],
    ) -> sqlx::Result<Vec<Applied>> {
        let (mut pause, mut again) = (TRY_AGAIN_MIN, false);
        loop {
            match self.finish(node, batch, health, again).await {
                Err(error) if is_away(&error) && self.ending.is_none_or(|until| Instant::now() < until) => {
                    tracing::warn!(%error, results = batch.len(), "results wait for Postgres");
                    sleep(pause).await;
                    (pause, again) = ((pause * 2).min(TRY_AGAIN_MAX), true);
                }
                other => return other,
            }
        }
    }
}

fn tell(batch: &[Finished], applied: &[Applied], report: &mut Report) {
    let applied: HashMap<(EndpointId, EventId), Option<Timestamp>> =
        applied.iter().map(|one| ((one.endpoint_id, one.event_id), one.due_at)).collect();
    report.extend(batch.iter().map(|one| {
        count(one, applied.contains_key(&(one.endpoint_id, one.event_id)));
        let written = match (&one.verdict, applied.get(&(one.endpoint_id, one.event_id))) {
            (Verdict::Succeeded, _) | (_, Some(None)) => Written::Ended,
            (_, Some(Some(due_at))) => Written::Due(*due_at),
            (_, None) => Written::Unsure,
        };
        (one.turn(), written)
    }));
}

/// Deliveries that have ended with this. One that was written before, or that somebody else has changed, is not applied.
fn count(one: &Finished, is_applied: bool) {
    match one.verdict {
        Verdict::Succeeded => metrics().deliveries_succeeded.increment(1),
        Verdict::Failed { .. } if is_applied => metrics().deliveries_failed.increment(1),
        Verdict::Failed { .. } | Verdict::Retry { .. } => {}
    }
}

/// The same result with less to store: without what was answered, without its attempt, without its end (which has no
/// place when its partition is gone). `None` where there is nothing left to leave out.
fn lighten(mut result: Finished) -> Option<Finished> {
    let response = result.attempt.as_mut().and_then(|attempt| attempt.response.as_mut());
    if let Some(response) =
        response.filter(|response| !response.body.is_empty() || !response.headers.is_empty())
    {
        response.body = bytes::Bytes::new();
        response.headers = bytes::Bytes::new();
    } else if result.attempt.is_some() {
        result.attempt = None;
    } else if let Verdict::Failed { .. } = result.verdict {
        result.verdict = Verdict::Succeeded;
    } else {
        return None;
    }
    Some(result)
}

fn monotonic_us() -> i64 {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    i64::try_from(START.elapsed().as_micros()).unwrap_or(i64::MAX)
}
