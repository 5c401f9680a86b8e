-- A tenant is one customer account of the platform. Every other row belongs to one tenant.
CREATE TABLE tenants (
    id                        uuid PRIMARY KEY,
    name                      text NOT NULL,
    preset                    text NOT NULL,
    external_id               text CONSTRAINT tenants_external_id_key UNIQUE,
    allow_unknown_event_types boolean NOT NULL,
    validate_payloads         boolean NOT NULL,
    retention_days            integer CHECK (retention_days > 0),
    failing_days              integer NOT NULL CHECK (failing_days > 0),
    metadata                  jsonb NOT NULL,
    created_at                timestamptz NOT NULL,
    updated_at                timestamptz NOT NULL
);

CREATE TABLE api_keys (
    tenant_id    uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id           uuid NOT NULL,
    name         text NOT NULL,
    -- SHA-256 of the key's text; the key itself is shown once and kept nowhere.
    hash         bytea NOT NULL CONSTRAINT api_keys_hash_key UNIQUE CHECK (octet_length(hash) = 32),
    scopes       text[] NOT NULL CHECK (scopes <@ ARRAY['read', 'write', 'publish', 'secrets'] AND cardinality(scopes) > 0),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
