-- Walls between tenants. What a tenant's request does runs as posthaste_tenant, which owns nothing and sees the rows of the
-- tenant that its transaction has set (src/db/wall.rs), and without one nothing. Whoever the program logs in as is a member of
-- posthaste_engine, and sees every tenant. FORCE: the tables' owner needs that, too.

-- Roles are the cluster's: they may be there, or another database may be making them just now. Never changed or dropped.
DO $$
DECLARE
    -- Before Postgres 16 whoever is a member may change into the role.
    change text := CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END;
    missing text;
BEGIN
    FOREACH missing IN ARRAY ARRAY['posthaste_tenant', 'posthaste_engine'] LOOP
        IF to_regrole(missing) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', missing);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
    IF NOT pg_has_role(current_user, 'posthaste_tenant', change) THEN
        GRANT posthaste_tenant TO CURRENT_USER;
    END IF;
    IF NOT pg_has_role(current_user, 'posthaste_engine', 'USAGE') THEN
        GRANT posthaste_engine TO CURRENT_USER;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'The roles of the walls between tenants can''t be made by the user %; as a superuser: CREATE ROLE posthaste_tenant NOLOGIN; CREATE ROLE posthaste_engine NOLOGIN; GRANT posthaste_tenant, posthaste_engine TO %I (leave out what exists)',
        current_user, current_user USING ERRCODE = 'insufficient_privilege';
END
$$;

-- Two policies a table: all of it for the engine, the tenant's rows for the tenant. In a sub-select, so that it is asked once
-- a statement; NULLIF, since after a transaction that had set it the setting is '', not gone.
DO $$
DECLARE
    own constant text := '(SELECT NULLIF(current_setting(''posthaste.tenant'', true), '''')::uuid)';
    -- Rows of an endpoint. The endpoints have a wall of their own, so these are the tenant's; read once a statement.
    of_own_endpoints constant text := 'endpoint_id IN (SELECT e.id FROM endpoints e)';
    walled record;
BEGIN
    FOR walled IN
        SELECT t.name, t.condition FROM (
            SELECT 'tenants', 'id = ' || own
            UNION ALL
            SELECT unnest(ARRAY[
                'api_keys', 'locations', 'endpoints', 'endpoint_versions', 'endpoint_secrets', 'endpoint_health', 'subscriptions',
                'event_types', 'wire_formats', 'wire_format_versions', 'events', 'attempts', 'settled', 'idempotency', 'jobs',
                'notices', 'audit_log'
            ]), 'tenant_id = ' || own
            UNION ALL
            SELECT unnest(ARRAY['queue', 'endpoint_stats']), of_own_endpoints
        ) t (name, condition)
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', walled.name);
        EXECUTE format('CREATE POLICY engine ON %I TO posthaste_engine USING (true) WITH CHECK (true)', walled.name);
        EXECUTE format('CREATE POLICY tenant ON %I TO posthaste_tenant USING (%s)', walled.name, walled.condition);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO posthaste_tenant', current_schema());
END
$$;

-- What requests of tenants do, and no more. To lock a row takes the right to update something of it.
GRANT SELECT, UPDATE (updated_at) ON tenants TO posthaste_tenant;
GRANT SELECT, INSERT, UPDATE (revoked_at) ON api_keys TO posthaste_tenant;
GRANT SELECT, INSERT, UPDATE ON locations, endpoints, endpoint_health, event_types, jobs TO posthaste_tenant;
GRANT SELECT, INSERT ON endpoint_versions, wire_format_versions, audit_log TO posthaste_tenant;
GRANT SELECT, INSERT, UPDATE (expires_at) ON endpoint_secrets TO posthaste_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON subscriptions, wire_formats, idempotency TO posthaste_tenant;
GRANT SELECT, INSERT, UPDATE (data, expunged_at) ON events TO posthaste_tenant;
GRANT SELECT, INSERT, UPDATE (response_headers, response_body) ON attempts TO posthaste_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON queue, settled TO posthaste_tenant;
GRANT SELECT, INSERT, UPDATE ON endpoint_stats TO posthaste_tenant;
-- Numbers of shards and of their versions: nothing of anybody's, so there is no wall. Commands to owners count up.
GRANT SELECT (shard, config_version), UPDATE (config_version) ON shards TO posthaste_tenant;
GRANT USAGE ON SEQUENCE webhook_ids, wire_format_versions_version_seq TO posthaste_tenant;

-- WhatsAble's page tells another account's webhook from one that does not exist. A door in the wall, as wide as that.
CREATE FUNCTION webhook_is_taken(number bigint) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$ SELECT EXISTS (SELECT 1 FROM endpoints WHERE webhook_id = number AND deleted_at IS NULL) $$;
REVOKE ALL ON FUNCTION webhook_is_taken FROM PUBLIC;
GRANT EXECUTE ON FUNCTION webhook_is_taken TO posthaste_tenant;
