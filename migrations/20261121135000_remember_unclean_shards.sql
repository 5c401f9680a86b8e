-- A node that declares another one dead keeps its own share of the shards and leaves the rest to others. Whoever takes
-- those must know that the heads of their lanes may be what kills nodes.
ALTER TABLE shards ADD COLUMN unclean boolean NOT NULL DEFAULT false;
