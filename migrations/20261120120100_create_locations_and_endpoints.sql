-- `shard` is the last 12 bits of a location's id. Everything minted inside a location carries the same bits, so it
-- leads the key of every table that the delivery engine touches, and is never updated.
CREATE TABLE locations (
    shard           integer NOT NULL,
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL REFERENCES tenants (id),
    external_id     text,
    name            text NOT NULL,
    channels        jsonb NOT NULL,
    metadata        jsonb NOT NULL,
    -- Grows with every change that decides who gets an event. A publish that was routed by an older one is routed again.
    routing_version bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    -- A tombstone: gone for everyone, purged once its endpoints are.
    deleted_at      timestamptz,
    PRIMARY KEY (shard, id),
    CONSTRAINT locations_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT locations_tenant_id_external_id_key UNIQUE (tenant_id, external_id)
);

CREATE TABLE endpoints (
    tenant_id        uuid NOT NULL,
    id               uuid NOT NULL,
    shard            integer NOT NULL,
    location_id      uuid NOT NULL,
    name             text NOT NULL,
    url              text NOT NULL,
    format           text NOT NULL,
    format_version   integer NOT NULL,
    rate_limit_per_s integer CHECK (rate_limit_per_s > 0),
    max_in_flight    integer NOT NULL CHECK (max_in_flight > 0),
    timeout_ms       integer CHECK (timeout_ms BETWEEN 1000 AND 30000),
    retry_schedule_s integer[],
    -- The values of custom headers are often credentials: sealed as one JSON object, names and values.
    headers_sealed   bytea,
    metadata         jsonb NOT NULL,
    paused_at        timestamptz,
    -- The ETag; also names the row of endpoint_versions that says where and how attempts were sent.
    version          integer NOT NULL DEFAULT 1,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    -- Deletion is a tombstone first: what an ingest under way still adds is purged with the rest once no snapshot is
    -- older than this transaction id.
    deleted_at       timestamptz,
    deleted_xid      bigint,
    CHECK ((deleted_at IS NULL) = (deleted_xid IS NULL)),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, location_id) REFERENCES locations (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX endpoints_by_shard ON endpoints (shard, id);
CREATE INDEX endpoints_by_location ON endpoints (tenant_id, location_id, id);
CREATE INDEX endpoints_deleted ON endpoints (deleted_xid) WHERE deleted_xid IS NOT NULL;

-- What an attempt was sent with: attempts carry only the version number.
CREATE TABLE endpoint_versions (
    tenant_id      uuid NOT NULL,
    endpoint_id    uuid NOT NULL,
    version        integer NOT NULL,
    url            text NOT NULL,
    headers_sealed bytea,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, endpoint_id, version),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES endpoints (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE endpoint_secrets (
    tenant_id   uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    id          uuid NOT NULL,
    sealed      bytea NOT NULL,
    created_at  timestamptz NOT NULL,
    -- NULL: the current one. A rotated one signs beside it until its grace period ends.
    expires_at  timestamptz,
    PRIMARY KEY (tenant_id, endpoint_id, id),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES endpoints (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX endpoint_secrets_current ON endpoint_secrets (tenant_id, endpoint_id) WHERE expires_at IS NULL;

CREATE TABLE subscriptions (
    tenant_id   uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    -- A pattern: an event type's name, `prefix.*` or `*`.
    event_type  text NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, endpoint_id, event_type),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES endpoints (tenant_id, id) ON DELETE CASCADE
);

-- How an endpoint does, written by the node that owns its shard (and by a resume). Made and purged with the endpoint;
-- no foreign key, so that the owner's writes take no lock on the endpoint's row.
CREATE TABLE endpoint_health (
    shard           integer NOT NULL,
    endpoint_id     uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    failing_since   timestamptz,
    disabled_at     timestamptz,
    disabled_reason text,
    last_success_at timestamptz,
    last_failure_at timestamptz,
    last_error      text,
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL)),
    PRIMARY KEY (shard, endpoint_id)
) WITH (fillfactor = 70);
