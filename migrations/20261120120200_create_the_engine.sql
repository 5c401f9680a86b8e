-- Nodes and shards: who may send what. See src/queue/ownership.rs.
CREATE TABLE nodes (
    id         uuid PRIMARY KEY,
    -- Counts up; others judge by whether it changes, never by a wall clock.
    beat       bigint NOT NULL DEFAULT 0,
    dead       boolean NOT NULL DEFAULT false,
    -- Stopped by itself: nothing of it was in flight.
    clean      boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

CREATE TABLE shards (
    shard          integer PRIMARY KEY CHECK (shard BETWEEN 0 AND 4095),
    node           uuid REFERENCES nodes (id),
    epoch          bigint NOT NULL DEFAULT 0,
    -- A command (pause, delete, …) counts config_version up; the owner answers with config_seen once it obeys.
    config_version bigint NOT NULL DEFAULT 0,
    config_seen    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX shards_by_node ON shards (node);
CREATE INDEX shards_commanded ON shards (node) WHERE config_version > config_seen;
INSERT INTO shards (shard) SELECT generate_series(0, 4095);

-- An event is stored once, as exact bytes, and never changes. Partitions (one a UTC day, by the time in the UUIDv7) are
-- made ahead by the maintenance and dropped when the retention has passed.
CREATE TABLE events (
    shard        integer NOT NULL,
    id           uuid NOT NULL,
    tenant_id    uuid NOT NULL,
    location_id  uuid NOT NULL,
    event_type   text NOT NULL,
    occurred_at  timestamptz NOT NULL,
    channel      text,
    api_version  text,
    live_mode    boolean NOT NULL,
    tags         jsonb,
    endpoint_ids uuid[] NOT NULL,
    data         bytea NOT NULL,
    PRIMARY KEY (shard, id)
) PARTITION BY RANGE (id);
CREATE INDEX events_by_location ON events (shard, location_id, id);

-- A row here is a pending delivery (held, if its endpoint is paused or disabled). The identity of a row never changes,
-- so a success deletes by identity, whoever brings it; everything else is a compare-and-set on seq.
CREATE TABLE queue (
    shard          integer NOT NULL,
    endpoint_id    uuid NOT NULL,
    event_id       uuid NOT NULL,
    -- NULL: fresh, to be sent at once. Otherwise a retry, or a release by hand.
    due_at         timestamptz,
    -- Attempts so far; never reset.
    seq            integer NOT NULL DEFAULT 0 CHECK (seq >= 0),
    -- Place on the retry ladder.
    step           smallint NOT NULL DEFAULT 0 CHECK (step >= 0),
    -- The wire format that this delivery was created with.
    format_version integer NOT NULL,
    -- Unclean takeovers that found this row at the head of its lane.
    suspects       smallint NOT NULL DEFAULT 0,
    -- What caused the next attempt: 0 scheduled, 1 manual, 2 replay.
    cause          smallint NOT NULL DEFAULT 0 CHECK (cause BETWEEN 0 AND 2),
    PRIMARY KEY (shard, endpoint_id, event_id)
) WITH (
    -- Rows live for milliseconds. Thresholds that do not grow with the table keep a backlog from putting vacuum off, and a
    -- truncation at the end would take a lock that stops everyone.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
CREATE INDEX queue_due ON queue (shard, endpoint_id, due_at) WHERE due_at IS NOT NULL;

-- One row an HTTP POST, append-only, in the partition of its event: one lifetime.
CREATE TABLE attempts (
    shard            integer NOT NULL,
    endpoint_id      uuid NOT NULL,
    event_id         uuid NOT NULL,
    id               uuid NOT NULL,
    tenant_id        uuid NOT NULL,
    at               timestamptz NOT NULL,
    number           integer NOT NULL,
    endpoint_version integer NOT NULL,
    format_version   integer NOT NULL,
    duration_ms      integer NOT NULL,
    dns_ms           integer,
    connect_ms       integer,
    tls_ms           integer,
    first_byte_ms    integer,
    response_status  smallint,
    -- 0 scheduled, 1 manual, 2 replay, 3 test
    cause            smallint NOT NULL CHECK (cause BETWEEN 0 AND 3),
    succeeded        boolean NOT NULL,
    truncated        boolean NOT NULL,
    error            text,
    error_detail     text,
    remote_addr      text,
    response_headers bytea,
    response_body    bytea,
    CHECK (succeeded = (error IS NULL)),
    PRIMARY KEY (shard, endpoint_id, event_id, id)
) PARTITION BY RANGE (event_id);

-- How a delivery ended other than by success. Gone again when it is retried, replayed or recovered.
CREATE TABLE settled (
    shard       integer NOT NULL,
    endpoint_id uuid NOT NULL,
    event_id    uuid NOT NULL,
    tenant_id   uuid NOT NULL,
    status      text NOT NULL CHECK (status IN ('failed', 'canceled', 'expired')),
    reason      text NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (shard, endpoint_id, event_id)
) PARTITION BY RANGE (event_id);

-- The first answer to a POST with an Idempotency-Key, in the transaction of its effect.
CREATE TABLE idempotency (
    shard       integer NOT NULL,
    tenant_id   uuid NOT NULL,
    route       text NOT NULL,
    key         text NOT NULL,
    -- The id of whoever came first: for a publish, its event.
    claim       uuid NOT NULL,
    fingerprint bytea NOT NULL,
    answer      bytea NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (shard, tenant_id, route, key)
);
CREATE INDEX idempotency_age ON idempotency USING brin (created_at);
