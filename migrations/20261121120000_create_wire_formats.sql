-- Tenants' own wire formats. Every version that there ever was is kept, and never changes: deliveries and attempts name
-- the one that they were made with.
CREATE TABLE wire_format_versions (
    -- Below 1000 are the numbers of the formats that are part of the program.
    version    integer GENERATED ALWAYS AS IDENTITY (MINVALUE 1000) PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name       text NOT NULL,
    -- JSON, but as text: the order of an envelope's keys is that of the body, and jsonb would lose it.
    definition text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX wire_format_versions_by_name ON wire_format_versions (tenant_id, name);

-- The names that are taken, each with the version that endpoints use from now on.
CREATE TABLE wire_formats (
    tenant_id  uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name       text NOT NULL,
    version    integer NOT NULL REFERENCES wire_format_versions (version),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, name)
);
CREATE INDEX endpoints_by_format ON endpoints (tenant_id, format) WHERE deleted_at IS NULL;
