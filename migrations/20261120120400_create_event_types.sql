-- A tenant's own event types, beside those of its preset (which are in the program).
CREATE TABLE event_types (
    tenant_id   uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name        text NOT NULL,
    description text NOT NULL,
    group_name  text NOT NULL,
    channel     text CHECK (channel IN ('whatsapp', 'imessage', 'sms')),
    schema      jsonb,
    example     jsonb,
    -- An archived type takes no new subscriptions; those that it has go on.
    archived_at timestamptz,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, name)
);
