-- Attempts on offer to other nodes and workers: see headrace.contracts.ready. Runs are locked before their offers, by
-- everybody and in order: whether an outcome waits in the inbox cannot change between the look and the insert.

-- p_rows: JSON, with the id of a run in field r.
DROP PROCEDURE IF EXISTS lock_runs_1
;;
CREATE PROCEDURE lock_runs_1(IN p_rows LONGTEXT CHARACTER SET utf8mb4) SQL SECURITY INVOKER
BEGIN
    DECLARE v_done INT DEFAULT 0;
    DECLARE v_run, v_found VARBINARY(255);
    DECLARE v_runs CURSOR FOR
        SELECT DISTINCT CAST(given.r AS BINARY) AS r FROM JSON_TABLE(p_rows, '$[*]' COLUMNS (r VARCHAR(255) PATH '$.r')) AS given
        ORDER BY r;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
    OPEN v_runs;
    walk: LOOP
        FETCH v_runs INTO v_run;
        IF v_done = 1 THEN
            LEAVE walk;
        END IF;
        SELECT run_id INTO v_found FROM runs WHERE run_id = v_run FOR UPDATE;
        SET v_done = 0;  -- an unknown run has set it
    END LOOP;
    CLOSE v_runs;
END
;;

-- p_offers: k key, r run, q queue, e executor, l labels as JSON text, p priority, a at_most_once, i inbox kind, c call.
DROP PROCEDURE IF EXISTS offer_1
;;
CREATE PROCEDURE offer_1(IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_offers LONGTEXT CHARACTER SET utf8mb4)
SQL SECURITY INVOKER
BEGIN
    DECLARE v_now DOUBLE;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    CALL fence_1(p_node, p_epoch);
    CALL lock_runs_1(p_offers);
    SELECT seconds INTO v_now FROM clock;
    INSERT INTO ready (`key`, run_id, queue, executor, labels, priority, at_most_once, offered_at)
        SELECT given.k, given.r, given.q, given.e, given.l, given.p, given.a, v_now
        FROM JSON_TABLE(p_offers, '$[*]' COLUMNS (
            place FOR ORDINALITY, k VARCHAR(1024) PATH '$.k', r VARCHAR(255) PATH '$.r', q VARCHAR(255) PATH '$.q',
            e VARCHAR(255) PATH '$.e', l LONGTEXT PATH '$.l', p INT PATH '$.p', a INT PATH '$.a',
            i VARCHAR(1100) PATH '$.i')) AS given
        STRAIGHT_JOIN runs ON runs.run_id = CAST(given.r AS BINARY)
        WHERE runs.owner = p_node
          AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.run_id = runs.run_id AND inbox.kind = CAST(given.i AS BINARY))
        ORDER BY given.place
        ON DUPLICATE KEY UPDATE ready.`key` = ready.`key`;
    INSERT INTO ready_calls (`key`, run_id, `call`)
        SELECT ready.`key`, ready.run_id, given.c
        FROM JSON_TABLE(p_offers, '$[*]' COLUMNS (k VARCHAR(1024) PATH '$.k', c LONGTEXT PATH '$.c')) AS given
        STRAIGHT_JOIN ready ON ready.`key` = CAST(given.k AS BINARY)
        ON DUPLICATE KEY UPDATE ready_calls.`key` = ready_calls.`key`;
    COMMIT;
END
;;

-- Candidates are read without locks and then taken one by one, by their key: a query that sorts would lock, and hide from
-- others, more than it takes. p_room: e executor, n how many.
DROP PROCEDURE IF EXISTS claim_attempts_1
;;
CREATE PROCEDURE claim_attempts_1(
    IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_queues LONGTEXT CHARACTER SET utf8mb4,
    IN p_labels LONGTEXT CHARACTER SET utf8mb4, IN p_room LONGTEXT CHARACTER SET utf8mb4
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_done, v_free, v_room, v_count, v_seen, v_most, v_tries INT DEFAULT 0;
    DECLARE v_now DOUBLE;
    DECLARE v_executor VARBINARY(255);
    DECLARE v_key VARBINARY(1024);
    DECLARE v_taken LONGTEXT CHARACTER SET utf8mb4 DEFAULT '';
    DECLARE v_executors CURSOR FOR
        SELECT given.e, given.n FROM JSON_TABLE(p_room, '$[*]' COLUMNS (
            place FOR ORDINALITY, e VARCHAR(255) PATH '$.e', n INT PATH '$.n')) AS given ORDER BY given.place;
    DECLARE v_waiting CURSOR FOR
        SELECT ready.`key`
        FROM JSON_TABLE(p_queues, '$[*]' COLUMNS (q VARCHAR(255) PATH '$')) AS given
        STRAIGHT_JOIN ready FORCE INDEX (ready_by_worker)
            ON ready.worker IS NULL AND ready.queue = CAST(given.q AS BINARY) AND ready.executor = v_executor
        STRAIGHT_JOIN runs ON runs.run_id = ready.run_id
        WHERE runs.ended_at IS NULL
          AND (ready.labels = '{}' OR JSON_CONTAINS(p_labels, CONVERT(ready.labels USING utf8mb4)))
        ORDER BY ready.priority DESC, ready.number LIMIT v_most;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    CALL fence_1(p_node, p_epoch);
    SELECT seconds INTO v_now FROM clock;
    OPEN v_executors;
    rooms: LOOP
        SET v_done = 0;
        FETCH v_executors INTO v_executor, v_room;
        IF v_done = 1 THEN
            LEAVE rooms;
        END IF;
        SET v_most = 10 * v_room + 100, v_count = 0, v_tries = 3;
        again: REPEAT
            SET v_seen = 0, v_tries = v_tries - 1;
            OPEN v_waiting;
            walk: WHILE v_count < v_room DO
                FETCH v_waiting INTO v_key;
                IF v_done = 1 THEN
                    LEAVE walk;
                END IF;
                SET v_seen = v_seen + 1, v_free = 0;
                SELECT 1 INTO v_free FROM ready WHERE `key` = v_key AND worker IS NULL FOR UPDATE SKIP LOCKED;
                IF v_free = 1 THEN
                    UPDATE ready SET worker = p_node, worker_epoch = p_epoch, delivery = delivery + 1, claimed_at = v_now
                        WHERE `key` = v_key;
                    SET v_taken = CONCAT(v_taken, IF(v_taken = '', '"', ',"'), HEX(v_key), '"'), v_count = v_count + 1;
                END IF;
                SET v_done = 0;  -- one that somebody else has taken has set it
            END WHILE;
            CLOSE v_waiting;
            SET v_done = 0;
        UNTIL v_count = v_room OR v_seen < v_most OR v_tries = 0 END REPEAT;
    END LOOP;
    CLOSE v_executors;
    SET v_taken = CONCAT('[', v_taken, ']');
    SELECT ready.`key`, ready.delivery, ready.queue, ready.executor, ready_calls.`call`, ready.details
        FROM JSON_TABLE(v_taken, '$[*]' COLUMNS (place FOR ORDINALITY, k VARCHAR(2048) PATH '$')) AS given
        STRAIGHT_JOIN ready ON ready.`key` = UNHEX(given.k)
        STRAIGHT_JOIN ready_calls ON ready_calls.`key` = ready.`key`
        ORDER BY given.place;
    COMMIT;
END
;;

-- p_beats: k key, d delivery, t details if there are any.
DROP PROCEDURE IF EXISTS report_1
;;
CREATE PROCEDURE report_1(
    IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_beats LONGTEXT CHARACTER SET utf8mb4, IN p_has_details INT
) SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    IF p_has_details = 1 THEN
        CALL fence_1(p_node, p_epoch);
        UPDATE JSON_TABLE(p_beats, '$[*]' COLUMNS (
                k VARCHAR(1024) PATH '$.k', d INT PATH '$.d', t LONGTEXT PATH '$.t')) AS given
            STRAIGHT_JOIN ready FORCE INDEX (PRIMARY) ON ready.`key` = CAST(given.k AS BINARY)
            SET ready.details = given.t
            WHERE ready.delivery = given.d AND given.t IS NOT NULL
              AND ready.worker = p_node AND ready.worker_epoch = p_epoch;
    END IF;
    SELECT CAST(given.k AS BINARY), IF(ready.`key` IS NULL, 'lost', 'stop')
        FROM JSON_TABLE(p_beats, '$[*]' COLUMNS (k VARCHAR(1024) PATH '$.k', d INT PATH '$.d')) AS given
        LEFT JOIN ready ON ready.`key` = CAST(given.k AS BINARY) AND ready.delivery = given.d
            AND ready.worker = p_node AND ready.worker_epoch = p_epoch
        WHERE ready.`key` IS NULL OR ready.stop = 1;
    COMMIT;
END
;;

-- Puts an outcome into its run's inbox; the run is locked by the caller. The bell of its live owner, NULL if it has ended.
DROP PROCEDURE IF EXISTS deliver_1
;;
CREATE PROCEDURE deliver_1(
    IN p_run VARBINARY(255), IN p_kind VARBINARY(1100), IN p_payload LONGBLOB, OUT p_bell LONGBLOB
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_known INT DEFAULT 0;
    DECLARE v_owner VARBINARY(255);
    DECLARE v_wake DOUBLE;
    SET p_bell = NULL;
    SELECT 1, owner, wake_at INTO v_known, v_owner, v_wake FROM runs WHERE run_id = p_run AND ended_at IS NULL;
    IF v_known = 1 THEN
        INSERT INTO inbox (run_id, kind, payload) VALUES (p_run, p_kind, p_payload);
        IF v_wake IS NOT NULL THEN
            UPDATE runs SET wake_at = NULL WHERE run_id = p_run;
        END IF;
        SET p_bell = COALESCE((
            SELECT nodes.bell FROM nodes JOIN leases ON leases.node = nodes.node
            WHERE nodes.node = v_owner AND leases.expires_at > (SELECT seconds FROM clock)), '');
    END IF;
END
;;

-- p_results: k key, d delivery, r run, i inbox kind, o outcome. Gives one bell per outcome in hex, in their order, with
-- commas; a dash where it was refused.
DROP PROCEDURE IF EXISTS complete_1
;;
CREATE PROCEDURE complete_1(IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_results LONGTEXT CHARACTER SET utf8mb4)
SQL SECURITY INVOKER
BEGIN
    DECLARE v_done, v_delivery, v_gone INT DEFAULT 0;
    DECLARE v_key, v_kind VARBINARY(1100);
    DECLARE v_run VARBINARY(255);
    DECLARE v_outcome, v_bell LONGBLOB;
    DECLARE v_bells LONGTEXT CHARACTER SET ascii DEFAULT '';
    DECLARE v_results CURSOR FOR
        SELECT given.k, given.d, given.r, given.i, given.o FROM JSON_TABLE(p_results, '$[*]' COLUMNS (
            place FOR ORDINALITY, k VARCHAR(1024) PATH '$.k', d INT PATH '$.d', r VARCHAR(255) PATH '$.r',
            i VARCHAR(1100) PATH '$.i', o LONGTEXT PATH '$.o')) AS given ORDER BY given.place;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    CALL fence_1(p_node, p_epoch);
    CALL lock_runs_1(p_results);
    OPEN v_results;
    walk: LOOP
        SET v_done = 0;
        FETCH v_results INTO v_key, v_delivery, v_run, v_kind, v_outcome;
        IF v_done = 1 THEN
            LEAVE walk;
        END IF;
        SET v_bell = NULL;
        DELETE FROM ready
            WHERE `key` = v_key AND delivery = v_delivery AND worker = p_node AND worker_epoch = p_epoch;
        SET v_gone = ROW_COUNT();
        IF v_gone = 1 THEN
            DELETE FROM ready_calls WHERE `key` = v_key;
            CALL deliver_1(v_run, v_kind, v_outcome, v_bell);
        END IF;
        SET v_bells = CONCAT(v_bells, COALESCE(HEX(v_bell), '-'), ',');
    END LOOP;
    CLOSE v_results;
    COMMIT;
    SELECT v_bells;
END
;;

-- p_claims: k key, d delivery.
DROP PROCEDURE IF EXISTS give_back_1
;;
CREATE PROCEDURE give_back_1(IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_claims LONGTEXT CHARACTER SET utf8mb4)
SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    CALL fence_1(p_node, p_epoch);
    DELETE ready, ready_calls
        FROM JSON_TABLE(p_claims, '$[*]' COLUMNS (k VARCHAR(1024) PATH '$.k', d INT PATH '$.d')) AS given
        STRAIGHT_JOIN ready ON ready.`key` = CAST(given.k AS BINARY) AND ready.delivery = given.d
            AND ready.worker = p_node AND ready.worker_epoch = p_epoch AND ready.stop = 1
        STRAIGHT_JOIN ready_calls ON ready_calls.`key` = ready.`key`;
    UPDATE JSON_TABLE(p_claims, '$[*]' COLUMNS (k VARCHAR(1024) PATH '$.k', d INT PATH '$.d')) AS given
        STRAIGHT_JOIN ready FORCE INDEX (PRIMARY) ON ready.`key` = CAST(given.k AS BINARY)
        SET ready.worker = NULL, ready.worker_epoch = NULL, ready.claimed_at = NULL, ready.delivery = ready.delivery - 1
        WHERE ready.delivery = given.d AND ready.worker = p_node AND ready.worker_epoch = p_epoch;
    COMMIT;
END
;;

-- What was found lost is judged again once its run is locked. p_lost: k key, d delivery, r run, i inbox kind, o the outcome
-- "lost" to tell if it is not offered again. Gives how many are, and the bells of owners in hex.
DROP PROCEDURE IF EXISTS requeue_lost_1
;;
CREATE PROCEDURE requeue_lost_1(IN p_lost LONGTEXT CHARACTER SET utf8mb4, IN p_deliveries_max INT, IN p_limit INT)
SQL SECURITY INVOKER
BEGIN
    DECLARE v_done, v_delivery, v_found, v_ends, v_again INT DEFAULT 0;
    DECLARE v_key, v_kind VARBINARY(1100);
    DECLARE v_run VARBINARY(255);
    DECLARE v_outcome, v_bell LONGBLOB;
    DECLARE v_bells LONGTEXT CHARACTER SET ascii DEFAULT '';
    DECLARE v_lost CURSOR FOR
        SELECT given.k, given.d, given.r, given.i, given.o FROM JSON_TABLE(p_lost, '$[*]' COLUMNS (
            place FOR ORDINALITY, k VARCHAR(1024) PATH '$.k', d INT PATH '$.d', r VARCHAR(255) PATH '$.r',
            i VARCHAR(1100) PATH '$.i', o LONGTEXT PATH '$.o')) AS given ORDER BY given.place;
    DECLARE v_ended CURSOR FOR
        SELECT ready.`key` FROM ready JOIN runs ON runs.run_id = ready.run_id
        WHERE ready.worker IS NULL AND runs.ended_at IS NOT NULL LIMIT p_limit;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    CALL lock_runs_1(p_lost);
    OPEN v_lost;
    walk: LOOP
        SET v_done = 0;
        FETCH v_lost INTO v_key, v_delivery, v_run, v_kind, v_outcome;
        IF v_done = 1 THEN
            LEAVE walk;
        END IF;
        SET v_found = 0, v_bell = NULL;
        SELECT 1, at_most_once = 1 OR stop = 1 OR delivery >= p_deliveries_max INTO v_found, v_ends FROM ready
            WHERE `key` = v_key AND delivery = v_delivery AND worker IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.node = worker AND nodes.epoch = worker_epoch) FOR UPDATE;
        IF v_found = 1 AND v_ends = 1 THEN
            DELETE FROM ready WHERE `key` = v_key;
            DELETE FROM ready_calls WHERE `key` = v_key;
            CALL deliver_1(v_run, v_kind, v_outcome, v_bell);
            SET v_bells = CONCAT(v_bells, COALESCE(HEX(v_bell), ''), ',');
        ELSEIF v_found = 1 THEN
            UPDATE ready SET worker = NULL, worker_epoch = NULL, claimed_at = NULL WHERE `key` = v_key;
            SET v_again = v_again + 1;
        END IF;
    END LOOP;
    CLOSE v_lost;
    OPEN v_ended;
    ended: LOOP
        SET v_done = 0;
        FETCH v_ended INTO v_key;
        IF v_done = 1 THEN
            LEAVE ended;
        END IF;
        DELETE FROM ready WHERE `key` = v_key AND worker IS NULL;
        SET v_found = ROW_COUNT();
        IF v_found = 1 THEN
            DELETE FROM ready_calls WHERE `key` = v_key;
        END IF;
    END LOOP;
    CLOSE v_ended;
    COMMIT;
    SELECT v_again, v_bells;
END
;;

-- p_keys: a JSON array, sorted. Gives those that are to be stopped, with the bells of their claimers.
DROP PROCEDURE IF EXISTS withdraw_1
;;
CREATE PROCEDURE withdraw_1(
    IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_keys LONGTEXT CHARACTER SET utf8mb4, IN p_stop INT
)
SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    CALL fence_1(p_node, p_epoch);
    UPDATE JSON_TABLE(p_keys, '$[*]' COLUMNS (k VARCHAR(1024) PATH '$')) AS given
        STRAIGHT_JOIN ready FORCE INDEX (PRIMARY) ON ready.`key` = CAST(given.k AS BINARY)
        SET ready.stop = GREATEST(ready.stop, p_stop);
    DELETE ready, ready_calls FROM JSON_TABLE(p_keys, '$[*]' COLUMNS (k VARCHAR(1024) PATH '$')) AS given
        STRAIGHT_JOIN ready ON ready.`key` = CAST(given.k AS BINARY) AND ready.worker IS NULL
        STRAIGHT_JOIN ready_calls ON ready_calls.`key` = ready.`key`;
    SELECT ready.`key`, COALESCE((
            SELECT nodes.bell FROM nodes JOIN leases ON leases.node = nodes.node
            WHERE nodes.node = ready.worker AND leases.expires_at > (SELECT seconds FROM clock)), '')
        FROM JSON_TABLE(p_keys, '$[*]' COLUMNS (k VARCHAR(1024) PATH '$')) AS given
        STRAIGHT_JOIN ready ON ready.`key` = CAST(given.k AS BINARY);
    COMMIT;
END
;;
