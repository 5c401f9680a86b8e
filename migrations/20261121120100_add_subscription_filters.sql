-- A condition on the event, in CEL; NULL is none. Checked before it is stored, compiled with each routing table.
ALTER TABLE subscriptions ADD COLUMN filter text;
