-- Locks, see contracts/locks.py. Tokens come from the sequence of epochs, so they never return and a free lock needs no row.
CREATE TABLE {schema}.locks (
    name text COLLATE "C" PRIMARY KEY,
    token bigint NOT NULL,
    holder text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    taken_at double precision NOT NULL,
    expires_at double precision NOT NULL
) WITH (fillfactor = 50);

-- Who stands in line for a lock, in the order of number.
CREATE TABLE {schema}.lock_waiters (
    name text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    holder text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    expires_at double precision NOT NULL,
    PRIMARY KEY (name, number)
) WITH (fillfactor = 50);

-- The highest term seen of every authority but this database itself.
CREATE TABLE {schema}.terms (
    authority text COLLATE "C" PRIMARY KEY,
    term bigint NOT NULL
);

-- What a node was asked to do.
ALTER TABLE {schema}.nodes ADD COLUMN asked text NOT NULL DEFAULT '';

-- When the lease ends that a node holds under an epoch; 0 if it holds none.
CREATE FUNCTION {schema}.lease_end_1(p_node text, p_epoch bigint) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT expires_at FROM {schema}.nodes
                     WHERE node = p_node AND epoch = p_epoch AND lost_at IS NULL), 0::double precision)
$$;

-- A leader's transaction holds its term until it has committed: whoever takes the lock over deletes the row, and waits.
-- A renewal changes no key and waits for nobody. HR004: not the leader.
CREATE FUNCTION {schema}.check_term_1(p_authority text, p_term bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_term IS NULL THEN
        RETURN;
    ELSIF p_authority = 'store' THEN
        PERFORM 1 FROM {schema}.locks WHERE name = 'headrace.leader' AND token = p_term FOR KEY SHARE;
    ELSE
        INSERT INTO {schema}.terms (authority, term) VALUES (p_authority, p_term)
            ON CONFLICT (authority) DO UPDATE SET term = excluded.term WHERE terms.term <= excluded.term;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'term % of % is over', p_term, p_authority USING ERRCODE = 'HR004';
    END IF;
END $$;

CREATE FUNCTION {schema}.drop_locks_1(p_nodes text[]) RETURNS void LANGUAGE sql AS $$
    DELETE FROM {schema}.locks WHERE node = ANY (p_nodes);
    DELETE FROM {schema}.lock_waiters WHERE node = ANY (p_nodes);
$$;

-- The advisory lock puts all claims of one name in one order; it ends with the transaction, so a pooler may stand
-- between. Names that share a hash only wait for each other.
CREATE FUNCTION {schema}.take_lock_1(
    p_name text, p_holder text, p_node text, p_epoch bigint, p_ttl double precision, p_queue boolean,
    p_place_seconds double precision
) RETURNS TABLE (given bigint, held_by text, ahead bigint, frees_in double precision)
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    now_at double precision := {schema}.clock_seconds();
    held {schema}.locks;
    is_held boolean;
    lock_end double precision := 0;
    mine bigint;
BEGIN
    ahead := 0;
    IF NOT p_queue THEN  -- a campaign that finds a leader writes nothing and waits for nobody
        SELECT * INTO held FROM {schema}.locks WHERE name = p_name;
        IF FOUND AND held.holder <> p_holder THEN
            lock_end := least(held.expires_at, {schema}.lease_end_1(held.node, held.epoch));
            IF lock_end > now_at THEN
                given := 0; held_by := held.node; frees_in := lock_end - now_at;
                RETURN NEXT;
                RETURN;
            END IF;
        END IF;
    END IF;
    PERFORM {schema}.fence_1(p_node, p_epoch);
    PERFORM {schema}.durably_1();
    PERFORM pg_advisory_xact_lock(hashtextextended('{schema}.' || p_name, 0));
    now_at := {schema}.clock_seconds();
    given := 0; held_by := ''; frees_in := 0;
    SELECT * INTO held FROM {schema}.locks WHERE name = p_name FOR UPDATE;
    is_held := FOUND;
    IF is_held AND held.holder = p_holder THEN
        UPDATE {schema}.locks SET expires_at = now_at + p_ttl WHERE name = p_name;
        given := held.token;
        RETURN NEXT;
        RETURN;
    END IF;
    IF is_held THEN
        lock_end := least(held.expires_at, {schema}.lease_end_1(held.node, held.epoch));
        IF lock_end <= now_at THEN
            DELETE FROM {schema}.locks WHERE name = p_name;
            is_held := false;
        END IF;
    END IF;
    DELETE FROM {schema}.lock_waiters AS waiter WHERE waiter.name = p_name
        AND least(waiter.expires_at, {schema}.lease_end_1(waiter.node, waiter.epoch)) <= now_at;
    SELECT number INTO mine FROM {schema}.lock_waiters WHERE name = p_name AND holder = p_holder;
    SELECT count(*) INTO ahead FROM {schema}.lock_waiters WHERE name = p_name AND (mine IS NULL OR number < mine);
    IF NOT is_held AND ahead = 0 AND {schema}.lease_end_1(p_node, p_epoch) > now_at THEN
        DELETE FROM {schema}.lock_waiters WHERE name = p_name AND holder = p_holder;
        given := nextval('{schema}.epochs');
        INSERT INTO {schema}.locks (name, token, holder, node, epoch, taken_at, expires_at)
            VALUES (p_name, given, p_holder, p_node, p_epoch, now_at, now_at + p_ttl);
        RETURN NEXT;
        RETURN;
    END IF;
    IF mine IS NOT NULL THEN
        UPDATE {schema}.lock_waiters SET expires_at = now_at + p_place_seconds WHERE name = p_name AND number = mine;
    ELSIF p_queue THEN
        INSERT INTO {schema}.lock_waiters (name, number, holder, node, epoch, expires_at)
            VALUES (p_name, nextval('{schema}.epochs'), p_holder, p_node, p_epoch, now_at + p_place_seconds);
    END IF;
    IF is_held THEN
        held_by := held.node; frees_in := lock_end - now_at;
    END IF;
    RETURN NEXT;
END $$;

-- The places (from 1) of those that are still held.
CREATE FUNCTION {schema}.renew_locks_1(
    p_node text, p_epoch bigint, p_name text[], p_holder text[], p_token bigint[], p_ttl double precision[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    now_at double precision := {schema}.clock_seconds();
    kept bigint[];
BEGIN
    WITH renewed AS (
        UPDATE {schema}.locks SET expires_at = now_at + given.ttl
            FROM unnest(p_name, p_holder, p_token, p_ttl) WITH ORDINALITY AS given (name, holder, token, ttl, place)
            WHERE locks.name = given.name AND locks.holder = given.holder AND locks.token = given.token
              AND EXISTS (SELECT 1 FROM {schema}.nodes WHERE node = p_node AND nodes.epoch = p_epoch AND lost_at IS NULL)
            RETURNING given.place
    ) SELECT array_agg(place) INTO kept FROM renewed;
    RETURN coalesce(kept, ARRAY[]::bigint[]);
END $$;

-- The bell of the node that is next, or ''.
CREATE FUNCTION {schema}.release_lock_1(p_name text, p_holder text) RETURNS text
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    now_at double precision;
    found_bell text := '';
BEGIN
    PERFORM {schema}.durably_1();
    PERFORM pg_advisory_xact_lock(hashtextextended('{schema}.' || p_name, 0));
    now_at := {schema}.clock_seconds();
    DELETE FROM {schema}.lock_waiters WHERE name = p_name AND holder = p_holder;
    DELETE FROM {schema}.locks WHERE name = p_name AND holder = p_holder;
    IF NOT EXISTS (SELECT 1 FROM {schema}.locks WHERE name = p_name) THEN
        SELECT nodes.bell INTO found_bell FROM {schema}.lock_waiters AS waiter
            JOIN {schema}.nodes ON nodes.node = waiter.node AND nodes.epoch = waiter.epoch
            WHERE waiter.name = p_name AND least(waiter.expires_at, nodes.expires_at) > now_at AND nodes.lost_at IS NULL
            ORDER BY waiter.number LIMIT 1;
    END IF;
    RETURN coalesce(found_bell, '');
END $$;

CREATE FUNCTION {schema}.join_2(p_node text, p_lease_seconds double precision, p_bell text, p_info text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    taken bigint := {schema}.join_1(p_node, p_lease_seconds, p_bell, p_info);
BEGIN
    UPDATE {schema}.nodes SET asked = '' WHERE node = p_node AND asked <> '';
    PERFORM {schema}.drop_locks_1(ARRAY[p_node]);
    RETURN taken;
END $$;

CREATE FUNCTION {schema}.leave_2(p_node text, p_epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM {schema}.nodes WHERE node = p_node AND epoch = p_epoch) THEN
        PERFORM {schema}.leave_1(p_node, p_epoch);
        PERFORM {schema}.drop_locks_1(ARRAY[p_node]);
    END IF;
END $$;

CREATE FUNCTION {schema}.describe_node_1(p_node text, p_epoch bigint, p_info text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    UPDATE {schema}.nodes SET info = p_info WHERE node = p_node AND epoch = p_epoch;
END $$;

-- NULL if no such node lives.
CREATE FUNCTION {schema}.ask_node_1(p_node text, p_what text) RETURNS text LANGUAGE sql AS $$
    UPDATE {schema}.nodes SET asked = p_what
        WHERE node = p_node AND lost_at IS NULL AND expires_at > {schema}.clock_seconds() RETURNING bell
$$;

CREATE FUNCTION {schema}.expire_lost_2(p_authority text, p_term bigint) RETURNS text[]
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    lost text[];
BEGIN
    PERFORM {schema}.check_term_1(p_authority, p_term);
    lost := {schema}.expire_lost_1();
    IF cardinality(lost) > 0 THEN
        PERFORM {schema}.drop_locks_1(lost);
    END IF;
    RETURN lost;
END $$;

CREATE FUNCTION {schema}.delete_runs_2(
    p_ended_before double precision, p_limit integer, p_authority text, p_term bigint
) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.check_term_1(p_authority, p_term);
    RETURN {schema}.delete_runs_1(p_ended_before, p_limit);
END $$;
