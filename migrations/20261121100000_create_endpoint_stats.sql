-- How the deliveries of an endpoint ended, by the hour in which their events were published. Written by whatever ends a
-- delivery or starts an ended one again, in the same transaction: it says what the rows say, at any time.
CREATE TABLE endpoint_stats (
    shard       integer NOT NULL,
    endpoint_id uuid NOT NULL,
    -- Lowest id that an event of the hour can have: with it, the partitions are those of the events.
    hour        uuid NOT NULL,
    -- Deliveries in this state now. One that starts again is taken off.
    succeeded   integer NOT NULL,
    failed      integer NOT NULL,
    canceled    integer NOT NULL,
    -- Successes by how long their attempt took: buckets of src/queue/stats.rs, up to the highest that was ever hit. One
    -- that starts again stays.
    latency     integer[] NOT NULL,
    PRIMARY KEY (shard, endpoint_id, hour)
) PARTITION BY RANGE (hour);

-- Where there are events already, their days need partitions now; the maintenance makes those to come.
DO $$
DECLARE
    day record;
BEGIN
    FOR day IN
        SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bound
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'events'::regclass
    LOOP
        -- Room on the page for the next version of a row, so that no index is touched.
        EXECUTE format('CREATE TABLE %I PARTITION OF endpoint_stats %s WITH (fillfactor = 50)',
            replace(day.relname, 'events_', 'endpoint_stats_'), day.bound);
    END LOOP;
END
$$;

-- A histogram with one more in each of these buckets (1 is the lowest).
CREATE FUNCTION latency_count(histogram integer[], buckets smallint[]) RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    bucket smallint;
BEGIN
    FOREACH bucket IN ARRAY buckets LOOP
        WHILE cardinality(histogram) < bucket LOOP
            histogram := histogram || 0;
        END LOOP;
        histogram[bucket] := histogram[bucket] + 1;
    END LOOP;
    RETURN histogram;
END
$$;

-- The sum of two histograms. Most of the second one is zeros.
CREATE FUNCTION latency_add(histogram integer[], more integer[]) RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    known integer := cardinality(histogram);
BEGIN
    FOR bucket IN 1 .. least(known, cardinality(more)) LOOP
        IF more[bucket] <> 0 THEN
            histogram[bucket] := histogram[bucket] + more[bucket];
        END IF;
    END LOOP;
    IF cardinality(more) > known THEN
        histogram := histogram || more[known + 1 :];
    END IF;
    RETURN histogram;
END
$$;
