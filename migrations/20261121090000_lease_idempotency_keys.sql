-- A key can be taken before its answer is known (an empty answer): what calls a receiver first may hold no transaction open
-- meanwhile. When the lease has run out, whoever took it died, and the key is free again.
ALTER TABLE idempotency ADD COLUMN leased_until timestamptz;
