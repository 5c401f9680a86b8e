//! What the walls cost: round trips to Postgres, counted between it and the program.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use posthaste::app::Roles;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use crate::helpers::{
    app::{settings, start},
    client::PATIENCE,
    cluster::fresh_database,
};

/// Requests of a kind.
const TIMES: usize = 20;
const SOCKET: &str = ".s.PGSQL.5432";

/// What went to Postgres.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sent {
    /// Times that the program waited for an answer, but for what it prepares.
    round_trips: usize,
    /// Prepared statements that were run, and what was sent as text.
    executed: usize,
    texts: Vec<String>,
    /// Connections that are not back in their pool.
    busy: HashSet<usize>,
}

type Counted = Arc<Mutex<Sent>>;

/// Stands before Postgres and counts.
async fn counter(real: PathBuf, dir: &Path) -> Counted {
    let counted = Counted::default();
    let listener = UnixListener::bind(dir.join(SOCKET)).unwrap();
    let shared = Arc::clone(&counted);
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((client, _)) = listener.accept().await else { return };
            let server = UnixStream::connect(&real).await.unwrap();
            tokio::spawn(carry(number, client, server, Arc::clone(&shared)));
        }
    });
    counted
}

async fn carry(number: usize, client: UnixStream, server: UnixStream, counted: Counted) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut head = vec![0; 4];
    // The first message has no type. Then those since the program last waited for an answer.
    let (mut is_first, mut said) = (true, Vec::new());
    while from_client.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap()) as usize - 4;
        let mut body = vec![0; length];
        from_client.read_exact(&mut body).await.unwrap();
        if !std::mem::take(&mut is_first) {
            counted.lock().unwrap().hear(number, head[0], &body, &mut said);
        }
        to_server.write_all(&[&head[..], &body].concat()).await.unwrap();
        head.resize(5, 0);
    }
    // It was closed.
    counted.lock().unwrap().busy.remove(&number);
}

impl Sent {
    fn hear(&mut self, connection: usize, kind: u8, body: &[u8], said: &mut Vec<u8>) {
        match kind {
            // Goes along with what follows.
            b'Q' if body.starts_with(b"ROLLBACK") => {}
            b'Q' => {
                self.round_trips += 1;
                self.texts.push(String::from_utf8_lossy(&body[..body.len() - 1]).into_owned());
                self.busy.insert(connection);
            }
            // On its way back into the pool a connection is asked for nothing but whether it is ready.
            b'S' if said.is_empty() => {
                self.round_trips += 1;
                self.busy.remove(&connection);
            }
            b'S' => {
                // To prepare a statement is a matter of the connection, not of the request.
                self.round_trips += usize::from(!said.contains(&b'P'));
                self.executed += usize::from(said.contains(&b'E'));
                said.clear();
                self.busy.insert(connection);
            }
            other => said.push(other),
        }
    }
}

#[tokio::test]
async fn a_wall_costs_a_write_no_round_trip_a_read_one_and_a_publish_nothing() {
    let (database, _) = fresh_database().await;
    let dir = tempfile::tempdir().unwrap();
    let counted = counter(database.get_socket().unwrap().join(SOCKET), dir.path()).await;
    let through = database.clone().socket(dir.path());
    // Without a worker: nothing but requests speaks to Postgres.
    let mut app = start(settings(&through, &[]), through, Roles { api: true, worker: false }).await;
    let tenant = app.tenant().await;
    let location = format!("/v1/locations/{}", tenant.location_id);
    let read = async || drop(tenant.client.get(&location).await.expect(200));
    // Another name each time: what changes nothing is not written.
    let names = AtomicUsize::new(0);
    let write = async || {
        let name = format!("N{}", names.fetch_add(1, Ordering::Relaxed));
        drop(tenant.client.patch(&location, json!({"name": name})).await.expect(200));
    };
    let publish = async || drop(tenant.publish("message.sent", json!({})).await);
    // Whatever is prepared or remembered is so by then.
    for _ in 0..TIMES {
        read().await;
        write().await;
        publish().await;
    }
    publish().await;
    // What is said last is said after the answer.
    let all = async || {
        let at_rest = async {
            while !counted.lock().unwrap().busy.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        let rested = tokio::time::timeout(PATIENCE, at_rest).await;
        assert!(rested.is_ok(), "{:?}", counted.lock().unwrap());
        std::mem::take(&mut *counted.lock().unwrap())
    };
    all().await;
    // One statement, and its connection back.
    for _ in 0..TIMES {
        publish().await;
    }
    let publishes = all().await;
    assert_eq!((publishes.round_trips, publishes.executed, walls(&publishes)), (TIMES * 2, TIMES, 0));

    // Look up the key, and its connection back; the wall; the row; the connection back, rolled back with it.
    for _ in 0..TIMES {
        read().await;
    }
    let reads = all().await;
    assert_eq!((reads.round_trips, reads.executed, walls(&reads)), (TIMES * 5, TIMES * 2, TIMES));

    // The key, and its connection back; the wall with BEGIN; lock, read, change, audit; COMMIT; the connection back.
    for _ in 0..TIMES {
        write().await;
    }
    let writes = all().await;
    assert_eq!((writes.round_trips, writes.executed, walls(&writes)), (TIMES * 9, TIMES * 5, TIMES));
    app.stop().await;
}

/// Times that a wall was put up, each in the message of the `BEGIN` that there is anyway for a write.
fn walls(sent: &Sent) -> usize {
    let walls = sent.texts.iter().filter(|text| text.contains("posthaste_tenant"));
    walls
        .inspect(|text| assert!(text.ends_with("; BEGIN") && text.matches(';').count() == 1, "{text}"))
        .count()
}
