-- Commands that concern one endpoint, until its owner obeys them: version and endpoint side by side. A version above
-- config_seen that is not among them concerns the whole shard. See src/queue/control.rs.
ALTER TABLE shards
    ADD COLUMN command_versions bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN command_endpoints uuid[] NOT NULL DEFAULT '{}',
    ADD CHECK (cardinality(command_versions) = cardinality(command_endpoints));

-- Commands an endpoint; whether that is told apart from commands to the shard. Others' endpoints stand in the same row, so a
-- tenant's request gets no more than this.
CREATE FUNCTION command_endpoint(of_shard integer, endpoint uuid, most integer, OUT version bigint, OUT by_itself boolean)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    UPDATE shards s SET config_version = s.config_version + 1,
        command_versions = CASE WHEN cardinality(s.command_versions) < most
            THEN s.command_versions || (s.config_version + 1) ELSE s.command_versions END,
        command_endpoints = CASE WHEN cardinality(s.command_versions) < most
            THEN s.command_endpoints || endpoint ELSE s.command_endpoints END
    WHERE s.shard = of_shard
    RETURNING s.config_version, s.config_version = ANY (s.command_versions)
$$;
REVOKE ALL ON FUNCTION command_endpoint FROM PUBLIC;
GRANT EXECUTE ON FUNCTION command_endpoint TO posthaste_tenant, posthaste_engine;
