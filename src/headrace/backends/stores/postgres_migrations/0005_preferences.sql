-- Whom an offer is for at first: those with all labels of prefer; after prefer_until, everybody. Both are NULL for offers that
-- are for everybody at once; a claim ends the preference. Nodes of the version before go on with the functions they know:
-- they offer to everybody, and claim what is meant for others first.
ALTER TABLE {schema}.ready ADD COLUMN prefer jsonb, ADD COLUMN prefer_until double precision;

CREATE FUNCTION {schema}.offer_2(
    p_node text, p_epoch bigint, p_key text[], p_run text[], p_queue text[], p_executor text[], p_labels text[],
    p_priority integer[], p_at_most_once boolean[], p_kind text[], p_call text[],
    p_prefer text[], p_prefer_seconds double precision[]
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    PERFORM {schema}.durably_1();
    PERFORM 1 FROM {schema}.runs WHERE run_id = ANY (p_run) AND owner = p_node ORDER BY run_id FOR NO KEY UPDATE;
    WITH made AS (
        INSERT INTO {schema}.ready (key, run_id, queue, executor, labels, priority, at_most_once, offered_at,
                prefer, prefer_until)
            SELECT given.key, given.run_id, given.queue, given.executor, given.labels::jsonb, given.priority,
                given.at_most_once, {schema}.clock_seconds(), given.prefer::jsonb,
                CASE WHEN given.prefer IS NOT NULL THEN {schema}.clock_seconds() + given.prefer_seconds END
            FROM unnest(p_key, p_run, p_queue, p_executor, p_labels, p_priority, p_at_most_once, p_kind, p_prefer,
                p_prefer_seconds) WITH ORDINALITY
                AS given (key, run_id, queue, executor, labels, priority, at_most_once, kind, prefer, prefer_seconds, place)
            WHERE EXISTS (SELECT 1 FROM {schema}.runs WHERE runs.run_id = given.run_id AND runs.owner = p_node)
              AND NOT EXISTS (
                SELECT 1 FROM {schema}.inbox WHERE inbox.run_id = given.run_id AND inbox.kind = given.kind)
            ORDER BY given.place
            ON CONFLICT (key) DO NOTHING
            RETURNING ready.key
    )
    INSERT INTO {schema}.ready_calls (key, call)
        SELECT given.key, given.call FROM unnest(p_key, p_call) AS given (key, call) JOIN made USING (key);
END $$;

-- As claim_attempts_1, but a claim costs what it takes, however much waits: each queue is read in the order of its index and no
-- farther than there is room for, with some to spare. Only if others hold too many of the first ones, everything is looked at.
CREATE FUNCTION {schema}.claim_attempts_2(
    p_node text, p_epoch bigint, p_queues text[], p_labels text, p_executors text[], p_room integer[]
) RETURNS TABLE (r_key text, r_delivery integer, r_queue text, r_executor text, r_call text, r_details text)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    had jsonb := p_labels::jsonb;
    place integer;
    most integer;
    taken text[];
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    PERFORM {schema}.durably_1();
    FOR place IN 1 .. coalesce(cardinality(p_executors), 0) LOOP
        FOREACH most IN ARRAY ARRAY[p_room[place] + 50, NULL] LOOP
            taken := ARRAY(
                SELECT ready.key
                FROM unnest(p_queues) AS given (queue)
                CROSS JOIN LATERAL (
                    SELECT waiting.key, waiting.priority, waiting.number FROM {schema}.ready AS waiting
                    WHERE waiting.worker IS NULL AND waiting.queue = given.queue AND waiting.executor = p_executors[place]
                      AND waiting.labels <@ had
                      AND (waiting.prefer_until IS NULL OR waiting.prefer <@ had
                        OR waiting.prefer_until <= {schema}.clock_seconds())
                      AND EXISTS (
                        SELECT 1 FROM {schema}.runs WHERE runs.run_id = waiting.run_id AND runs.ended_at IS NULL)
                    ORDER BY waiting.priority DESC, waiting.number LIMIT most
                ) AS seen
                JOIN {schema}.ready ON ready.key = seen.key
                WHERE ready.worker IS NULL
                ORDER BY seen.priority DESC, seen.number LIMIT p_room[place] FOR UPDATE OF ready SKIP LOCKED);
            EXIT WHEN cardinality(taken) = p_room[place];
        END LOOP;
        IF cardinality(taken) > 0 THEN
            RETURN QUERY
                WITH claimed AS (
                    UPDATE {schema}.ready SET worker = p_node, worker_epoch = p_epoch, delivery = delivery + 1,
                        claimed_at = {schema}.clock_seconds(), prefer_until = NULL
                    WHERE ready.key = ANY (taken)
                    RETURNING ready.key, ready.delivery, ready.queue, ready.executor, ready.details
                )
                SELECT claimed.key, claimed.delivery, claimed.queue, claimed.executor, calls.call, claimed.details
                FROM claimed JOIN {schema}.ready_calls AS calls USING (key)
                ORDER BY array_position(taken, claimed.key);
        END IF;
    END LOOP;
END $$;
