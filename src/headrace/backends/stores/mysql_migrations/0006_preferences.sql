-- Whom an offer is for at first: those with all labels of prefer; after prefer_until, everybody. Both are NULL for offers that
-- are for everybody at once; a claim ends the preference. Nodes of the version before go on with the procedures they know:
-- they offer to everybody, and claim what is meant for others first.
-- Added only once: a migration that was cut short is carried out again, and MySQL has no ADD COLUMN IF NOT EXISTS.
SET @headrace_change = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'ready' AND column_name = 'prefer_until'),
    'DO 0', 'ALTER TABLE ready ADD COLUMN prefer LONGBLOB, ADD COLUMN prefer_until DOUBLE')
;;
PREPARE headrace_change FROM @headrace_change
;;
EXECUTE headrace_change
;;
DEALLOCATE PREPARE headrace_change
;;

-- p_offers: k key, r run, q queue, e executor, l labels as JSON text, p priority, a at_most_once, i inbox kind, c call;
-- w labels preferred as JSON text and s for how many seconds, absent if none are.
DROP PROCEDURE IF EXISTS offer_2
;;
CREATE PROCEDURE offer_2(IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_offers LONGTEXT CHARACTER SET utf8mb4)
SQL SECURITY INVOKER
BEGIN
    DECLARE v_now DOUBLE;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    CALL fence_1(p_node, p_epoch);
    CALL lock_runs_1(p_offers);
    SELECT seconds INTO v_now FROM clock;
    INSERT INTO ready (`key`, run_id, queue, executor, labels, priority, at_most_once, offered_at, prefer, prefer_until)
        SELECT given.k, given.r, given.q, given.e, given.l, given.p, given.a, v_now, given.w, v_now + given.s
        FROM JSON_TABLE(p_offers, '$[*]' COLUMNS (
            place FOR ORDINALITY, k VARCHAR(1024) PATH '$.k', r VARCHAR(255) PATH '$.r', q VARCHAR(255) PATH '$.q',
            e VARCHAR(255) PATH '$.e', l LONGTEXT PATH '$.l', p INT PATH '$.p', a INT PATH '$.a',
            i VARCHAR(1100) PATH '$.i', w LONGTEXT PATH '$.w', s DOUBLE PATH '$.s')) AS given
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
DROP PROCEDURE IF EXISTS claim_attempts_2
;;
CREATE PROCEDURE claim_attempts_2(
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
          AND (ready.prefer_until IS NULL OR ready.prefer_until <= v_now
            OR JSON_CONTAINS(p_labels, CONVERT(ready.prefer USING utf8mb4)))
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
                    UPDATE ready SET worker = p_node, worker_epoch = p_epoch, delivery = delivery + 1, claimed_at = v_now,
                        prefer_until = NULL
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
