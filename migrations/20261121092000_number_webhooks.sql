-- Endpoints of tenants with the preset whatsable carry an integer besides their id, by which that system's own routes name
-- them: from one sequence for all tenants, in the order in which they were made.
CREATE SEQUENCE webhook_ids AS bigint;
ALTER TABLE endpoints ADD COLUMN webhook_id bigint;
UPDATE endpoints e SET webhook_id = n.number
FROM (
    SELECT o.tenant_id, o.id, nextval('webhook_ids') AS number
    FROM (
        SELECT e.tenant_id, e.id FROM endpoints e JOIN tenants t ON t.id = e.tenant_id AND t.preset = 'whatsable'
        ORDER BY e.created_at, e.id
    ) o
) n
WHERE e.tenant_id = n.tenant_id AND e.id = n.id;
CREATE UNIQUE INDEX endpoints_by_webhook_id ON endpoints (webhook_id) WHERE webhook_id IS NOT NULL;
