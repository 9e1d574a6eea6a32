-- What database tasks returned, committed with what they wrote: see postgres_transact.py. The row is written first, without
-- an output: whoever runs the task again meanwhile waits for it, and a function that commits by itself leaves it behind as
-- the proof that it did. It lives until the event that tells the outcome is durable, and that commit deletes it; or as
-- long as its run.
CREATE TABLE {schema}.task_outcomes (
    run_id text COLLATE "C" NOT NULL REFERENCES {schema}.runs (run_id) ON DELETE CASCADE,
    task text COLLATE "C" NOT NULL,
    output text,
    PRIMARY KEY (run_id, task)
) WITH (fillfactor = 50);

CREATE FUNCTION {schema}.check_owner_1(p_node text, p_run text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM {schema}.runs WHERE run_id = p_run AND owner = p_node) THEN
        RAISE EXCEPTION 'run % is no longer owned by %', p_run, p_node USING ERRCODE = 'HR001';
    END IF;
END $$;

-- The first statement of a database task's transaction. No lock on the lease yet: the function may take a while, and
-- whoever takes the lease over is not to wait for it. A node that is suspended in the middle is cut off by the server.
CREATE FUNCTION {schema}.begin_task_1(
    p_node text, p_epoch bigint, p_run text, p_task text, p_seconds integer,
    OUT is_new boolean, OUT stored text, OUT transaction_id text
) LANGUAGE plpgsql AS $$
DECLARE
    written integer;
BEGIN
    PERFORM set_config('idle_in_transaction_session_timeout', p_seconds || 's', true);
    PERFORM set_config('statement_timeout', p_seconds || 's', true);
    IF NOT EXISTS (SELECT 1 FROM {schema}.nodes WHERE node = p_node AND epoch = p_epoch) THEN
        RAISE EXCEPTION 'node % no longer holds epoch %', p_node, p_epoch USING ERRCODE = 'HR001';
    END IF;
    LOOP
        PERFORM {schema}.check_owner_1(p_node, p_run);
        INSERT INTO {schema}.task_outcomes (run_id, task) VALUES (p_run, p_task) ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS written = ROW_COUNT;
        SELECT output INTO stored FROM {schema}.task_outcomes WHERE run_id = p_run AND task = p_task;
        EXIT WHEN FOUND;  -- else somebody has just deleted it
    END LOOP;
    is_new := written = 1;
    transaction_id := pg_current_xact_id()::text;
END $$;

-- The last statement before the COMMIT. HR007: the function has ended the transaction that was begun for it.
CREATE FUNCTION {schema}.finish_task_1(
    p_node text, p_epoch bigint, p_run text, p_task text, p_output text, p_transaction_id text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF pg_current_xact_id_if_assigned()::text IS DISTINCT FROM p_transaction_id THEN
        RAISE EXCEPTION 'another transaction' USING ERRCODE = 'HR007';
    END IF;
    PERFORM {schema}.fence_1(p_node, p_epoch);
    PERFORM {schema}.durably_1();
    PERFORM {schema}.check_owner_1(p_node, p_run);
    UPDATE {schema}.task_outcomes SET output = p_output WHERE run_id = p_run AND task = p_task AND output IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the row of the outcome is gone' USING ERRCODE = 'HR007';
    END IF;
END $$;

-- A flush that tells outcomes which database tasks have kept.
CREATE FUNCTION {schema}.flush_outcomes_1(
    p_outcome_run text[], p_outcome_task text[],
    p_node text, p_epoch bigint,
    p_event_run text[], p_event_seq integer[], p_event_data text[],
    p_run text[], p_state text[], p_last_seq integer[], p_total integer[], p_done integer[], p_failed integer[],
    p_ended double precision[], p_error text[], p_wake double precision[], p_release boolean[],
    p_inbox_done bigint[],
    n_run text[], n_workflow text[], n_version text[], n_state text[], n_created double precision[],
    n_ended double precision[], n_trigger text[], n_parent text[], n_error text[], n_total integer[], n_done integer[],
    n_failed integer[], n_last_seq integer[], n_owner text[], n_wake double precision[], n_key text[], n_tags text[],
    n_params text[], n_attributes text[],
    p_tag_run text[], p_tag_key text[], p_tag_value text[],
    p_attr_run text[], p_attr_seq integer[], p_attr_json text[],
    p_item_run text[], p_item_name text[], p_item_kind text[], p_item_text text[], p_item_number double precision[]
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM {schema}.flush_more_1(p_node, p_epoch, p_event_run, p_event_seq, p_event_data, p_run, p_state, p_last_seq,
        p_total, p_done, p_failed, p_ended, p_error, p_wake, p_release, p_inbox_done, n_run, n_workflow, n_version,
        n_state, n_created, n_ended, n_trigger, n_parent, n_error, n_total, n_done, n_failed, n_last_seq, n_owner, n_wake,
        n_key, n_tags, n_params, n_attributes, p_tag_run, p_tag_key, p_tag_value, p_attr_run, p_attr_seq, p_attr_json,
        p_item_run, p_item_name, p_item_kind, p_item_text, p_item_number);
    DELETE FROM {schema}.task_outcomes USING unnest(p_outcome_run, p_outcome_task) AS given (run_id, task)
        WHERE task_outcomes.run_id = given.run_id AND task_outcomes.task = given.task;
END $$;
