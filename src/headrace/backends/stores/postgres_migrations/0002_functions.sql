-- Whatever writes is one function, so one round trip and one transaction that needs nothing more from the client: a node
-- that is suspended or cut off in the middle holds no lock. Names end in a number; a function that changes gets the next
-- one and the old one stays, so that nodes of the former version go on beside new ones.
--
-- PL/pgSQL takes a new snapshot for every statement (READ COMMITTED). That is relied upon: after a wait for a row lock,
-- the next statement sees what the holder of the lock has committed.
--
-- Errors have codes of their own: HR001 fenced, HR002 conflict, HR003 not found.

-- The only clock there is.
CREATE FUNCTION {schema}.clock_seconds() RETURNS double precision LANGUAGE sql VOLATILE AS $$
    SELECT extract(epoch FROM clock_timestamp())::double precision
$$;

-- What is acknowledged survives power loss, whatever the default of this database says.
CREATE FUNCTION {schema}.durably_1() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END $$;

-- A lease that ended but was not taken is still held. The lock lasts until the end of the transaction.
CREATE FUNCTION {schema}.fence_1(p_node text, p_epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM {schema}.nodes WHERE node = p_node AND epoch = p_epoch FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node % no longer holds epoch %: %', p_node, p_epoch,
            CASE WHEN EXISTS (SELECT 1 FROM {schema}.nodes WHERE node = p_node)
                 THEN 'its lease was taken' ELSE 'it left' END
            USING ERRCODE = 'HR001';
    END IF;
END $$;

CREATE FUNCTION {schema}.disown_1(p_node text) RETURNS void LANGUAGE sql AS $$
    UPDATE {schema}.runs SET owner = NULL WHERE owner = p_node
$$;

-- ---- history ------------------------------------------------------------------------------------------------------
-- The planner is told not to scan whole tables: plans made while the tables are empty are kept.

CREATE FUNCTION {schema}.flush_1(
    p_node text, p_epoch bigint,
    p_event_run text[], p_event_seq integer[], p_event_data text[],
    p_run text[], p_state text[], p_last_seq integer[], p_total integer[], p_done integer[], p_failed integer[],
    p_ended double precision[], p_error text[], p_wake double precision[], p_release boolean[],
    p_inbox_done bigint[]
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    written integer;
    found_run text;
    found_seq integer;
    found_owner text;
    is_missing boolean;
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    PERFORM {schema}.durably_1();
    IF p_event_run IS NOT NULL THEN
        INSERT INTO {schema}.events (run_id, seq, data)
            SELECT * FROM unnest(p_event_run, p_event_seq, p_event_data) ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written <> cardinality(p_event_run) THEN
            -- A repeated flush, whose events are there already; or somebody else's.
            SELECT given.run_id, given.seq INTO found_run, found_seq
                FROM unnest(p_event_run, p_event_seq, p_event_data) AS given (run_id, seq, data)
                JOIN {schema}.events AS stored USING (run_id, seq)
                WHERE stored.data <> given.data LIMIT 1;
            IF FOUND THEN
                RAISE EXCEPTION 'run % has another event % already: two nodes wrote it, this one came second',
                    found_run, found_seq USING ERRCODE = 'HR002';
            END IF;
        END IF;
    END IF;
    IF p_inbox_done IS NOT NULL THEN
        DELETE FROM {schema}.inbox WHERE id = ANY (p_inbox_done);
    END IF;
    IF p_run IS NOT NULL THEN
        -- last_seq keeps a repeated flush from undoing a newer one. IS NOT DISTINCT FROM is no condition for an index: with
        -- "=" the planner may look for every run among all that the node owns.
        UPDATE {schema}.runs
            SET state = given.state, last_seq = given.last_seq, tasks_total = given.total, tasks_done = given.done,
                tasks_failed = given.failed, ended_at = given.ended, error = given.error, wake_at = given.wake,
                owner = CASE WHEN given.release THEN NULL ELSE p_node END
            FROM unnest(p_run, p_state, p_last_seq, p_total, p_done, p_failed, p_ended, p_error, p_wake, p_release)
                AS given (run_id, state, last_seq, total, done, failed, ended, error, wake, release)
            WHERE runs.run_id = given.run_id AND runs.owner IS NOT DISTINCT FROM p_node
              AND runs.last_seq <= given.last_seq;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written <> cardinality(p_run) THEN
            SELECT given.run_id, runs.run_id IS NULL, runs.owner INTO found_run, is_missing, found_owner
                FROM unnest(p_run, p_last_seq) AS given (run_id, last_seq)
                LEFT JOIN {schema}.runs ON runs.run_id = given.run_id
                WHERE runs.run_id IS NULL
                   OR (runs.owner IS DISTINCT FROM p_node AND runs.last_seq < given.last_seq) LIMIT 1;
            IF FOUND AND is_missing THEN
                RAISE EXCEPTION 'there is no run % to update', found_run USING ERRCODE = 'HR003';
            ELSIF FOUND THEN
                RAISE EXCEPTION 'run % is owned by %, not by %', found_run, coalesce(found_owner, 'nobody'), p_node
                    USING ERRCODE = 'HR001';
            END IF;
        END IF;
        -- A message that arrived while the run was being parked must not wait for its timer. Whoever posts locks the
        -- run first, so either the message is seen here or the parked run is seen there.
        IF true = ANY (p_release) THEN
            UPDATE {schema}.runs SET wake_at = NULL
                FROM unnest(p_run, p_release) AS given (run_id, release)
                WHERE runs.run_id = given.run_id AND given.release AND runs.owner IS NULL AND runs.wake_at IS NOT NULL
                  AND EXISTS (SELECT 1 FROM {schema}.inbox WHERE inbox.run_id = given.run_id);
        END IF;
    END IF;
END $$;

-- A flush that has more: new runs with their tags and keys come before what flush_1 does, attributes after it. p_attr_*
-- are the attributes of updates, p_item_* what is to be searched of them and of those that new runs have in their rows.
CREATE FUNCTION {schema}.flush_more_1(
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
DECLARE
    fresh text[];
    changed text[];
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    IF n_run IS NOT NULL THEN
        -- A run that exists already comes from a repeated flush; whether it is the same run, its event 1 tells.
        WITH added AS (
            INSERT INTO {schema}.runs (run_id, workflow, version, state, created_at, ended_at, trigger, parent, error,
                    tasks_total, tasks_done, tasks_failed, last_seq, owner, wake_at, key, tags, params, attributes)
                SELECT * FROM unnest(n_run, n_workflow, n_version, n_state, n_created, n_ended, n_trigger, n_parent,
                    n_error, n_total, n_done, n_failed, n_last_seq, n_owner, n_wake, n_key, n_tags, n_params,
                    n_attributes)
                ON CONFLICT DO NOTHING RETURNING run_id
        ) SELECT array_agg(run_id) INTO fresh FROM added;
        INSERT INTO {schema}.run_keys (workflow, key, run_id, node, epoch)
            SELECT given.workflow, given.key, given.run_id, p_node, p_epoch
            FROM unnest(n_workflow, n_key, n_run) AS given (workflow, key, run_id) WHERE given.key IS NOT NULL
            ON CONFLICT (workflow, key) DO UPDATE
            SET run_id = excluded.run_id, node = excluded.node, epoch = excluded.epoch;
    END IF;
    IF p_tag_run IS NOT NULL THEN
        INSERT INTO {schema}.run_tags (run_id, key, value)
            SELECT * FROM unnest(p_tag_run, p_tag_key, p_tag_value) AS given (run_id, key, value)
            WHERE given.run_id = ANY (fresh);
    END IF;
    PERFORM {schema}.flush_1(p_node, p_epoch, p_event_run, p_event_seq, p_event_data, p_run, p_state, p_last_seq,
        p_total, p_done, p_failed, p_ended, p_error, p_wake, p_release, p_inbox_done);
    IF p_attr_run IS NOT NULL THEN
        -- last_seq tells whether the update was the newest. Most updates change no attribute.
        WITH written AS (
            UPDATE {schema}.runs SET attributes = given.json
                FROM unnest(p_attr_run, p_attr_seq, p_attr_json) AS given (run_id, seq, json)
                WHERE runs.run_id = given.run_id AND runs.last_seq = given.seq AND runs.attributes <> given.json
                RETURNING runs.run_id
        ) SELECT array_agg(run_id) INTO changed FROM written;
        DELETE FROM {schema}.run_attributes WHERE run_id = ANY (changed);
    END IF;
    IF p_item_run IS NOT NULL THEN
        INSERT INTO {schema}.run_attributes (run_id, name, kind, text, number)
            SELECT given.run_id, given.name, given.kind, given.text, given.number
            FROM unnest(p_item_run, p_item_name, p_item_kind, p_item_text, p_item_number)
                AS given (run_id, name, kind, text, number)
            WHERE given.run_id = ANY (changed) OR given.run_id = ANY (fresh);
    END IF;
END $$;

CREATE FUNCTION {schema}.put_workflow_1(
    p_version text, p_name text, p_created_at double precision, p_source text, p_data text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.durably_1();
    INSERT INTO {schema}.workflows (version, name, put_number, created_at, source, data)
        VALUES (p_version, p_name, nextval('{schema}.puts'), p_created_at, p_source, p_data)
        ON CONFLICT (version) DO UPDATE
        SET put_number = excluded.put_number, created_at = excluded.created_at, source = excluded.source;
END $$;

-- ---- leases -------------------------------------------------------------------------------------------------------

CREATE FUNCTION {schema}.join_1(p_node text, p_lease_seconds double precision, p_bell text, p_info text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    taken bigint := nextval('{schema}.epochs');
    now_at double precision := {schema}.clock_seconds();
BEGIN
    PERFORM {schema}.durably_1();
    INSERT INTO {schema}.nodes (node, epoch, expires_at, bell, info)
        VALUES (p_node, taken, now_at + p_lease_seconds, p_bell, p_info)
        ON CONFLICT (node) DO UPDATE SET epoch = excluded.epoch, expires_at = excluded.expires_at, lost_at = NULL,
            claim = 0, bell = excluded.bell, info = excluded.info;
    PERFORM {schema}.disown_1(p_node);
    DELETE FROM {schema}.nodes WHERE lost_at < now_at - 86400;
    RETURN taken;
END $$;

CREATE FUNCTION {schema}.leave_1(p_node text, p_epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {schema}.nodes WHERE node = p_node AND epoch = p_epoch;
    IF FOUND THEN
        PERFORM {schema}.disown_1(p_node);
    END IF;
END $$;

-- Waits for the flush of a late node that is under way; its runs are looked for after that. Bounded: a backend that hangs
-- must not keep the others waiting, they try again.
CREATE FUNCTION {schema}.expire_lost_1() RETURNS text[] LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    now_at double precision := {schema}.clock_seconds();
    lost text[];
BEGIN
    WITH taken AS (
        UPDATE {schema}.nodes SET epoch = nextval('{schema}.epochs'), lost_at = now_at
            WHERE lost_at IS NULL AND expires_at <= now_at RETURNING node
    ) SELECT array_agg(node ORDER BY node) INTO lost FROM taken;
    IF lost IS NULL THEN
        RETURN ARRAY[]::text[];
    END IF;
    PERFORM {schema}.durably_1();
    UPDATE {schema}.runs SET owner = NULL WHERE owner = ANY (lost);
    DELETE FROM {schema}.nodes WHERE lost_at < now_at - 86400;
    RETURN lost;
END $$;

-- Claims of a node are numbered. A caller who never learned what came of a claim tells with its next one the number of
-- the last that it knows of: whatever later ones brought is given up first. The row of the node puts its claims in one
-- order, and a claim that arrives late is refused by its number.
CREATE FUNCTION {schema}.claim_1(
    p_node text, p_epoch bigint, p_limit integer, p_run_ids text[], p_number bigint, p_known bigint
) RETURNS text[] LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    now_at double precision;
    taken text[];
BEGIN
    UPDATE {schema}.nodes SET claim = p_number WHERE node = p_node AND epoch = p_epoch AND claim < p_number;
    IF NOT FOUND THEN
        PERFORM {schema}.fence_1(p_node, p_epoch);
        RAISE EXCEPTION 'claim % of node % comes too late', p_number, p_node USING ERRCODE = '55P03';
    END IF;
    PERFORM {schema}.durably_1();
    IF p_known < p_number - 1 THEN
        UPDATE {schema}.runs SET owner = NULL WHERE owner = p_node AND claim > p_known;
    END IF;
    now_at := {schema}.clock_seconds();
    IF p_run_ids IS NOT NULL THEN
        taken := ARRAY(
            SELECT run_id FROM {schema}.runs WHERE run_id = ANY (p_run_ids) AND owner IS NULL
            ORDER BY run_id LIMIT p_limit FOR NO KEY UPDATE);
    ELSE
        -- Due timers first: there are only as many as have come due, so they cannot starve the others for long, while
        -- a steady stream of new runs could starve them.
        taken := ARRAY(
            SELECT run_id FROM {schema}.runs WHERE owner IS NULL AND ended_at IS NULL AND wake_at <= now_at
            ORDER BY wake_at, run_id LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED);
        taken := taken || ARRAY(
            SELECT run_id FROM {schema}.runs WHERE owner IS NULL AND ended_at IS NULL AND wake_at IS NULL
            ORDER BY run_id LIMIT p_limit - cardinality(taken) FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
    UPDATE {schema}.runs SET owner = p_node, claim = p_number WHERE run_id = ANY (taken);
    RETURN taken;
END $$;

CREATE FUNCTION {schema}.release_1(p_node text, p_epoch bigint, p_run_ids text[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off AS $$
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    -- Locked in order, as everybody does: no deadlock with a flush of the same runs.
    PERFORM 1 FROM {schema}.runs WHERE run_id = ANY (p_run_ids) AND owner IS NOT DISTINCT FROM p_node
        ORDER BY run_id FOR NO KEY UPDATE;
    UPDATE {schema}.runs SET owner = NULL WHERE run_id = ANY (p_run_ids) AND owner IS NOT DISTINCT FROM p_node;
END $$;

-- ---- keys ---------------------------------------------------------------------------------------------------------

-- Returns nothing if the key is reserved, else who has it.
CREATE FUNCTION {schema}.reserve_key_1(
    p_node text, p_epoch bigint, p_workflow text, p_key text, p_run text, p_kept_by text[]
) RETURNS TABLE (holder text, holder_state text) LANGUAGE plpgsql AS $$
DECLARE
    former {schema}.run_keys;
    found_state text;
    found_end double precision;
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    PERFORM {schema}.durably_1();
    LOOP  -- again only if the row goes (retention) between the two statements
        INSERT INTO {schema}.run_keys (workflow, key, run_id, node, epoch)
            VALUES (p_workflow, p_key, p_run, p_node, p_epoch) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN;
        END IF;
        SELECT * INTO former FROM {schema}.run_keys WHERE workflow = p_workflow AND run_keys.key = p_key FOR UPDATE;
        EXIT WHEN FOUND;
    END LOOP;
    IF former.run_id <> p_run THEN
        SELECT state, ended_at INTO found_state, found_end FROM {schema}.runs WHERE run_id = former.run_id;
        IF NOT FOUND THEN  -- being created; or it never came into being
            IF EXISTS (SELECT 1 FROM {schema}.nodes WHERE node = former.node AND epoch = former.epoch) THEN
                RETURN QUERY SELECT former.run_id, NULL::text;
                RETURN;
            END IF;
        ELSIF found_end IS NULL OR found_state = ANY (p_kept_by) THEN
            RETURN QUERY SELECT former.run_id, found_state;
            RETURN;
        END IF;
    END IF;
    UPDATE {schema}.run_keys SET run_id = p_run, node = p_node, epoch = p_epoch
        WHERE workflow = p_workflow AND run_keys.key = p_key;
END $$;

-- ---- inbox --------------------------------------------------------------------------------------------------------

-- Returns nothing for an unknown run. The run is locked before the message gets its number: messages of a run are
-- numbered in the order of their commits, and a run that is being parked is waited for.
CREATE FUNCTION {schema}.post_1(p_run text, p_kind text, p_payload text)
RETURNS TABLE (message bigint, bell text) LANGUAGE plpgsql AS $$
DECLARE
    found_owner text;
    found_wake double precision;
BEGIN
    PERFORM {schema}.durably_1();
    SELECT owner, wake_at INTO found_owner, found_wake FROM {schema}.runs WHERE run_id = p_run FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO {schema}.inbox (run_id, kind, payload) VALUES (p_run, p_kind, p_payload) RETURNING id INTO message;
    IF found_wake IS NOT NULL THEN
        UPDATE {schema}.runs SET wake_at = NULL WHERE run_id = p_run;
    END IF;
    SELECT nodes.bell INTO bell FROM {schema}.nodes
        WHERE node = found_owner AND lost_at IS NULL AND expires_at > {schema}.clock_seconds();
    bell := coalesce(bell, '');
    RETURN NEXT;
END $$;

-- ---- retention ----------------------------------------------------------------------------------------------------
-- First the rows go, in one transaction: from then on the runs do not exist. Their events follow in bounded batches;
-- deleted_runs remembers whose, so that a crash in between leaves nothing behind for ever.

CREATE FUNCTION {schema}.delete_runs_1(p_ended_before double precision, p_limit integer) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    gone text[];
BEGIN
    gone := ARRAY(
        SELECT run_id FROM {schema}.runs
        WHERE ended_at IS NOT NULL AND ended_at < p_ended_before AND owner IS NULL
        ORDER BY ended_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    IF cardinality(gone) > 0 THEN
        DELETE FROM {schema}.run_tags WHERE run_id = ANY (gone);
        DELETE FROM {schema}.run_attributes WHERE run_id = ANY (gone);
        DELETE FROM {schema}.run_keys USING {schema}.runs
            WHERE runs.run_id = ANY (gone) AND run_keys.workflow = runs.workflow AND run_keys.key = runs.key
              AND run_keys.run_id = runs.run_id;
        DELETE FROM {schema}.runs WHERE run_id = ANY (gone);
        DELETE FROM {schema}.inbox WHERE run_id = ANY (gone);
        INSERT INTO {schema}.deleted_runs (run_id) SELECT unnest(gone) ON CONFLICT DO NOTHING;
    END IF;
    RETURN gone;
END $$;

-- Deletes one batch; whether there may be more.
CREATE FUNCTION {schema}.delete_events_1(p_limit integer) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    written integer;
BEGIN
    DELETE FROM {schema}.events USING (
            SELECT events.run_id, events.seq FROM {schema}.deleted_runs JOIN {schema}.events USING (run_id)
            ORDER BY events.run_id, events.seq LIMIT p_limit
        ) AS batch WHERE events.run_id = batch.run_id AND events.seq = batch.seq;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written < p_limit THEN
        DELETE FROM {schema}.deleted_runs
            WHERE NOT EXISTS (SELECT 1 FROM {schema}.events WHERE events.run_id = deleted_runs.run_id);
    END IF;
    RETURN written = p_limit;
END $$;
