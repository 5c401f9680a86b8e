-- What a tenant is to be told about its endpoints, written in the transaction of what happened, and only for tenants with
-- an endpoint that asks for it. A row lives until its operational events are published, in one transaction with them.
CREATE TABLE notices (
    shard       integer NOT NULL,
    endpoint_id uuid NOT NULL,
    -- The nil id where it is about the endpoint.
    event_id    uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('failing', 'recovered', 'disabled', 'exhausted')),
    tenant_id   uuid NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (shard, endpoint_id, event_id, kind, at)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Asked for each delivery that fails.
CREATE INDEX subscriptions_operational ON subscriptions (tenant_id) WHERE starts_with(event_type, 'posthaste.');
