-- For the limit on the jobs that one tenant has running.
CREATE INDEX jobs_running_of_tenant ON jobs (tenant_id) WHERE status = 'running';
