//! Commands wait for what they concern, and for nothing else.

use posthaste::{
    app::Roles,
    queue::{
        control::{self, Ack},
        ownership,
    },
    types::{EndpointId, Shard},
};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::interleavings::ALL;
use crate::helpers::{
    Answer, Receiver, TestApp,
    app::{Tenant, settings, start},
    cluster::fresh_database,
    spawn,
};

/// An endpoint whose receiver hangs with a request, beside one of the same location that works.
async fn beside_one_that_hangs(tenant: &Tenant, receiver: &mut Receiver) -> (Value, Value) {
    receiver.script("/hangs", [Answer::never()]);
    let fields = json!({"timeout_ms": 30_000, "event_types": ["contact.*"]});
    let hangs = tenant.endpoint(&receiver.url("/hangs"), fields).await;
    let works = tenant.endpoint(&receiver.url("/works"), json!({"retry_schedule_s": [3_600]})).await;
    tenant.publish("contact.created", json!({})).await;
    assert_eq!(receiver.next().await.path, "/hangs");
    (hangs, works)
}

#[tokio::test]
async fn commands_beside_a_neighbour_that_hangs_are_obeyed_while_it_hangs() {
    let app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let (hangs, works) = beside_one_that_hangs(&tenant, &mut receiver).await;
    let path = |endpoint: &Value| format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    // The one that hangs is commanded first: its pause waits, and what comes after it does not.
    let pause = tenant.client.clone();
    let pause_path = format!("{}/pause", path(&hangs));
    let waiting = tokio::spawn(async move { pause.poke(&pause_path).await });
    tenant.endpoint_when(&hangs, |endpoint| endpoint["status"] == "paused").await;

    receiver.script("/works", [Answer::status(500)]);
    let published = tenant.publish("message.sent", json!({})).await;
    tenant.delivery_when(&published, &works, |delivery| delivery["attempt_count"] == 1).await;
    tenant.tell_delivery(&published, &works, "cancel").await.expect(200);
    tenant.tell(&works, "pause").await;
    tenant.tell(&works, "resume").await;
    tenant.client.patch(&path(&works), json!({"max_in_flight": 1})).await.expect(200);
    tenant.client.delete(&path(&works)).await.expect(204);
    assert_eq!(receiver.under_way("/hangs"), 1, "and all the while it hangs");
    assert_eq!(waiting.await.unwrap().status, 202, "which its own command has waited for");
    // It is left running: a clean stop would wait for what hangs.
}

/// A database whose shard of one endpoint is owned by the first of two nodes, without a worker.
struct Stage {
    app: TestApp,
    pool: PgPool,
    nodes: [Uuid; 2],
    /// Of one shard.
    endpoints: [EndpointId; 2],
    shard: Shard,
}

impl Stage {
    async fn set() -> Self {
        let (database, _) = fresh_database().await;
        let app = start(settings(&database, &[]), database, Roles { api: true, worker: false }).await;
        let pool = app.pool().await;
        let nodes = [Uuid::now_v7(), Uuid::now_v7()];
        for node in nodes {
            ownership::register(&pool, node).await.unwrap();
        }
        ownership::take_free(&pool, nodes[0], ALL).await.unwrap();
        let endpoints = [1, 2].map(|number: u128| EndpointId::from_uuid(Uuid::from_u128(number << 64 | 77)));
        Self { app, pool, nodes, endpoints, shard: endpoints[0].shard() }
    }

    async fn command(&self, endpoint: usize) -> control::Command {
        let mut transaction = self.pool.begin().await.unwrap();
        let command = control::command_endpoint(&mut transaction, self.endpoints[endpoint]).await.unwrap();
        transaction.commit().await.unwrap();
        command
    }

    async fn command_shard(&self) -> control::Command {
        control::command(&mut self.pool.acquire().await.unwrap(), self.shard).await.unwrap()
    }

    async fn acknowledge(&self, node: usize, seen: i64, versions: &[i64]) {
        let ack = Ack { shard: self.shard, seen, versions: versions.to_vec() };
        control::acknowledge(&self.pool, self.nodes[node], &[ack]).await.unwrap();
    }

    async fn obeyed(&self, commands: &[control::Command]) -> Vec<bool> {
        let mut obeyed = Vec::new();
        for command in commands {
            obeyed.push(control::are_obeyed(&self.pool, &[*command]).await.unwrap());
        }
        obeyed
    }

    async fn end(mut self) {
        self.pool.close().await;
        self.app.stop().await;
    }

    /// `(seen, version, commands to endpoints)` as this node reads it.
    async fn pending(&self, node: usize) -> Option<(i64, i64, Vec<(i64, EndpointId)>)> {
        let mut pending = control::pending(&self.pool, self.nodes[node]).await.unwrap();
        assert!(pending.len() <= 1);
        pending.pop().map(|one| (one.seen, one.version, one.of_endpoints))
    }
}

#[tokio::test]
async fn a_command_is_obeyed_when_its_owner_says_so_of_it() {
    let stage = Stage::set().await;
    let [one, two] = stage.endpoints;
    let commands =
        [stage.command(0).await, stage.command(1).await, stage.command_shard().await, stage.command(1).await];
    assert_eq!(stage.pending(0).await, Some((0, 4, vec![(1, one), (2, two), (4, two)])));
    assert_eq!(stage.obeyed(&commands).await, [false; 4]);
    stage.acknowledge(0, 0, &[2]).await;
    assert_eq!(stage.obeyed(&commands).await, [false, true, false, false]);
    // Who has lost the shard has nothing to say.
    stage.acknowledge(1, 4, &[1]).await;
    assert_eq!(stage.obeyed(&commands).await, [false, true, false, false]);
    assert_eq!(stage.pending(0).await, Some((0, 4, vec![(1, one), (4, two)])));
    stage.acknowledge(0, 3, &[1, 3]).await;
    assert_eq!(stage.obeyed(&commands).await, [true, true, true, false]);
    stage.acknowledge(0, 0, &[]).await;
    assert_eq!(stage.pending(0).await, Some((3, 4, vec![(4, two)])), "nor does it go back");
    stage.acknowledge(0, 4, &[4]).await;
    assert_eq!(stage.obeyed(&commands).await, [true; 4]);
    assert_eq!(stage.pending(0).await, None);
    stage.end().await;
}

#[tokio::test]
async fn what_one_owner_has_not_obeyed_the_next_one_reads() {
    let stage = Stage::set().await;
    let [one, two] = stage.endpoints;
    let commands = [stage.command(0).await, stage.command(1).await];
    stage.acknowledge(0, 0, &[2]).await;
    assert!(ownership::take_over(&stage.pool, stage.nodes[1], stage.nodes[0], 0, ALL).await.unwrap());
    assert_eq!(stage.obeyed(&commands).await, [false, true]);
    assert_eq!(stage.pending(0).await, None);
    assert_eq!(stage.pending(1).await, Some((0, 2, vec![(1, one)])));
    stage.acknowledge(0, 2, &[1]).await;
    assert_eq!(stage.obeyed(&commands).await, [false, true], "the old one comes too late");
    stage.acknowledge(1, 2, &[1]).await;
    assert_eq!(stage.obeyed(&commands).await, [true; 2]);

    // Given back: nobody sends, and whoever takes the shard begins by reading.
    ownership::release(&stage.pool, stage.nodes[1]).await.unwrap();
    let command = stage.command(1).await;
    assert_eq!(stage.obeyed(&[command]).await, [true]);
    let third = Uuid::now_v7();
    ownership::register(&stage.pool, third).await.unwrap();
    ownership::take_free(&stage.pool, third, ALL).await.unwrap();
    let stage = Stage { nodes: [third, stage.nodes[1]], ..stage };
    assert_eq!(stage.obeyed(&[command]).await, [false]);
    assert_eq!(stage.pending(0).await, Some((2, 3, vec![(3, two)])));
    stage.end().await;
}

#[tokio::test]
async fn more_commands_than_are_told_apart_concern_the_shard() {
    let stage = Stage::set().await;
    let mut commands = Vec::new();
    for _ in 0..70 {
        commands.push(stage.command(0).await);
    }
    let (_, version, of_endpoints) = stage.pending(0).await.unwrap();
    assert_eq!((version, of_endpoints.len()), (70, 64));
    assert!(
        stage.obeyed(&commands).await.iter().all(|obeyed| !obeyed),
        "what is not told apart is not obeyed either"
    );
    stage.acknowledge(0, 70, &[]).await;
    assert!(stage.obeyed(&commands).await.iter().all(|obeyed| *obeyed));
    assert!(!stage.obeyed(&[stage.command(0).await]).await[0]);
    assert_eq!(stage.pending(0).await.unwrap().2.len(), 1);
    stage.end().await;
}
