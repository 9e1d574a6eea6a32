-- Whatever writes is one procedure, or a packet of statements that ends with one: one round trip, one transaction that
-- needs nothing more from the client, so that a node that is suspended or cut off in the middle holds no lock. Every
-- procedure rolls back before it passes an error on. Names end in a number; a procedure that changes gets the next one and
-- the old one stays, so that nodes of the former version go on beside new ones.
--
-- Sessions run at READ COMMITTED: every statement takes a new snapshot. That is relied upon: after a wait for a row lock, the
-- next statement sees what the holder of the lock has committed.
--
-- Rows are locked in one order by everybody, so that deadlocks are rare: counters, locks, leases, claims, nodes, runs (by
-- id), the rest. Where several rows are written, they come as JSON, sorted by the client. Absent fields, not JSON's null, are NULL.
--
-- Errors have states of their own: HR001 fenced, HR003 not found, HR004 something is there already, HR005 too late, HR006
-- not the leader.

-- A lease that ended but was not taken is still held. The lock lasts until the end of the transaction. Where this is called,
-- the caller rolls back.
DROP PROCEDURE IF EXISTS fence_1
;;
CREATE PROCEDURE fence_1(IN p_node VARBINARY(255), IN p_epoch BIGINT) SQL SECURITY INVOKER
BEGIN
    DECLARE v_epoch BIGINT;
    SELECT epoch INTO v_epoch FROM nodes WHERE node = p_node LOCK IN SHARE MODE;
    IF v_epoch IS NULL THEN
        SIGNAL SQLSTATE 'HR001' SET MESSAGE_TEXT = 'it left';
    ELSEIF v_epoch <> p_epoch THEN
        SIGNAL SQLSTATE 'HR001' SET MESSAGE_TEXT = 'its lease was taken';
    END IF;
END
;;

-- A leader's transaction holds its term until it has committed: whoever takes the lock over deletes the row, and waits.
DROP PROCEDURE IF EXISTS check_term_1
;;
CREATE PROCEDURE check_term_1(IN p_authority VARBINARY(255), IN p_term BIGINT) SQL SECURITY INVOKER
BEGIN
    DECLARE v_term BIGINT;
    IF p_term IS NOT NULL THEN
        IF p_authority = 'store' THEN
            SELECT token INTO v_term FROM locks WHERE name = 'headrace.leader' LOCK IN SHARE MODE;
        ELSE
            INSERT INTO terms (authority, term) VALUES (p_authority, p_term)
                ON DUPLICATE KEY UPDATE term = GREATEST(term, VALUES(term));
            SELECT term INTO v_term FROM terms WHERE authority = p_authority;
        END IF;
        IF NOT v_term <=> p_term THEN
            SIGNAL SQLSTATE 'HR006' SET MESSAGE_TEXT = 'the term of this leader is over';
        END IF;
    END IF;
END
;;

DROP PROCEDURE IF EXISTS drop_locks_1
;;
CREATE PROCEDURE drop_locks_1(IN p_node VARBINARY(255)) SQL SECURITY INVOKER
BEGIN
    DELETE locks, lock_ends FROM locks FORCE INDEX (locks_by_node) STRAIGHT_JOIN lock_ends ON lock_ends.name = locks.name
        WHERE locks.node = p_node;
    DELETE lock_waiters FROM lock_waiters FORCE INDEX (lock_waiters_by_node) WHERE lock_waiters.node = p_node;
END
;;

-- ---- history ------------------------------------------------------------------------------------------------------
-- A flush is: begin_1, plain inserts that skip what is there, update_runs_1 and attributes_1 as often as packets ask for it,
-- commit_1.

DROP PROCEDURE IF EXISTS begin_1
;;
CREATE PROCEDURE begin_1(IN p_node VARBINARY(255), IN p_epoch BIGINT) SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    SET @headrace_written = 0;
    START TRANSACTION;
    CALL fence_1(p_node, p_epoch);
END
;;

-- If less was written than was given, something is there already: a flush that is repeated, or somebody else's event. The
-- client looks which it is; nothing is kept of this try.
DROP PROCEDURE IF EXISTS commit_1
;;
CREATE PROCEDURE commit_1(IN p_expected BIGINT) SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    IF @headrace_written <> p_expected THEN
        SIGNAL SQLSTATE 'HR004' SET MESSAGE_TEXT = 'something of it is there already';
    END IF;
    COMMIT;
END
;;

-- p_updates: r run, s state, q last_seq, t d f tasks total, done and failed, e ended_at, w wake_at, l whether to release.
-- The error of a run is set to NULL; the client sets the few that there are.
DROP PROCEDURE IF EXISTS update_runs_1
;;
CREATE PROCEDURE update_runs_1(IN p_node VARBINARY(255), IN p_updates LONGTEXT CHARACTER SET utf8mb4) SQL SECURITY INVOKER
BEGIN
    DECLARE v_written BIGINT;
    DECLARE v_found, v_missing INT DEFAULT 0;
    DECLARE v_run, v_owner VARBINARY(255);
    DECLARE v_text VARCHAR(128) CHARACTER SET utf8mb4;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    -- last_seq keeps a repeated flush from undoing a newer one.
    UPDATE JSON_TABLE(p_updates, '$[*]' COLUMNS (
            r VARCHAR(255) PATH '$.r', s VARCHAR(64) PATH '$.s', q INT PATH '$.q', t INT PATH '$.t', d INT PATH '$.d',
            f INT PATH '$.f', e DOUBLE PATH '$.e', w DOUBLE PATH '$.w', l INT PATH '$.l'
        )) AS given
        STRAIGHT_JOIN runs FORCE INDEX (PRIMARY) ON runs.run_id = CAST(given.r AS BINARY)
        SET runs.state = given.s, runs.last_seq = given.q, runs.tasks_total = given.t, runs.tasks_done = given.d,
            runs.tasks_failed = given.f, runs.ended_at = given.e, runs.error = NULL, runs.wake_at = given.w,
            runs.owner = IF(given.l = 1, NULL, p_node)
        WHERE runs.owner <=> p_node AND runs.last_seq <= given.q;
    SET v_written = ROW_COUNT();
    IF v_written <> JSON_LENGTH(p_updates) THEN
        SELECT 1, given.r, runs.run_id IS NULL, runs.owner INTO v_found, v_run, v_missing, v_owner
            FROM JSON_TABLE(p_updates, '$[*]' COLUMNS (r VARCHAR(255) PATH '$.r', q INT PATH '$.q')) AS given
            LEFT JOIN runs ON runs.run_id = CAST(given.r AS BINARY)
            WHERE runs.run_id IS NULL OR (NOT runs.owner <=> p_node AND runs.last_seq < given.q) LIMIT 1;
        IF v_found = 1 AND v_missing = 1 THEN
            SET v_text = LEFT(CONVERT(CONCAT('there is no run ', v_run, ' to update') USING utf8mb4), 128);
            SIGNAL SQLSTATE 'HR003' SET MESSAGE_TEXT = v_text;
        ELSEIF v_found = 1 THEN
            SET v_text = LEFT(CONVERT(CONCAT('run ', v_run, ' is owned by ', COALESCE(v_owner, 'nobody')) USING utf8mb4), 128);
            SIGNAL SQLSTATE 'HR001' SET MESSAGE_TEXT = v_text;
        END IF;
    END IF;
END
;;

-- p_changed: r run, q last_seq, j all its attributes as JSON text. p_items: r q as there, n name, k kind, t text or v number.
-- last_seq tells whether the update was the newest. Most updates change no attribute.
DROP PROCEDURE IF EXISTS attributes_1
;;
CREATE PROCEDURE attributes_1(IN p_changed LONGTEXT CHARACTER SET utf8mb4, IN p_items LONGTEXT CHARACTER SET utf8mb4)
SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    UPDATE JSON_TABLE(p_changed, '$[*]' COLUMNS (r VARCHAR(255) PATH '$.r', q INT PATH '$.q', j LONGTEXT PATH '$.j')) AS given
        STRAIGHT_JOIN runs FORCE INDEX (PRIMARY) ON runs.run_id = CAST(given.r AS BINARY)
        SET runs.attributes = given.j, runs.attributes_seq = given.q
        WHERE runs.last_seq = given.q AND runs.attributes <> CAST(given.j AS BINARY);
    DELETE run_attributes
        FROM JSON_TABLE(p_changed, '$[*]' COLUMNS (r VARCHAR(255) PATH '$.r', q INT PATH '$.q')) AS given
        STRAIGHT_JOIN runs ON runs.run_id = CAST(given.r AS BINARY) AND runs.attributes_seq = given.q
        STRAIGHT_JOIN run_attributes ON run_attributes.run_id = runs.run_id;
    INSERT INTO run_attributes (run_id, name, kind, text, number)
        SELECT runs.run_id, given.n, given.k, given.t, given.v
        FROM JSON_TABLE(p_items, '$[*]' COLUMNS (r VARCHAR(255) PATH '$.r', q INT PATH '$.q', n LONGTEXT PATH '$.n',
            k VARCHAR(8) PATH '$.k', t LONGTEXT PATH '$.t', v DOUBLE PATH '$.v')) AS given
        STRAIGHT_JOIN runs ON runs.run_id = CAST(given.r AS BINARY) AND runs.attributes_seq = given.q;
END
;;

DROP PROCEDURE IF EXISTS put_workflow_1
;;
CREATE PROCEDURE put_workflow_1(
    IN p_version VARBINARY(255), IN p_name VARBINARY(255), IN p_created_at DOUBLE, IN p_source LONGBLOB, IN p_data LONGBLOB
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_number BIGINT;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    UPDATE counters SET value = value + 1 WHERE name = 'puts';
    SELECT value INTO v_number FROM counters WHERE name = 'puts';
    INSERT INTO workflows (version, name, put_number, created_at, source, data)
        VALUES (p_version, p_name, v_number, p_created_at, p_source, p_data)
        ON DUPLICATE KEY UPDATE put_number = v_number, created_at = p_created_at, source = p_source;
    COMMIT;
END
;;

-- ---- leases -------------------------------------------------------------------------------------------------------

-- Found by a read that locks nothing, deleted one by one: a scan would wait for the flushes of all nodes.
DROP PROCEDURE IF EXISTS forget_lost_1
;;
CREATE PROCEDURE forget_lost_1(IN p_before DOUBLE) SQL SECURITY INVOKER
BEGIN
    DECLARE v_node VARBINARY(255);
    DECLARE v_done INT DEFAULT 0;
    DECLARE v_old CURSOR FOR SELECT node FROM nodes WHERE lost_at < p_before LIMIT 100;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
    OPEN v_old;
    walk: LOOP
        FETCH v_old INTO v_node;
        IF v_done = 1 THEN
            LEAVE walk;
        END IF;
        DELETE FROM claims WHERE node = v_node;
        DELETE FROM nodes WHERE node = v_node AND lost_at < p_before;
    END LOOP;
    CLOSE v_old;
END
;;

DROP PROCEDURE IF EXISTS join_1
;;
CREATE PROCEDURE join_1(IN p_node VARBINARY(255), IN p_lease_seconds DOUBLE, IN p_bell LONGBLOB, IN p_info LONGBLOB)
SQL SECURITY INVOKER
BEGIN
    DECLARE v_epoch BIGINT;
    DECLARE v_now DOUBLE;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    UPDATE counters SET value = value + 1 WHERE name = 'epochs';
    SELECT value INTO v_epoch FROM counters WHERE name = 'epochs';
    SELECT seconds INTO v_now FROM clock;
    CALL drop_locks_1(p_node);
    INSERT INTO leases (node, epoch, expires_at) VALUES (p_node, v_epoch, v_now + p_lease_seconds)
        ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), expires_at = VALUES(expires_at);
    INSERT INTO claims (node, number) VALUES (p_node, 0) ON DUPLICATE KEY UPDATE number = 0;
    INSERT INTO nodes (node, epoch, bell, info) VALUES (p_node, v_epoch, p_bell, p_info)
        ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), lost_at = NULL, expires_at = NULL, asked = '', bell = VALUES(bell),
            info = VALUES(info);
    UPDATE runs SET owner = NULL WHERE owner = p_node;
    CALL forget_lost_1(v_now - 86400);
    COMMIT;
    SELECT v_epoch;
END
;;

DROP PROCEDURE IF EXISTS leave_1
;;
CREATE PROCEDURE leave_1(IN p_node VARBINARY(255), IN p_epoch BIGINT) SQL SECURITY INVOKER
BEGIN
    DECLARE v_gone INT DEFAULT 0;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    DELETE FROM leases WHERE node = p_node AND epoch = p_epoch;
    SET v_gone = ROW_COUNT();
    IF v_gone = 1 THEN
        DELETE FROM claims WHERE node = p_node;
        DELETE FROM nodes WHERE node = p_node;
        UPDATE runs SET owner = NULL WHERE owner = p_node;
        CALL drop_locks_1(p_node);
    END IF;
    COMMIT;
END
;;

DROP PROCEDURE IF EXISTS describe_node_1
;;
CREATE PROCEDURE describe_node_1(IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_info LONGBLOB) SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    UPDATE nodes SET info = p_info WHERE node = p_node AND epoch = p_epoch;
    CALL fence_1(p_node, p_epoch);
    COMMIT;
END
;;

-- Gives no row if no such node lives.
DROP PROCEDURE IF EXISTS ask_node_1
;;
CREATE PROCEDURE ask_node_1(IN p_node VARBINARY(255), IN p_what VARBINARY(255)) SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    UPDATE nodes SET asked = p_what WHERE node = p_node
        AND EXISTS (SELECT 1 FROM leases WHERE leases.node = p_node AND expires_at > (SELECT seconds FROM clock));
    SELECT nodes.bell FROM nodes JOIN leases ON leases.node = nodes.node
        WHERE nodes.node = p_node AND leases.expires_at > (SELECT seconds FROM clock);
    COMMIT;
END
;;

-- Waits for the flush of a late node that is under way; its runs are looked for after that. Most calls find nothing and
-- lock nothing.
DROP PROCEDURE IF EXISTS expire_lost_1
;;
CREATE PROCEDURE expire_lost_1(IN p_authority VARBINARY(255), IN p_term BIGINT) SQL SECURITY INVOKER
BEGIN
    DECLARE v_now DOUBLE;
    DECLARE v_epoch BIGINT;
    DECLARE v_done INT DEFAULT 0;
    DECLARE v_node VARBINARY(255);
    DECLARE v_lost LONGTEXT CHARACTER SET ascii DEFAULT '';
    DECLARE v_expired CURSOR FOR SELECT node FROM leases WHERE expires_at <= v_now ORDER BY node FOR UPDATE;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    SELECT seconds INTO v_now FROM clock;
    IF NOT EXISTS (SELECT 1 FROM leases WHERE expires_at <= v_now) THEN
        CALL check_term_1(p_authority, p_term);
    ELSE
        SELECT value INTO v_epoch FROM counters WHERE name = 'epochs' FOR UPDATE;
        CALL check_term_1(p_authority, p_term);
        OPEN v_expired;
        walk: LOOP
            FETCH v_expired INTO v_node;
            IF v_done = 1 THEN
                LEAVE walk;
            END IF;
            SET v_epoch = v_epoch + 1;
            UPDATE nodes SET epoch = v_epoch, lost_at = v_now,
                expires_at = (SELECT expires_at FROM leases WHERE leases.node = v_node) WHERE node = v_node;
            UPDATE runs SET owner = NULL WHERE owner = v_node;
            DELETE FROM leases WHERE node = v_node;
            CALL drop_locks_1(v_node);
            SET v_lost = CONCAT(v_lost, ',', HEX(v_node));
        END LOOP;
        CLOSE v_expired;
        UPDATE counters SET value = v_epoch WHERE name = 'epochs';
        CALL forget_lost_1(v_now - 86400);
    END IF;
    COMMIT;
    SELECT v_lost;
END
;;

-- Claims of a node are numbered. A caller who never learned what came of a claim tells with its next one the number of
-- the last that it knows of: whatever later ones brought is given up first. A claim that arrives late is refused by its
-- number. p_runs: a JSON array of ids, or NULL for whatever may be claimed. Gives the ids in hex.
DROP PROCEDURE IF EXISTS claim_1
;;
CREATE PROCEDURE claim_1(
    IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_limit INT, IN p_runs LONGTEXT CHARACTER SET utf8mb4,
    IN p_number BIGINT, IN p_known BIGINT
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_now DOUBLE;
    DECLARE v_done, v_free, v_count INT DEFAULT 0;
    DECLARE v_left INT;
    DECLARE v_run VARBINARY(255);
    DECLARE v_taken LONGTEXT CHARACTER SET ascii DEFAULT '';
    DECLARE v_named CURSOR FOR
        SELECT given.r FROM JSON_TABLE(p_runs, '$[*]' COLUMNS (r VARCHAR(255) PATH '$')) AS given ORDER BY given.r;
    -- The index is forced: a scan would lock, and hide from others, more than it takes.
    DECLARE v_due CURSOR FOR
        SELECT run_id FROM runs FORCE INDEX (runs_claimable)
        WHERE owner IS NULL AND ended_at IS NULL AND wake_at <= v_now
        ORDER BY wake_at, run_id LIMIT p_limit FOR UPDATE SKIP LOCKED;
    DECLARE v_waiting CURSOR FOR
        SELECT run_id FROM runs FORCE INDEX (runs_claimable)
        WHERE owner IS NULL AND ended_at IS NULL AND wake_at IS NULL
        ORDER BY run_id LIMIT v_left FOR UPDATE SKIP LOCKED;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    UPDATE claims SET number = p_number WHERE node = p_node AND number < p_number;
    SET v_count = ROW_COUNT();
    CALL fence_1(p_node, p_epoch);
    IF v_count = 0 THEN
        SIGNAL SQLSTATE 'HR005' SET MESSAGE_TEXT = 'a claim comes too late';
    END IF;
    IF p_known < p_number - 1 THEN
        UPDATE runs SET owner = NULL WHERE owner = p_node AND claim > p_known;
    END IF;
    SELECT seconds INTO v_now FROM clock;
    SET v_count = 0, v_done = 0;
    IF p_runs IS NOT NULL THEN
        OPEN v_named;
        named: LOOP
            FETCH v_named INTO v_run;
            IF v_done = 1 OR v_count = p_limit THEN
                LEAVE named;
            END IF;
            SET v_free = 0;
            SELECT owner IS NULL INTO v_free FROM runs WHERE run_id = v_run FOR UPDATE;
            IF v_free = 1 THEN
                UPDATE runs SET owner = p_node, claim = p_number WHERE run_id = v_run;
                SET v_taken = CONCAT(v_taken, ',', HEX(v_run)), v_count = v_count + 1;
            END IF;
            SET v_done = 0;  -- an unknown run has set it
        END LOOP;
        CLOSE v_named;
    ELSE
        -- Due timers first: there are only as many as have come due, so they cannot starve the others for long, while a
        -- steady stream of new runs could starve them.
        OPEN v_due;
        due: LOOP
            FETCH v_due INTO v_run;
            IF v_done = 1 THEN
                LEAVE due;
            END IF;
            UPDATE runs SET owner = p_node, claim = p_number WHERE run_id = v_run;
            SET v_taken = CONCAT(v_taken, ',', HEX(v_run)), v_count = v_count + 1;
        END LOOP;
        CLOSE v_due;
        SET v_left = p_limit - v_count, v_done = 0;
        OPEN v_waiting;
        waiting: LOOP
            FETCH v_waiting INTO v_run;
            IF v_done = 1 THEN
                LEAVE waiting;
            END IF;
            UPDATE runs SET owner = p_node, claim = p_number WHERE run_id = v_run;
            SET v_taken = CONCAT(v_taken, ',', HEX(v_run));
        END LOOP;
        CLOSE v_waiting;
    END IF;
    COMMIT;
    SELECT v_taken;
END
;;

DROP PROCEDURE IF EXISTS release_1
;;
CREATE PROCEDURE release_1(IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_runs LONGTEXT CHARACTER SET utf8mb4)
SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    CALL fence_1(p_node, p_epoch);
    UPDATE JSON_TABLE(p_runs, '$[*]' COLUMNS (r VARCHAR(255) PATH '$')) AS given
        STRAIGHT_JOIN runs FORCE INDEX (PRIMARY) ON runs.run_id = CAST(given.r AS BINARY)
        SET runs.owner = NULL WHERE runs.owner <=> p_node;
    COMMIT;
END
;;

-- ---- keys ---------------------------------------------------------------------------------------------------------

-- Gives no row if the key is reserved, else who has it. p_kept_by: states with commas between.
DROP PROCEDURE IF EXISTS reserve_key_1
;;
CREATE PROCEDURE reserve_key_1(
    IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_workflow VARBINARY(255), IN p_key VARBINARY(2048),
    IN p_run VARBINARY(255), IN p_kept_by LONGBLOB
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_run, v_node VARBINARY(255);
    DECLARE v_epoch BIGINT;
    DECLARE v_state VARBINARY(64);
    DECLARE v_end DOUBLE;
    DECLARE v_known, v_kept, v_new INT DEFAULT 0;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    CALL fence_1(p_node, p_epoch);
    -- Locks the row whether it was there or not: it cannot go (retention) before it is read.
    INSERT INTO run_keys (workflow, `key`, run_id, node, epoch) VALUES (p_workflow, p_key, p_run, p_node, p_epoch)
        ON DUPLICATE KEY UPDATE workflow = p_workflow;
    SET v_new = ROW_COUNT();
    IF v_new <> 1 THEN
        SELECT run_id, node, epoch INTO v_run, v_node, v_epoch FROM run_keys
            WHERE workflow = p_workflow AND `key` = p_key FOR UPDATE;
        IF v_run <> p_run THEN
            SELECT 1, state, ended_at INTO v_known, v_state, v_end FROM runs WHERE run_id = v_run;
            IF v_known = 0 THEN  -- being created; or it never came into being
                SET v_kept = EXISTS (SELECT 1 FROM nodes WHERE node = v_node AND epoch = v_epoch);
            ELSE
                SET v_kept = v_end IS NULL OR FIND_IN_SET(v_state, p_kept_by) > 0;
            END IF;
        END IF;
        IF v_kept = 0 THEN
            UPDATE run_keys SET run_id = p_run, node = p_node, epoch = p_epoch
                WHERE workflow = p_workflow AND `key` = p_key;
        END IF;
    END IF;
    COMMIT;
    SELECT v_run, v_state FROM counters WHERE name = 'epochs' AND v_kept = 1;
END
;;

-- ---- inbox --------------------------------------------------------------------------------------------------------

-- Gives no row for an unknown run. The run is locked before the message gets its number: messages of a run are numbered in
-- the order of their commits, and a run that is being parked is waited for.
DROP PROCEDURE IF EXISTS post_1
;;
CREATE PROCEDURE post_1(IN p_run VARBINARY(255), IN p_kind VARBINARY(1100), IN p_payload LONGBLOB) SQL SECURITY INVOKER
BEGIN
    DECLARE v_owner VARBINARY(255);
    DECLARE v_wake, v_now DOUBLE;
    DECLARE v_known INT DEFAULT 0;
    DECLARE v_message BIGINT DEFAULT 0;
    DECLARE v_bell LONGBLOB DEFAULT '';
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    SELECT 1, owner, wake_at INTO v_known, v_owner, v_wake FROM runs WHERE run_id = p_run FOR UPDATE;
    IF v_known = 1 THEN
        INSERT INTO inbox (run_id, kind, payload) VALUES (p_run, p_kind, p_payload);
        SET v_message = LAST_INSERT_ID();
        IF v_wake IS NOT NULL THEN
            UPDATE runs SET wake_at = NULL WHERE run_id = p_run;
        END IF;
        SELECT seconds INTO v_now FROM clock;
        SELECT nodes.bell INTO v_bell FROM nodes JOIN leases ON leases.node = nodes.node
            WHERE nodes.node = v_owner AND leases.expires_at > v_now;
    END IF;
    COMMIT;
    SELECT v_known, v_message, v_bell;
END
;;

-- ---- retention ----------------------------------------------------------------------------------------------------
-- First the rows go, in one transaction: from then on the runs do not exist. Their events follow in bounded batches;
-- deleted_runs remembers whose, so that a crash in between leaves nothing behind for ever.

DROP PROCEDURE IF EXISTS delete_runs_1
;;
CREATE PROCEDURE delete_runs_1(
    IN p_ended_before DOUBLE, IN p_limit INT, IN p_authority VARBINARY(255), IN p_term BIGINT
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_done INT DEFAULT 0;
    DECLARE v_run, v_workflow VARBINARY(255);
    DECLARE v_key LONGBLOB;
    DECLARE v_gone LONGTEXT CHARACTER SET ascii DEFAULT '';
    DECLARE v_old CURSOR FOR
        SELECT run_id, workflow, `key` FROM runs FORCE INDEX (runs_claimable)
        WHERE owner IS NULL AND ended_at < p_ended_before ORDER BY ended_at LIMIT p_limit FOR UPDATE SKIP LOCKED;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    CALL check_term_1(p_authority, p_term);
    OPEN v_old;
    walk: LOOP
        FETCH v_old INTO v_run, v_workflow, v_key;
        IF v_done = 1 THEN
            LEAVE walk;
        END IF;
        DELETE FROM run_tags WHERE run_id = v_run;
        DELETE FROM run_attributes WHERE run_id = v_run;
        IF v_key IS NOT NULL THEN
            DELETE FROM run_keys WHERE workflow = v_workflow AND `key` = v_key AND run_id = v_run;
        END IF;
        DELETE FROM runs WHERE run_id = v_run;
        DELETE FROM inbox WHERE run_id = v_run;
        DELETE FROM ready WHERE run_id = v_run;
        DELETE FROM ready_calls WHERE run_id = v_run;
        INSERT INTO deleted_runs (run_id) VALUES (v_run) ON DUPLICATE KEY UPDATE run_id = v_run;
        SET v_gone = CONCAT(v_gone, ',', HEX(v_run));
        SET v_done = 0;
    END LOOP;
    CLOSE v_old;
    COMMIT;
    SELECT v_gone;
END
;;

-- Deletes one batch; gives whether there may be more.
DROP PROCEDURE IF EXISTS delete_events_1
;;
CREATE PROCEDURE delete_events_1(IN p_limit INT) SQL SECURITY INVOKER
BEGIN
    DECLARE v_left, v_written INT;
    DECLARE v_run VARBINARY(255);
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    SET v_left = p_limit;
    walk: WHILE v_left > 0 DO
        SET v_run = NULL;
        SELECT run_id INTO v_run FROM deleted_runs ORDER BY run_id LIMIT 1 FOR UPDATE SKIP LOCKED;
        IF v_run IS NULL THEN
            LEAVE walk;
        END IF;
        DELETE FROM events WHERE run_id = v_run ORDER BY seq LIMIT v_left;
        SET v_written = ROW_COUNT();
        IF v_written < v_left THEN
            DELETE FROM deleted_runs WHERE run_id = v_run;
        END IF;
        SET v_left = v_left - v_written - 1;  -- counts runs too, so that the batch is bounded
    END WHILE;
    COMMIT;
    SELECT v_run IS NOT NULL;
END
;;
