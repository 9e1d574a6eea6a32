-- Attempts on offer to other nodes and workers: see headrace.contracts.ready. Narrow, because claims change rows; what a
-- claimer needs to know of the attempt is written once, beside.
CREATE TABLE {schema}.ready (
    key text COLLATE "C" PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    run_id text COLLATE "C" NOT NULL REFERENCES {schema}.runs (run_id) ON DELETE CASCADE,
    queue text COLLATE "C" NOT NULL,
    executor text COLLATE "C" NOT NULL,
    labels jsonb NOT NULL,
    priority integer NOT NULL,
    at_most_once boolean NOT NULL,
    offered_at double precision NOT NULL,
    worker text COLLATE "C",
    worker_epoch bigint,
    delivery integer NOT NULL DEFAULT 0,
    claimed_at double precision,
    stop boolean NOT NULL DEFAULT false,
    details text
) WITH (fillfactor = 50);
CREATE INDEX ready_by_run ON {schema}.ready (run_id);
CREATE INDEX ready_waiting ON {schema}.ready (queue, executor, priority DESC, number) WHERE worker IS NULL;
CREATE INDEX ready_claimed ON {schema}.ready (worker) WHERE worker IS NOT NULL;

CREATE TABLE {schema}.ready_calls (
    key text COLLATE "C" PRIMARY KEY REFERENCES {schema}.ready (key) ON DELETE CASCADE,
    call text NOT NULL
);

-- Runs are locked before their offers, by everybody and in order: whether an outcome waits in the inbox cannot change
-- between the look and the insert.
CREATE FUNCTION {schema}.offer_1(
    p_node text, p_epoch bigint, p_key text[], p_run text[], p_queue text[], p_executor text[], p_labels text[],
    p_priority integer[], p_at_most_once boolean[], p_kind text[], p_call text[]
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    PERFORM {schema}.durably_1();
    PERFORM 1 FROM {schema}.runs WHERE run_id = ANY (p_run) AND owner = p_node ORDER BY run_id FOR NO KEY UPDATE;
    WITH made AS (
        INSERT INTO {schema}.ready (key, run_id, queue, executor, labels, priority, at_most_once, offered_at)
            SELECT given.key, given.run_id, given.queue, given.executor, given.labels::jsonb, given.priority,
                given.at_most_once, {schema}.clock_seconds()
            FROM unnest(p_key, p_run, p_queue, p_executor, p_labels, p_priority, p_at_most_once, p_kind)
                WITH ORDINALITY
                AS given (key, run_id, queue, executor, labels, priority, at_most_once, kind, place)
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

CREATE FUNCTION {schema}.claim_attempts_1(
    p_node text, p_epoch bigint, p_queues text[], p_labels text, p_executors text[], p_room integer[]
) RETURNS TABLE (r_key text, r_delivery integer, r_queue text, r_executor text, r_call text, r_details text)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    had jsonb := p_labels::jsonb;
    place integer;
    taken text[];
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    PERFORM {schema}.durably_1();
    FOR place IN 1 .. coalesce(cardinality(p_executors), 0) LOOP
        taken := ARRAY(
            SELECT ready.key FROM {schema}.ready
            WHERE worker IS NULL AND queue = ANY (p_queues) AND executor = p_executors[place] AND labels <@ had
              AND EXISTS (
                SELECT 1 FROM {schema}.runs WHERE runs.run_id = ready.run_id AND runs.ended_at IS NULL)
            ORDER BY priority DESC, number LIMIT p_room[place] FOR UPDATE OF ready SKIP LOCKED);
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

CREATE FUNCTION {schema}.report_1(
    p_node text, p_epoch bigint, p_key text[], p_delivery integer[], p_details text[]
) RETURNS TABLE (r_key text, r_verdict text) LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM unnest(p_details) AS given (details) WHERE given.details IS NOT NULL) THEN
        PERFORM {schema}.fence_1(p_node, p_epoch);
        UPDATE {schema}.ready SET details = given.details
            FROM unnest(p_key, p_delivery, p_details) AS given (key, delivery, details)
            WHERE ready.key = given.key AND ready.delivery = given.delivery AND given.details IS NOT NULL
              AND ready.worker = p_node AND ready.worker_epoch = p_epoch;
    END IF;
    RETURN QUERY
        SELECT given.key, CASE WHEN ready.key IS NULL THEN 'lost' ELSE 'stop' END
        FROM unnest(p_key, p_delivery) AS given (key, delivery)
        LEFT JOIN {schema}.ready ON ready.key = given.key AND ready.delivery = given.delivery
          AND ready.worker = p_node AND ready.worker_epoch = p_epoch
        WHERE ready.key IS NULL OR ready.stop;
END $$;

-- Puts an outcome into its run's inbox; the run is locked by the caller. The bell of its live owner, NULL if it has ended.
CREATE FUNCTION {schema}.deliver_1(p_run text, p_kind text, p_payload text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found_owner text;
    found_wake double precision;
    found_bell text;
BEGIN
    SELECT owner, wake_at INTO found_owner, found_wake FROM {schema}.runs WHERE run_id = p_run AND ended_at IS NULL;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO {schema}.inbox (run_id, kind, payload) VALUES (p_run, p_kind, p_payload);
    IF found_wake IS NOT NULL THEN
        UPDATE {schema}.runs SET wake_at = NULL WHERE run_id = p_run;
    END IF;
    SELECT nodes.bell INTO found_bell FROM {schema}.nodes
        WHERE node = found_owner AND lost_at IS NULL AND expires_at > {schema}.clock_seconds();
    RETURN coalesce(found_bell, '');
END $$;

-- One bell per outcome, in their order; NULL where it was refused.
CREATE FUNCTION {schema}.complete_1(
    p_node text, p_epoch bigint, p_key text[], p_delivery integer[], p_run text[], p_kind text[], p_outcome text[]
) RETURNS text[] LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    place integer;
    bells text[] := ARRAY[]::text[];
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    PERFORM {schema}.durably_1();
    PERFORM 1 FROM {schema}.runs WHERE run_id = ANY (p_run) ORDER BY run_id FOR NO KEY UPDATE;
    FOR place IN 1 .. coalesce(cardinality(p_key), 0) LOOP
        DELETE FROM {schema}.ready WHERE ready.key = p_key[place] AND delivery = p_delivery[place]
            AND worker = p_node AND worker_epoch = p_epoch;
        IF FOUND THEN
            bells := array_append(bells, {schema}.deliver_1(p_run[place], p_kind[place], p_outcome[place]));
        ELSE
            bells := array_append(bells, NULL);
        END IF;
    END LOOP;
    RETURN bells;
END $$;

CREATE FUNCTION {schema}.give_back_1(p_node text, p_epoch bigint, p_key text[], p_delivery integer[]) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    DELETE FROM {schema}.ready USING unnest(p_key, p_delivery) AS given (key, delivery)
        WHERE ready.key = given.key AND ready.delivery = given.delivery AND worker = p_node
          AND worker_epoch = p_epoch AND stop;
    UPDATE {schema}.ready SET worker = NULL, worker_epoch = NULL, claimed_at = NULL, delivery = ready.delivery - 1
        FROM unnest(p_key, p_delivery) AS given (key, delivery)
        WHERE ready.key = given.key AND ready.delivery = given.delivery AND worker = p_node AND worker_epoch = p_epoch;
END $$;

-- Candidates are looked for first, then their runs are locked, then the offers, and judged again. p_limit bounds one round.
-- Returns them as they are to be told: those whose outcome is "lost" with a worker; the caller hands the texts in.
CREATE FUNCTION {schema}.lost_claims_1(p_limit integer) RETURNS TABLE (r_key text, r_delivery integer, r_worker text)
LANGUAGE sql SET enable_seqscan = off AS $$
    SELECT key, delivery, worker FROM {schema}.ready
    WHERE worker IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM {schema}.nodes WHERE nodes.node = ready.worker AND nodes.epoch = ready.worker_epoch)
    ORDER BY number LIMIT p_limit
$$;

CREATE FUNCTION {schema}.requeue_lost_1(
    p_key text[], p_delivery integer[], p_run text[], p_kind text[], p_outcome text[], p_deliveries_max integer,
    p_limit integer
) RETURNS TABLE (r_again integer, r_bells text[]) LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    place integer;
    found_row {schema}.ready;
BEGIN
    PERFORM {schema}.durably_1();
    r_again := 0;
    r_bells := ARRAY[]::text[];
    PERFORM 1 FROM {schema}.runs WHERE run_id = ANY (p_run) ORDER BY run_id FOR NO KEY UPDATE;
    FOR place IN 1 .. coalesce(cardinality(p_key), 0) LOOP
        SELECT * INTO found_row FROM {schema}.ready
            WHERE ready.key = p_key[place] AND ready.delivery = p_delivery[place] AND worker IS NOT NULL
              AND NOT EXISTS (
                SELECT 1 FROM {schema}.nodes WHERE nodes.node = ready.worker AND nodes.epoch = ready.worker_epoch)
            FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        IF found_row.at_most_once OR found_row.stop OR found_row.delivery >= p_deliveries_max THEN
            DELETE FROM {schema}.ready WHERE ready.key = p_key[place];
            r_bells := array_append(r_bells, {schema}.deliver_1(p_run[place], p_kind[place], p_outcome[place]));
        ELSE
            UPDATE {schema}.ready SET worker = NULL, worker_epoch = NULL, claimed_at = NULL
                WHERE ready.key = p_key[place];
            r_again := r_again + 1;
        END IF;
    END LOOP;
    DELETE FROM {schema}.ready WHERE ready.key IN (
        SELECT waiting.key FROM {schema}.ready AS waiting JOIN {schema}.runs USING (run_id)
        WHERE waiting.worker IS NULL AND runs.ended_at IS NOT NULL LIMIT p_limit FOR UPDATE OF waiting SKIP LOCKED);
    RETURN NEXT;
END $$;

CREATE FUNCTION {schema}.withdraw_1(p_node text, p_epoch bigint, p_key text[], p_stop boolean)
RETURNS TABLE (r_key text, r_bell text) LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    PERFORM {schema}.durably_1();
    PERFORM 1 FROM {schema}.ready WHERE ready.key = ANY (p_key) ORDER BY ready.key FOR UPDATE;
    DELETE FROM {schema}.ready WHERE ready.key = ANY (p_key) AND worker IS NULL;
    RETURN QUERY
        WITH stopped AS (
            UPDATE {schema}.ready SET stop = ready.stop OR p_stop WHERE ready.key = ANY (p_key)
                RETURNING ready.key, ready.worker
        )
        SELECT stopped.key, coalesce(nodes.bell, '') FROM stopped LEFT JOIN {schema}.nodes
            ON nodes.node = stopped.worker AND lost_at IS NULL AND expires_at > {schema}.clock_seconds();
END $$;
