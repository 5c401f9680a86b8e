//! The queue's statements against each other, in two sessions.

use std::time::Instant;

use bytes::Bytes;
use posthaste::{
    app::Roles,
    queue::{
        Cause,
        control::{self, Canceled, Retried},
        finish::{Applied, Attempt, Finished, Response, Verdict, finish},
        ingest::{Claim, Ingested, NewDelivery, NewEvent, ingest},
        ownership,
    },
    types::{Clock, EndpointId, EventId, LocationId, Shard, TenantId, Timestamp},
};
use serde_json::json;
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::helpers::{
    TestApp,
    app::{settings, start},
    cluster::fresh_database,
    sql::{Sql, UNTRUE_STATS},
};

/// Room for every shard.
pub const ALL: usize = 4_096;

const RETRY: Verdict = Verdict::Retry { delay_ms: 3_600_000, step: 1 };
const FAILED: Verdict = Verdict::Failed { reason: "out of retries" };

/// A database with one delivery, two sessions, and nodes of which the first owns everything.
struct Stage {
    app: TestApp,
    pool: PgPool,
    clock: Clock,
    tenant: TenantId,
    location: LocationId,
    endpoint: EndpointId,
    event: EventId,
    /// Owner, and the one that will be.
    nodes: [Uuid; 2],
    one: PgConnection,
    two: PgConnection,
    sql: Sql,
}

impl Stage {
    async fn set() -> Self {
        let (database, _) = fresh_database().await;
        let app = start(settings(&database, &[]), database, Roles { api: true, worker: false }).await;
        let tenant = app.tenant().await;
        let endpoint = tenant.endpoint("http://127.0.0.1:9999/hook", json!({})).await;
        let published = tenant.publish("message.sent", json!({})).await;
        let pool = app.pool().await;
        let nodes = [Uuid::now_v7(), Uuid::now_v7()];
        for node in nodes {
            ownership::register(&pool, node).await.unwrap();
        }
        ownership::take_free(&pool, nodes[0], ALL).await.unwrap();
        let mut sql = Sql::open(&app.database).await;
        let now_us = sql.count("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await;
        Self {
            clock: Clock::synced(now_us, Instant::now()),
            tenant: tenant.id.parse().unwrap(),
            location: tenant.location_id.parse().unwrap(),
            endpoint: endpoint["id"].as_str().unwrap().parse().unwrap(),
            event: published["id"].as_str().unwrap().parse().unwrap(),
            one: app.database.connect().await.unwrap(),
            two: app.database.connect().await.unwrap(),
            app,
            pool,
            nodes,
            sql,
        }
    }

    /// What came of an attempt for this `seq`.
    fn result(&self, seq: i32, verdict: Verdict) -> Finished {
        let succeeded = matches!(verdict, Verdict::Succeeded);
        let attempt = Attempt {
            id: self.clock.mint_in(self.endpoint.shard()),
            at: self.clock.now(),
            number: seq + 1,
            endpoint_version: 1,
            format_version: 1,
            cause: Cause::Scheduled,
            duration_ms: 5,
            dns_ms: None,
            connect_ms: None,
            tls_ms: None,
            first_byte_ms: None,
            remote_addr: None,
            error: (!succeeded).then(|| ("response_status", "it failed".to_owned())),
            response: Some(Response {
                status: if succeeded { 200 } else { 500 },
                headers: Bytes::new(),
                body: Bytes::new(),
                truncated: false,
            }),
        };
        Finished {
            endpoint_id: self.endpoint,
            event_id: self.event,
            tenant_id: self.tenant,
            seq,
            operational: false,
            attempt: Some(attempt),
            verdict,
        }
    }

    async fn finish(&mut self, node: usize, result: &Finished) -> Vec<Applied> {
        finish(&mut self.one, self.nodes[node], std::slice::from_ref(result), &[], true).await.unwrap()
    }

    async fn take_over(&self) -> bool {
        ownership::take_over(&self.pool, self.nodes[1], self.nodes[0], 0, ALL).await.unwrap()
    }

    /// `(seq, is it due within a minute)` of the queue row, if there is one.
    async fn row(&mut self) -> Option<(i32, bool)> {
        let query = "SELECT seq, coalesce(due_at < clock_timestamp() + interval '1 minute', true) FROM queue";
        sqlx::query_as(query).fetch_optional(&mut self.sql.0).await.unwrap()
    }

    async fn settled(&mut self) -> Option<String> {
        sqlx::query_scalar("SELECT status FROM settled").fetch_optional(&mut self.sql.0).await.unwrap()
    }

    async fn attempts(&mut self) -> i64 {
        self.sql.count("SELECT count(*) FROM attempts").await
    }

    /// Waits until a session of this database waits for a lock.
    async fn someone_waits(&mut self) {
        let query = "SELECT least(count(*), 1) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        self.sql.until(query, 1).await;
    }

    async fn end(mut self) {
        let untrue = Sql::open(&self.app.database).await.count(UNTRUE_STATS).await;
        assert_eq!(untrue, 0, "statistics say something else than the rows");
        self.pool.close().await;
        self.app.stop().await;
    }
}

#[tokio::test]
async fn a_finish_that_is_repeated_after_a_lost_answer_changes_nothing() {
    for verdict in [Verdict::Succeeded, RETRY, FAILED] {
        let mut stage = Stage::set().await;
        let result = stage.result(0, verdict);
        let first = stage.finish(0, &result).await;
        let after = (stage.row().await, stage.settled().await, stage.attempts().await);
        assert_eq!(first.len(), usize::from(!matches!(result.verdict, Verdict::Succeeded)));
        assert!(stage.finish(0, &result).await.is_empty(), "applied once");
        assert_eq!((stage.row().await, stage.settled().await, stage.attempts().await), after);
        assert_eq!(after.2, 1);
        stage.end().await;
    }
}

#[tokio::test]
async fn results_of_a_fenced_node_change_nothing_but_successes() {
    let mut stage = Stage::set().await;
    assert!(stage.take_over().await);
    assert!(!stage.take_over().await, "once");
    for verdict in [RETRY, FAILED] {
        let late = stage.result(0, verdict);
        assert!(stage.finish(0, &late).await.is_empty());
        assert_eq!((stage.row().await, stage.settled().await), (Some((0, true)), None));
    }
    assert_eq!(stage.attempts().await, 2, "but they are told");
    // The new owner's retry, and then the old one's success.
    let retry = stage.result(0, RETRY);
    assert_eq!(stage.finish(1, &retry).await.len(), 1);
    let late = stage.result(0, Verdict::Succeeded);
    stage.finish(0, &late).await;
    assert_eq!((stage.row().await, stage.attempts().await), (None, 4));
    stage.end().await;
}

#[tokio::test]
async fn an_old_owners_retry_does_not_bring_back_what_the_new_one_has_delivered() {
    let mut stage = Stage::set().await;
    let (retry, success) = (stage.result(0, RETRY), stage.result(0, Verdict::Succeeded));
    // Both under way: the success has deleted the row, and is not committed.
    assert!(stage.take_over().await);
    let [old, new] = stage.nodes;
    let mut open = stage.two.begin().await.unwrap();
    finish(&mut open, new, std::slice::from_ref(&success), &[], true).await.unwrap();
    assert!(finish(&mut stage.one, old, std::slice::from_ref(&retry), &[], true).await.unwrap().is_empty());
    open.commit().await.unwrap();
    assert_eq!((stage.row().await, stage.attempts().await), (None, 2));
    stage.end().await;
}

#[tokio::test]
async fn a_takeover_waits_for_a_finish_under_way() {
    let mut stage = Stage::set().await;
    let [old, new] = stage.nodes;
    let retry = stage.result(0, RETRY);
    let mut other: PgConnection = stage.app.database.connect().await.unwrap();
    let mut open = other.begin().await.unwrap();
    assert_eq!(finish(&mut open, old, &[retry], &[], true).await.unwrap().len(), 1);
    let pool = stage.pool.clone();
    let takeover = tokio::spawn(async move { ownership::take_over(&pool, new, old, 0, ALL).await });
    stage.someone_waits().await;
    assert!(!takeover.is_finished());
    open.commit().await.unwrap();
    assert!(takeover.await.unwrap().unwrap());
    assert_eq!(stage.row().await, Some((1, false)), "the new owner reads the row as the old one left it");
    stage.end().await;
}

#[tokio::test]
async fn a_finish_that_waited_for_a_takeover_is_fenced() {
    let mut stage = Stage::set().await;
    let [old, new] = stage.nodes;
    let mut other: PgConnection = stage.app.database.connect().await.unwrap();
    let mut open = other.begin().await.unwrap();
    for step in [
        "SELECT shard FROM shards WHERE node = $1 ORDER BY shard FOR UPDATE",
        "UPDATE shards SET node = $2 WHERE node = $1",
    ] {
        let query = sqlx::query(step).bind(old);
        let query = if step.contains("$2") { query.bind(new) } else { query };
        query.execute(&mut *open).await.unwrap();
    }
    let retry = stage.result(0, RETRY);
    let mut late: PgConnection = stage.app.database.connect().await.unwrap();
    let finishing = tokio::spawn(async move { finish(&mut late, old, &[retry], &[], true).await });
    stage.someone_waits().await;
    open.commit().await.unwrap();
    assert!(finishing.await.unwrap().unwrap().is_empty());
    assert_eq!(stage.row().await, Some((0, true)));
    stage.end().await;
}

#[tokio::test]
async fn a_node_that_beats_is_not_taken_over_from() {
    let stage = Stage::set().await;
    let [old, new] = stage.nodes;
    assert!(ownership::beat(&stage.pool, old).await.unwrap().is_some());
    assert!(!stage.take_over().await, "its beat is not the one that was seen");
    // In the middle of its beat it is left alone, and not waited for.
    let mut other: PgConnection = stage.app.database.connect().await.unwrap();
    let mut open = other.begin().await.unwrap();
    ownership::beat(&mut *open, old).await.unwrap();
    assert!(!ownership::take_over(&stage.pool, new, old, 1, ALL).await.unwrap());
    open.rollback().await.unwrap();
    assert!(ownership::take_over(&stage.pool, new, old, 1, ALL).await.unwrap());
    assert_eq!(ownership::beat(&stage.pool, old).await.unwrap(), None, "it learns that it is dead");
    ownership::take_free(&stage.pool, old, ALL).await.unwrap();
    assert!(ownership::owned(&stage.pool, old).await.unwrap().is_empty());
    assert_eq!(ownership::owned(&stage.pool, new).await.unwrap().len(), 4_096);
    stage.end().await;
}

#[tokio::test]
async fn shards_that_a_node_took_with_its_last_breath_are_free() {
    let stage = Stage::set().await;
    let [old, new] = stage.nodes;
    // The statement that takes is under way when the node is told to stop: it commits after everything was given back.
    let third = Uuid::now_v7();
    ownership::register(&stage.pool, third).await.unwrap();
    ownership::release(&stage.pool, old).await.unwrap();
    let mut other: PgConnection = stage.app.database.connect().await.unwrap();
    let mut open = other.begin().await.unwrap();
    ownership::take_free(&mut *open, third, ALL).await.unwrap();
    ownership::release(&stage.pool, third).await.unwrap();
    open.commit().await.unwrap();
    assert_eq!(ownership::owned(&stage.pool, third).await.unwrap().len(), 4_096, "and it is dead");
    ownership::take_free(&stage.pool, new, ALL).await.unwrap();
    assert_eq!(ownership::owned(&stage.pool, new).await.unwrap().len(), 4_096);
    stage.end().await;
}

#[tokio::test]
async fn of_two_that_take_over_at_once_one_does() {
    let stage = Stage::set().await;
    let third = Uuid::now_v7();
    ownership::register(&stage.pool, third).await.unwrap();
    let (one, other) =
        tokio::join!(stage.take_over(), ownership::take_over(&stage.pool, third, stage.nodes[0], 0, ALL));
    assert!(one ^ other.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn a_retry_by_hand_of_what_is_in_flight_leaves_its_result_alone() {
    let mut stage = Stage::set().await;
    let (tenant, event, endpoint) = (stage.tenant, stage.event, stage.endpoint);
    // The first attempt is in flight: it is as soon as can be.
    assert_eq!(control::retry(&mut stage.two, tenant, event, endpoint, 1).await.unwrap(), Retried::Hastened);
    let retry = stage.result(0, RETRY);
    stage.finish(0, &retry).await;
    assert_eq!(stage.row().await, Some((1, false)));
    // The second is in flight, and hastened in a transaction that is still open when it fails.
    let mut other: PgConnection = stage.app.database.connect().await.unwrap();
    let mut open = other.begin().await.unwrap();
    assert_eq!(control::retry(&mut open, tenant, event, endpoint, 1).await.unwrap(), Retried::Hastened);
    let (owner, retry) = (stage.nodes[0], stage.result(1, RETRY));
    let mut late: PgConnection = stage.app.database.connect().await.unwrap();
    let finishing = tokio::spawn(async move { finish(&mut late, owner, &[retry], &[], true).await });
    stage.someone_waits().await;
    open.commit().await.unwrap();
    assert_eq!(finishing.await.unwrap().unwrap().len(), 1);
    assert_eq!(stage.row().await, Some((2, false)));
    // The third fails for good; by hand it starts again, and numbers go on.
    let failed = stage.result(2, FAILED);
    assert_eq!(stage.finish(0, &failed).await.len(), 1);
    assert_eq!((stage.row().await, stage.settled().await.as_deref()), (None, Some("failed")));
    let mut both = stage.app.database.connect().await.unwrap();
    let (first, second) = tokio::join!(
        control::retry(&mut stage.two, tenant, event, endpoint, 1),
        control::retry(&mut both, tenant, event, endpoint, 1)
    );
    let mut outcomes = [first.unwrap(), second.unwrap()];
    outcomes.sort_unstable_by_key(|outcome| *outcome == Retried::Requeued);
    assert_eq!(outcomes, [Retried::Hastened, Retried::Requeued], "of two at once one queues it");
    assert_eq!((stage.row().await, stage.settled().await), (Some((3, true)), None));
    // The result of the third, told again, finds a later turn.
    assert!(stage.finish(0, &failed).await.is_empty());
    assert_eq!(stage.row().await, Some((3, true)));
    stage.end().await;
}

#[tokio::test]
async fn a_failure_in_flight_changes_nothing_after_a_cancel() {
    for verdict in [RETRY, FAILED] {
        let mut stage = Stage::set().await;
        let (tenant, event, endpoint) = (stage.tenant, stage.event, stage.endpoint);
        // The cancel is under way when the result comes.
        let mut other: PgConnection = stage.app.database.connect().await.unwrap();
        let mut open = other.begin().await.unwrap();
        assert_eq!(control::cancel(&mut open, tenant, event, endpoint).await.unwrap(), Canceled::Canceled);
        let (owner, result) = (stage.nodes[0], stage.result(0, verdict));
        let mut late: PgConnection = stage.app.database.connect().await.unwrap();
        let finishing = tokio::spawn(async move { finish(&mut late, owner, &[result], &[], true).await });
        stage.someone_waits().await;
        open.commit().await.unwrap();
        assert!(finishing.await.unwrap().unwrap().is_empty());
        assert_eq!((stage.row().await, stage.settled().await.as_deref()), (None, Some("canceled")));
        assert_eq!(stage.attempts().await, 1, "it is told all the same");
        assert_eq!(
            control::cancel(&mut stage.two, tenant, event, endpoint).await.unwrap(),
            Canceled::NotPending
        );
        stage.end().await;
    }
}

#[tokio::test]
async fn a_cancel_that_waited_for_a_success_finds_nothing_to_cancel() {
    let mut stage = Stage::set().await;
    let (tenant, event, endpoint) = (stage.tenant, stage.event, stage.endpoint);
    let success = stage.result(0, Verdict::Succeeded);
    let mut other: PgConnection = stage.app.database.connect().await.unwrap();
    let mut open = other.begin().await.unwrap();
    finish(&mut open, stage.nodes[0], &[success], &[], true).await.unwrap();
    let mut late: PgConnection = stage.app.database.connect().await.unwrap();
    let canceling = tokio::spawn(async move { control::cancel(&mut late, tenant, event, endpoint).await });
    stage.someone_waits().await;
    open.commit().await.unwrap();
    assert_eq!(canceling.await.unwrap().unwrap(), Canceled::NotPending);
    assert_eq!((stage.row().await, stage.settled().await), (None, None));
    stage.end().await;
}

impl Stage {
    async fn new_event(&mut self, key: &str) -> NewEvent {
        NewEvent {
            id: self.clock.mint_in(self.location.shard()),
            tenant_id: self.tenant,
            location_id: self.location,
            routing_version: self.sql.count("SELECT max(routing_version) FROM locations").await,
            key_id: None,
            event_type: "message.sent".to_owned(),
            occurred_at: Timestamp::from_unix_us(0),
            channel: None,
            api_version: None,
            live_mode: true,
            tags: None,
            data: Bytes::from_static(b"{}"),
            deliveries: vec![NewDelivery { endpoint_id: self.endpoint, format_version: 1, format: None }],
            claim: Some(Claim {
                route: "events".to_owned(),
                key: key.to_owned(),
                fingerprint: [7; 32],
                answer: Bytes::from(format!("answer to {key}")),
            }),
        }
    }
}

#[tokio::test]
async fn of_two_publishes_with_one_key_the_second_gets_the_firsts_answer() {
    for first_commits in [true, false] {
        let mut stage = Stage::set().await;
        let (first, mut second) = (stage.new_event("a key").await, stage.new_event("a key").await);
        if let Some(claim) = &mut second.claim {
            claim.answer = Bytes::from_static(b"another answer");
        }
        let mut other: PgConnection = stage.app.database.connect().await.unwrap();
        let mut open = other.begin().await.unwrap();
        assert_eq!(ingest(&mut open, &[first]).await.unwrap(), [Ingested::Committed]);
        let mut late: PgConnection = stage.app.database.connect().await.unwrap();
        let publishing = tokio::spawn(async move { ingest(&mut late, &[second]).await });
        stage.someone_waits().await;
        let (expected, left) = if first_commits {
            open.commit().await.unwrap();
            let answer = b"answer to a key".to_vec();
            (Ingested::Replayed { fingerprint: vec![7; 32], answer }, 2)
        } else {
            open.rollback().await.unwrap();
            (Ingested::Committed, 2)
        };
        assert_eq!(publishing.await.unwrap().unwrap(), [expected]);
        for table in ["events", "queue"] {
            assert_eq!(stage.sql.count(&format!("SELECT count(*) FROM {table}")).await, left, "{table}");
        }
        stage.end().await;
    }
}

#[tokio::test]
async fn a_publish_that_was_routed_before_a_change_is_stale() {
    let mut stage = Stage::set().await;
    let event = stage.new_event("a key").await;
    control::reroute(&stage.pool, stage.location).await.unwrap();
    assert_eq!(ingest(&mut stage.one, &[event]).await.unwrap(), [Ingested::Stale]);
    assert_eq!(stage.sql.count("SELECT count(*) FROM idempotency").await, 0, "nothing of it is stored");
    assert_eq!(Shard::of(stage.event.uuid()), stage.location.shard());
    stage.end().await;
}
