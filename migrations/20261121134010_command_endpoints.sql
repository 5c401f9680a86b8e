-- Commands that concern one endpoint, until its owner obeys them: version and endpoint side by side. A version above
-- config_seen that is not among them concerns the whole shard. See src/queue/control.rs.
ALTER TABLE shards
    ADD COLUMN command_versions bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN command_endpoints uuid[] NOT NULL DEFAULT '{}',
    ADD CHECK (cardinality(command_versions) = cardinality(command_endpoints));
