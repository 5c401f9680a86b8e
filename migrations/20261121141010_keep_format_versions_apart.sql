-- A name means a version of its own tenant. Postgres checks foreign keys past the walls, so the tenant is part of them.
ALTER TABLE wire_format_versions ADD UNIQUE (tenant_id, version);
ALTER TABLE wire_formats
    DROP CONSTRAINT wire_formats_version_fkey,
    ADD FOREIGN KEY (tenant_id, version) REFERENCES wire_format_versions (tenant_id, version);

-- Endpoints have formats of the program as well, which are in no table: below 1000. Behind the wall of the versions only
-- the tenant's own are seen.
ALTER POLICY tenant ON endpoints WITH CHECK (
    tenant_id = (SELECT NULLIF(current_setting('posthaste.tenant', true), '')::uuid)
    AND (format_version < 1000 OR EXISTS (SELECT 1 FROM wire_format_versions v WHERE v.version = format_version))
);
