-- It is told to stop and gives back one shard after the other: it beats until the last one is at rest, but takes none, and the
-- others share as if it had gone.
ALTER TABLE nodes ADD COLUMN leaving boolean NOT NULL DEFAULT false;
