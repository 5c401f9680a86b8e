-- The doors in the walls run as their owner. They must find nothing that the caller made: pg_temp, where whoever may make
-- temporary tables puts what shall stand for the real ones, is searched first unless it is named, so it is named last.
DO $$
DECLARE
    door text;
BEGIN
    FOREACH door IN ARRAY ARRAY['webhook_is_taken(bigint)', 'command_endpoint(integer, uuid, integer)'] LOOP
        EXECUTE format('ALTER FUNCTION %I.%s SET search_path = %I, pg_temp', current_schema(), door, current_schema());
    END LOOP;
END
$$;

-- And nobody needs tables of their own here. Where the database or its schema is somebody else's, that is for them to say.
DO $$
BEGIN
    BEGIN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE 'Only its owner can stop others from making temporary tables in the database %', current_database();
    END;
    BEGIN
        EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE 'Only its owner can stop others from making tables in the schema %', current_schema();
    END;
END
$$;
