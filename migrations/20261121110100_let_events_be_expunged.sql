-- What somebody has had to be forgotten: the event stays, its data and what receivers answered to it go.
ALTER TABLE events ALTER COLUMN data DROP NOT NULL;
ALTER TABLE events ADD COLUMN expunged_at timestamptz;
ALTER TABLE events ADD CONSTRAINT events_data_check CHECK (data IS NOT NULL OR expunged_at IS NOT NULL) NOT VALID;
-- Few have one: for the results that come late.
CREATE INDEX events_expunged ON events (expunged_at) WHERE expunged_at IS NOT NULL;
