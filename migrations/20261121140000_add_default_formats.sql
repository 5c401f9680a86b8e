-- The wire format of a tenant's endpoints that name none, by name; NULL: that of its preset.
ALTER TABLE tenants ADD COLUMN format text;
