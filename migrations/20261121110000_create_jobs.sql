-- Work that takes longer than a request. A step moves some rows and counts them here in one transaction, so a job that is
-- cut off anywhere goes on where it was. See src/jobs/.
CREATE TABLE jobs (
    -- No foreign key: the job that purges a tenant is still there afterwards.
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('recover', 'replay', 'purge')),
    status      text NOT NULL CHECK (status IN ('running', 'succeeded', 'canceled', 'failed')),
    -- What it is about, if it is about one.
    endpoint_id uuid,
    event_id    uuid,
    -- What is to be done, as the program reads it.
    task        jsonb NOT NULL,
    -- How far it is: everything up to this id is done. NULL at the beginning.
    cursor      uuid,
    total       bigint NOT NULL CHECK (total >= 0),
    done        bigint NOT NULL DEFAULT 0 CHECK (done >= 0),
    -- The next step comes no earlier. Jobs take turns by it.
    due_at      timestamptz NOT NULL,
    -- A sentence, where it did not succeed.
    error       text,
    created_at  timestamptz NOT NULL,
    finished_at timestamptz,
    CHECK ((status = 'running') = (finished_at IS NULL)),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX jobs_running ON jobs (due_at) WHERE status = 'running';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
