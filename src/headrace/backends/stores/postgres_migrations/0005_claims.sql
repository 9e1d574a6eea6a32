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
                        claimed_at = {schema}.clock_seconds()
                    WHERE ready.key = ANY (taken)
                    RETURNING ready.key, ready.delivery, ready.queue, ready.executor, ready.details
                )
                SELECT claimed.key, claimed.delivery, claimed.queue, claimed.executor, calls.call, claimed.details
                FROM claimed JOIN {schema}.ready_calls AS calls USING (key)
                ORDER BY array_position(taken, claimed.key);
        END IF;
    END LOOP;
END $$;
