-- Until when the owner puts attempts off, where its circuit breaker is open. A reset by hand (resume, another URL) counts
-- throttle_resets up, and what the owner says of the time before counts no more.
ALTER TABLE endpoint_health
    ADD COLUMN throttled_until timestamptz,
    ADD COLUMN throttle_resets integer NOT NULL DEFAULT 0;
