-- Who did what. Append-only; the names of changed fields, never their values.
CREATE TABLE audit_log (
    tenant_id  uuid NOT NULL,
    id         uuid NOT NULL,
    at         timestamptz NOT NULL,
    -- NULL: the operator.
    key_id     uuid,
    action     text NOT NULL,
    resource   text NOT NULL,
    request_id text,
    fields     text[] NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
