//! Publishing: many events, their deliveries and their idempotency keys in one statement.
//!
//! Each event was routed in memory by a version of its location's routing table. The statement takes only what was routed
//! by the current version, with a key that still lives; the rest comes back as stale, nothing of it stored. Rows of one
//! statement are independent of each other: of two publishers with the same idempotency key one inserts, the other gets
//! the first one's answer.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::formats::Format;
use crate::types::{EndpointId, EventId, KeyId, LocationId, Shard, TenantId, Timestamp};

/// An event that is ready to be stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub id: EventId,
    pub tenant_id: TenantId,
    pub location_id: LocationId,
    /// Version of the routing table that chose the deliveries.
    pub routing_version: i64,
    /// `None`: the operator.
    pub key_id: Option<KeyId>,
    pub event_type: String,
    pub occurred_at: Timestamp,
    pub channel: Option<String>,
    pub api_version: Option<String>,
    pub live_mode: bool,
    /// JSON text.
    pub tags: Option<String>,
    pub data: Bytes,
    pub deliveries: Vec<NewDelivery>,
    pub claim: Option<Claim>,
}

#[derive(Clone, Debug)]
pub struct NewDelivery {
    pub endpoint_id: EndpointId,
    pub format_version: i32,
    /// For whoever sends it at once; the number is what is stored.
    pub format: Option<Arc<Format>>,
}

/// An idempotency key with what it stands for. It is kept in the shard of what it made.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What the key is scoped to, within its tenant.
    pub route: String,
    pub key: String,
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
    /// The answer to give, now and to every repeat.
    pub answer: Bytes,
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ingested {
    Committed,
    /// The key was used before: here is the first answer.
    Replayed {
        fingerprint: Vec<u8>,
        answer: Vec<u8>,
    },
    /// The routing has changed or the API key is dead: look again.
    Stale,
}

/// Stores what is current. No two events of one call may carry the same idempotency key.
pub async fn ingest(db: &mut PgConnection, events: &[NewEvent]) -> sqlx::Result<Vec<Ingested>> {
    let column = |uuid: fn(&NewEvent) -> Uuid| events.iter().map(uuid).collect::<Vec<_>>();
    let shards: Vec<i32> = events.iter().map(|event| event.id.shard().column()).collect();
    let grounds = Grounds::of(events);
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    let occurred: Vec<_> = events.iter().map(|event| event.occurred_at.datetime()).collect();
    let channels: Vec<Option<&str>> = events.iter().map(|event| event.channel.as_deref()).collect();
    let api_versions: Vec<Option<&str>> = events.iter().map(|event| event.api_version.as_deref()).collect();
    let live_modes: Vec<bool> = events.iter().map(|event| event.live_mode).collect();
    let tags: Vec<Option<&str>> = events.iter().map(|event| event.tags.as_deref()).collect();
    let data: Vec<&[u8]> = events.iter().map(|event| &event.data[..]).collect();
    let endpoint_lists: Vec<String> = events.iter().map(|event| array_literal(&event.deliveries)).collect();
    let claims = || events.iter().map(|event| event.claim.as_ref());
    let routes: Vec<Option<&str>> = claims().map(|claim| claim.map(|claim| claim.route.as_str())).collect();
    let keys: Vec<Option<&str>> = claims().map(|claim| claim.map(|claim| claim.key.as_str())).collect();
    let fingerprints: Vec<Option<&[u8]>> =
        claims().map(|claim| claim.map(|claim| &claim.fingerprint[..])).collect();
    let answers: Vec<Option<&[u8]>> = claims().map(|claim| claim.map(|claim| &claim.answer[..])).collect();
    let mut deliveries: Vec<(&NewEvent, &NewDelivery)> = events
        .iter()
        .flat_map(|event| event.deliveries.iter().map(move |delivery| (event, delivery)))
        .collect();
    // By key: a page of the index that is filled in order is split with less to write.
    deliveries.sort_unstable_by_key(|(event, delivery)| (event.id.shard(), delivery.endpoint_id, event.id));
    let queue_shards: Vec<i32> = deliveries.iter().map(|(event, _)| event.id.shard().column()).collect();
    let queue_endpoints: Vec<Uuid> =
        deliveries.iter().map(|(_, delivery)| delivery.endpoint_id.uuid()).collect();
    let queue_events: Vec<Uuid> = deliveries.iter().map(|(event, _)| event.id.uuid()).collect();
    let queue_formats: Vec<i32> = deliveries.iter().map(|(_, delivery)| delivery.format_version).collect();

    // `IN (…) IS TRUE` keeps the sub-select a hashed one: as a semi-join it would be a loop over both sides.
    let rows = sqlx::query!(
        r#"
        WITH input AS MATERIALIZED (
            SELECT * FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::text[], $7::timestamptz[],
                $8::text[], $9::text[], $10::bool[], $11::text[], $12::text[], $13::bytea[], $14::text[], $15::text[],
                $16::bytea[], $17::bytea[])
            AS i(shard, id, tenant_id, location_id, ground, event_type, occurred_at, channel, api_version, live_mode, tags,
                endpoint_ids, data, route, key, fingerprint, answer)
        ), firm AS MATERIALIZED (
            SELECT g.ground
            FROM unnest($18::int[], $19::uuid[], $20::uuid[], $21::bigint[], $22::uuid[]) WITH ORDINALITY
                AS g(shard, tenant_id, location_id, routing_version, key_id, ground)
            -- A join could be turned round, and look at every location.
            CROSS JOIN LATERAL (
                SELECT 1 FROM locations l WHERE l.shard = g.shard AND l.id = g.location_id AND l.tenant_id = g.tenant_id
                    AND l.routing_version = g.routing_version LIMIT 1) current
            WHERE g.key_id IS NULL OR EXISTS (
                SELECT 1 FROM api_keys k WHERE k.tenant_id = g.tenant_id AND k.id = g.key_id AND k.revoked_at IS NULL)
        ), fresh AS MATERIALIZED (
            SELECT i.* FROM input i WHERE (i.ground IN (SELECT f.ground FROM firm f)) IS TRUE
        ), claimed AS (
            -- DO UPDATE rather than DO NOTHING: the loser of a race must be shown the winner's row.
            INSERT INTO idempotency AS t (shard, tenant_id, route, key, claim, fingerprint, answer, created_at)
            SELECT f.shard, f.tenant_id, f.route, f.key, f.id, f.fingerprint, f.answer, now()
            FROM fresh f WHERE f.key IS NOT NULL
            ON CONFLICT (shard, tenant_id, route, key) DO UPDATE SET key = excluded.key
            RETURNING t.tenant_id, t.route, t.key, t.claim, t.fingerprint, t.answer
        ), stored AS (
            INSERT INTO events AS t (shard, id, tenant_id, location_id, event_type, occurred_at, channel, api_version,
                live_mode, tags, endpoint_ids, data)
            SELECT f.shard, f.id, f.tenant_id, f.location_id, f.event_type, f.occurred_at, f.channel, f.api_version,
                f.live_mode, f.tags::jsonb, f.endpoint_ids::uuid[], f.data
            FROM fresh f
            WHERE f.key IS NULL OR f.id IN (SELECT c.claim FROM claimed c)
            RETURNING t.id
        ), queued AS (
            INSERT INTO queue (shard, endpoint_id, event_id, format_version)
            SELECT d.shard, d.endpoint_id, d.event_id, d.format_version
            FROM unnest($23::int[], $24::uuid[], $25::uuid[], $26::int[]) AS d(shard, endpoint_id, event_id, format_version)
            WHERE (d.event_id IN (SELECT s.id FROM stored s)) IS TRUE
        )
        SELECT s.id AS "id!", NULL::uuid AS tenant_id, NULL::text AS route, NULL::text AS key, NULL::bytea AS fingerprint,
            NULL::bytea AS answer
        FROM stored s
        UNION ALL
        SELECT c.claim, c.tenant_id, c.route, c.key, c.fingerprint, c.answer
        FROM claimed c WHERE (c.claim IN (SELECT i.id FROM input i)) IS NOT TRUE
        "#,
        &shards,
        &column(|event| event.id.uuid()),
        &column(|event| event.tenant_id.uuid()),
        &column(|event| event.location_id.uuid()),
        &grounds.of_events,
        &types as _,
        &occurred,
        &channels as _,
        &api_versions as _,
        &live_modes,
        &tags as _,
        &endpoint_lists,
        &data as _,
        &routes as _,
        &keys as _,
        &fingerprints as _,
        &answers as _,
        &grounds.shards,
        &grounds.tenants,
        &grounds.locations,
        &grounds.versions,
        &grounds.keys as _,
        &queue_shards,
        &queue_endpoints,
        &queue_events,
        &queue_formats
    )
    .fetch_all(db)
    .await?;

    let mut outcomes: HashMap<Uuid, Ingested> = HashMap::with_capacity(rows.len());
    let mut replays = HashMap::new();
    for row in rows {
        match (row.tenant_id, row.route, row.key, row.fingerprint, row.answer) {
            (Some(tenant), Some(route), Some(key), Some(fingerprint), Some(answer)) => {
                replays.insert((tenant, route, key), Ingested::Replayed { fingerprint, answer });
            }
            _ => {
                outcomes.insert(row.id, Ingested::Committed);
            }
        }
    }
    let outcome = |event: &NewEvent| {
        if let Some(outcome) = outcomes.remove(&event.id.uuid()) {
            return outcome;
        }
        let claim = event.claim.as_ref().filter(|_| !replays.is_empty());
        claim
            .and_then(|claim| {
                replays.remove(&(event.tenant_id.uuid(), claim.route.clone(), claim.key.clone()))
            })
            .unwrap_or(Ingested::Stale)
    };
    Ok(events.iter().map(outcome).collect())
}

/// What events are taken in on: a location as it was routed, and an API key. Each is looked up once, however many events stand on it.
#[derive(Default)]
struct Grounds {
    shards: Vec<i32>,
    tenants: Vec<Uuid>,
    locations: Vec<Uuid>,
    versions: Vec<i64>,
    keys: Vec<Option<Uuid>>,
    /// The one of each event, counted from 1.
    of_events: Vec<i64>,
}

impl Grounds {
    fn of(events: &[NewEvent]) -> Self {
        let (mut grounds, mut known) = (Self::default(), HashMap::new());
        for event in events {
            let ground = (event.tenant_id, event.location_id, event.routing_version, event.key_id);
            let number = *known.entry(ground).or_insert_with(|| {
                grounds.shards.push(event.id.shard().column());
                grounds.tenants.push(event.tenant_id.uuid());
                grounds.locations.push(event.location_id.uuid());
                grounds.versions.push(event.routing_version);
                grounds.keys.push(event.key_id.map(KeyId::uuid));
                grounds.shards.len() as i64
            });
            grounds.of_events.push(number);
        }
        grounds
    }
}

/// `{…}` as Postgres reads a uuid[]; arrays of arrays can't be unnested by row.
fn array_literal(deliveries: &[NewDelivery]) -> String {
    const CHARS_PER_ID: usize = 37;
    let mut text = String::with_capacity(2 + deliveries.len() * CHARS_PER_ID);
    text.push('{');
    for (place, delivery) in deliveries.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        let mut buffer = Uuid::encode_buffer();
        text.push_str(delivery.endpoint_id.uuid().hyphenated().encode_lower(&mut buffer));
    }
    text.push('}');
    text
}

/// A key that covers a whole batch.
#[derive(Clone, Debug)]
pub struct BatchClaim {
    pub shard: Shard,
    pub tenant_id: TenantId,
    /// Of the call; whoever came first has left theirs.
    pub id: Uuid,
    pub claim: Claim,
}

/// Claims a key, in the transaction that stores the batch. `Some` is the first answer.
pub async fn claim_batch(db: &mut PgConnection, batch: &BatchClaim) -> sqlx::Result<Option<Ingested>> {
    let row = sqlx::query!(
        "INSERT INTO idempotency AS t (shard, tenant_id, route, key, claim, fingerprint, answer, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, now())
         ON CONFLICT (shard, tenant_id, route, key) DO UPDATE SET key = excluded.key
         RETURNING t.claim, t.fingerprint, t.answer",
        batch.shard.column(),
        batch.tenant_id.uuid(),
        batch.claim.route,
        batch.claim.key,
        batch.id,
        &batch.claim.fingerprint[..],
        &batch.claim.answer[..]
    )
    .fetch_one(db)
    .await?;
    let first = row.claim == batch.id;
    Ok((!first).then_some(Ingested::Replayed { fingerprint: row.fingerprint, answer: row.answer }))
}
