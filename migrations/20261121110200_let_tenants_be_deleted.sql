-- A tombstone: gone for everyone from then on, purged by a job.
ALTER TABLE tenants ADD COLUMN deleted_at timestamptz;
