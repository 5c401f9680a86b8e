//! The batcher: publishes that arrive while a statement is under way go together into the next one.
//!
//! One statement is under way at a time. A publish that comes alone is stored at once; under load hundreds share a round
//! trip and a flush to disk. One that fails takes nobody along: the batch is halved until it stands alone.

use std::{collections::HashSet, sync::Arc, time::Instant};

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    db::SharedPool,
    queue::{
        Cause, Row,
        handoff::{Handoff, Parcel},
        ingest::{self, Ingested, NewEvent},
        refill::EventBody,
    },
    telemetry::metrics::metrics,
    web::{ApiError, error::is_away},
};

/// Requests of one statement.
const BATCH_REQUESTS: usize = 500;
/// Queue rows of one statement (a single event may go beyond).
const BATCH_QUEUE_ROWS: usize = 5_000;
/// Publishes waiting for the batcher; beyond it callers are sent away, to come again.
const WAITING_MAX: usize = 10_000;
/// SQLSTATE of a lock that was not to be had in time: somebody else is storing the same idempotency key.
const LOCK_NOT_AVAILABLE: &str = "55P03";

struct Submission {
    event: NewEvent,
    answer: oneshot::Sender<Result<Ingested, ApiError>>,
}

/// The way into the batcher. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    sender: mpsc::Sender<Submission>,
    pool: SharedPool,
    handoff: Handoff,
}

impl Ingest {
    /// Starts the batcher; it ends when `stop` is called and all that waits is stored.
    pub fn start(pool: SharedPool, handoff: Handoff, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let ingest = Self { sender, pool, handoff };
        let batcher = Batcher { pool: ingest.pool.clone(), handoff: ingest.handoff.clone(), receiver };
        tasks.spawn(batcher.run(stop));
        ingest
    }

    /// Stores one event, and answers when it is on disk.
    pub async fn submit(&self, event: NewEvent) -> Result<Ingested, ApiError> {
        let (answer, answered) = oneshot::channel();
        let stopping = || ApiError::Unavailable("the batcher has stopped".into());
        self.sender.try_send(Submission { event, answer }).map_err(|error| match error {
            TrySendError::Full(_) => overloaded(),
            TrySendError::Closed(_) => stopping(),
        })?;
        answered.await.map_err(|_| stopping())?
    }

    /// Stores all of these events or none. `claim`: the key that covers them. Goes on when the caller goes away.
    pub async fn submit_all(
        &self,
        events: Vec<NewEvent>,
        claim: Option<ingest::BatchClaim>,
    ) -> Result<Ingested, ApiError> {
        let this = self.clone();
        let storing = tokio::spawn(async move {
            let publish = this.handoff.begins().await;
            let outcome = this.store_all(&events, claim.as_ref()).await;
            let committed =
                if matches!(outcome, Ok(Ingested::Committed)) { parcels(&events) } else { Vec::new() };
            this.handoff.ends(publish, committed).await;
            outcome
        });
        storing.await.map_err(ApiError::internal)?
    }

    async fn store_all(
        &self,
        events: &[NewEvent],
        claim: Option<&ingest::BatchClaim>,
    ) -> Result<Ingested, ApiError> {
        let mut transaction = self.pool.begin().await?;
        if let Some(claim) = claim
            && let Some(replayed) = ingest::claim_batch(&mut transaction, claim).await.map_err(told)?
        {
            return Ok(replayed);
        }
        let started = Instant::now();
        let outcomes = ingest::ingest(&mut transaction, events).await.map_err(told)?;
        if outcomes.iter().any(|outcome| *outcome != Ingested::Committed) {
            return Ok(Ingested::Stale);
        }
        transaction.commit().await?;
        count(&outcomes, started);
        Ok(Ingested::Committed)
    }
}

/// Sends a publish away.
pub(super) fn overloaded() -> ApiError {
    metrics().publishes_refused.increment(1);
    ApiError::Overloaded
}

/// Of one statement that was answered.
fn count(outcomes: &[Ingested], started: Instant) {
    let accepted = outcomes.iter().filter(|outcome| **outcome == Ingested::Committed).count();
    metrics().events_accepted.increment(u64::try_from(accepted).unwrap_or_default());
    metrics().ingest_batch_events.record(outcomes.len() as f64);
    metrics().ingest_duration.record(started.elapsed());
}

fn told(error: sqlx::Error) -> ApiError {
    match error.as_database_error().and_then(|error| error.code()) {
        Some(code) if code == LOCK_NOT_AVAILABLE => ApiError::InFlight,
        _ => error.into(),
    }
}

struct Batcher {
    pool: SharedPool,
    handoff: Handoff,
    receiver: mpsc::Receiver<Submission>,
}

impl Batcher {
    async fn run(mut self, stop: CancellationToken) {
        let mut waiting = Vec::with_capacity(BATCH_REQUESTS);
        loop {
            if waiting.is_empty() {
                tokio::select! {
                    biased;
                    received = self.receiver.recv_many(&mut waiting, BATCH_REQUESTS) => if received == 0 { return },
                    () = stop.cancelled() => self.receiver.close(),
                }
            } else {
                let room = BATCH_REQUESTS.saturating_sub(waiting.len());
                while waiting.len() < BATCH_REQUESTS && room > 0 {
                    let Ok(submission) = self.receiver.try_recv() else { break };
                    waiting.push(submission);
                }
            }
            let batch = take_batch(&mut waiting);
            if !batch.is_empty() {
                self.store(batch).await;
            }
        }
    }

    async fn store(&self, batch: Vec<Submission>) {
        let publish = self.handoff.begins().await;
        let (events, answers): (Vec<NewEvent>, Vec<_>) =
            batch.into_iter().map(|one| (one.event, one.answer)).unzip();
        let outcomes = self.attempt(&events).await;
        let committed = events
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| matches!(outcome, Ok(Ingested::Committed)))
            .flat_map(|(event, _)| parcels(std::slice::from_ref(event)))
            .collect();
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // A caller who has gone away still has published.
            let _ = answer.send(outcome);
        }
        self.handoff.ends(publish, committed).await;
    }

    /// One statement; in halves where one of the batch spoils it for the others.
    async fn attempt(&self, events: &[NewEvent]) -> Vec<Result<Ingested, ApiError>> {
        let mut outcomes = Vec::with_capacity(events.len());
        let mut parts = vec![events];
        while let Some(part) = parts.pop() {
            let started = Instant::now();
            let stored = self.store_part(part).await;
            if let Ok(stored) = &stored {
                count(stored, started);
            }
            match stored {
                Ok(stored) => outcomes.extend(stored.into_iter().map(Ok)),
                Err(error) => {
                    let lock = error
                        .as_database_error()
                        .is_some_and(|e| e.code().as_deref() == Some(LOCK_NOT_AVAILABLE));
                    if part.len() == 1 || (is_away(&error) && !lock) {
                        let answer = told(error);
                        outcomes.extend(part.iter().map(|_| Err(answer.clone())));
                    } else {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.push(second);
                        parts.push(first);
                    }
                }
            }
        }
        outcomes
    }

    async fn store_part(&self, events: &[NewEvent]) -> sqlx::Result<Vec<Ingested>> {
        let mut lease = self.pool.lease().await?;
        let stored = ingest::ingest(&mut lease, events).await?;
        lease.commit().await?;
        Ok(stored)
    }
}

/// As many as fit one statement, at most one of each idempotency key, in an order that all batchers share, so that two
/// statements never wait for each other in a circle.
fn take_batch(waiting: &mut Vec<Submission>) -> Vec<Submission> {
    let (mut batch, mut rest) = (Vec::with_capacity(waiting.len()), Vec::new());
    let (mut rows, mut keys) = (0, HashSet::new());
    for submission in waiting.drain(..) {
        let event = &submission.event;
        let fits = batch.is_empty() || rows + event.deliveries.len() <= BATCH_QUEUE_ROWS;
        let alone = event
            .claim
            .as_ref()
            .is_none_or(|claim| keys.insert((event.tenant_id, claim.route.clone(), claim.key.clone())));
        if fits && alone {
            rows += event.deliveries.len();
            batch.push(submission);
        } else {
            rest.push(submission);
        }
    }
    *waiting = rest;
    let key = |submission: &Submission| {
        let claim = submission.event.claim.as_ref();
        let event = &submission.event;
        (event.id.shard(), event.tenant_id, claim.map(|claim| claim.key.clone()), event.id)
    };
    batch.sort_by_cached_key(key);
    batch
}

fn parcels(events: &[NewEvent]) -> Vec<Parcel> {
    let parcel = |event: &NewEvent| {
        let body = Arc::new(EventBody {
            event_type: event.event_type.clone(),
            occurred_at: event.occurred_at,
            channel: event.channel.clone(),
            api_version: event.api_version.clone(),
            live_mode: event.live_mode,
            data: event.data.clone(),
        });
        let id = event.id;
        event.deliveries.clone().into_iter().map(move |delivery| Parcel {
            row: Row {
                endpoint_id: delivery.endpoint_id,
                event_id: id,
                due_at: None,
                seq: 0,
                step: 0,
                format_version: delivery.format_version,
                cause: Cause::Scheduled,
            },
            body: Arc::clone(&body),
            format: delivery.format,
        })
    };
    events.iter().flat_map(parcel).collect()
}
