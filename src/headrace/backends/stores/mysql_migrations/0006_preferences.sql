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

-- The offers of an executor that may be claimed, the first p_most of every queue, as a JSON array of their numbers, in the
-- order of claims. p_more: whether a queue may have more. One priority after the other, because no index is in the order of
-- claims (MariaDB has descending ones since 10.8 only): so a claim costs what it takes, however much waits.
DROP PROCEDURE IF EXISTS waiting_1
;;
CREATE PROCEDURE waiting_1(
    IN p_queues LONGTEXT CHARACTER SET utf8mb4, IN p_executor VARBINARY(255), IN p_labels LONGTEXT CHARACTER SET utf8mb4,
    IN p_now DOUBLE, IN p_most INT, OUT p_found LONGTEXT CHARACTER SET utf8mb4, OUT p_more INT
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_done, v_left, v_count INT DEFAULT 0;
    DECLARE v_priority, v_below BIGINT;
    DECLARE v_queue VARBINARY(255);
    DECLARE v_part LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_queues CURSOR FOR
        SELECT given.q FROM JSON_TABLE(p_queues, '$[*]' COLUMNS (q VARCHAR(255) PATH '$')) AS given;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
    SET p_found = '', p_more = 0;
    OPEN v_queues;
    queues: LOOP
        SET v_done = 0;
        FETCH v_queues INTO v_queue;
        IF v_done = 1 THEN
            LEAVE queues;
        END IF;
        SET v_left = p_most, v_below = 1 << 40;
        levels: WHILE v_left > 0 DO
            SET v_priority = NULL;
            SELECT priority INTO v_priority FROM ready FORCE INDEX (ready_by_worker)
                WHERE worker IS NULL AND queue = v_queue AND executor = p_executor AND priority < v_below
                ORDER BY priority DESC LIMIT 1;
            IF v_priority IS NULL THEN
                LEAVE levels;
            END IF;
            SET v_below = v_priority;
            SELECT COUNT(*), GROUP_CONCAT('[', v_priority, ',', seen.number, ']' SEPARATOR ',') INTO v_count, v_part
                FROM (
                    SELECT ready.number FROM ready FORCE INDEX (ready_by_worker)
                    STRAIGHT_JOIN runs FORCE INDEX (PRIMARY) ON runs.run_id = ready.run_id
                    WHERE ready.worker IS NULL AND ready.queue = v_queue AND ready.executor = p_executor
                      AND ready.priority = v_priority AND runs.ended_at IS NULL
                      AND (ready.labels = '{}' OR JSON_CONTAINS(p_labels, CONVERT(ready.labels USING utf8mb4)))
                      AND (ready.prefer_until IS NULL OR ready.prefer_until <= p_now
                        OR JSON_CONTAINS(p_labels, CONVERT(ready.prefer USING utf8mb4)))
                    ORDER BY ready.number LIMIT v_left) AS seen;
            IF v_count > 0 THEN
                SET v_left = v_left - v_count, p_found = CONCAT(p_found, IF(p_found = '', '', ','), v_part);
            END IF;
        END WHILE;
        IF v_left = 0 THEN
            SET p_more = 1;
        END IF;
    END LOOP;
    CLOSE v_queues;
    SET p_found = CONCAT('[', p_found, ']');
    SELECT CONCAT('[', COALESCE(GROUP_CONCAT(given.n ORDER BY given.p DESC, given.n SEPARATOR ','), ''), ']') INTO p_found
        FROM JSON_TABLE(p_found, '$[*]' COLUMNS (p INT PATH '$[0]', n BIGINT PATH '$[1]')) AS given;
END
;;

-- As claim_attempts_1: candidates are read without locks and then taken one by one, but as many in one statement as there
-- is room for. If others take too many of the first ones, it looks farther.
DROP PROCEDURE IF EXISTS claim_attempts_2
;;
CREATE PROCEDURE claim_attempts_2(
    IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_queues LONGTEXT CHARACTER SET utf8mb4,
    IN p_labels LONGTEXT CHARACTER SET utf8mb4, IN p_room LONGTEXT CHARACTER SET utf8mb4
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_done, v_room, v_most, v_more, v_tries, v_from, v_to, v_count INT DEFAULT 0;
    DECLARE v_now DOUBLE;
    DECLARE v_executor VARBINARY(255);
    DECLARE v_found, v_new LONGTEXT CHARACTER SET utf8mb4;
    DECLARE v_taken LONGTEXT CHARACTER SET utf8mb4 DEFAULT '';
    DECLARE v_executors CURSOR FOR
        SELECT given.e, given.n FROM JSON_TABLE(p_room, '$[*]' COLUMNS (
            place FOR ORDINALITY, e VARCHAR(255) PATH '$.e', n INT PATH '$.n')) AS given ORDER BY given.place;
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
        SET v_most = LEAST(v_room, 4000), v_tries = 3;
        REPEAT
            SET v_tries = v_tries - 1, v_from = 0;
            CALL waiting_1(p_queues, v_executor, p_labels, v_now, v_most, v_found, v_more);
            WHILE v_room > 0 AND v_from < JSON_LENGTH(v_found) DO
                SET v_to = v_from + v_room;
                SELECT COUNT(*), GROUP_CONCAT(given.n ORDER BY given.place SEPARATOR ',') INTO v_count, v_new
                    FROM JSON_TABLE(v_found, '$[*]' COLUMNS (place FOR ORDINALITY, n BIGINT PATH '$')) AS given
                    STRAIGHT_JOIN ready FORCE INDEX (ready_by_number) ON ready.number = given.n
                    WHERE given.place > v_from AND given.place <= v_to AND ready.worker IS NULL FOR UPDATE SKIP LOCKED;
                SET v_from = v_to;
                IF v_count > 0 THEN
                    SET v_room = v_room - v_count, v_taken = CONCAT(v_taken, IF(v_taken = '', '', ','), v_new),
                        v_new = CONCAT('[', v_new, ']');
                    UPDATE JSON_TABLE(v_new, '$[*]' COLUMNS (n BIGINT PATH '$')) AS given
                        STRAIGHT_JOIN ready FORCE INDEX (ready_by_number) ON ready.number = given.n
                        SET ready.worker = p_node, ready.worker_epoch = p_epoch, ready.delivery = ready.delivery + 1,
                            ready.claimed_at = v_now, ready.prefer_until = NULL;
                END IF;
            END WHILE;
            SET v_most = LEAST(10 * v_room + 100, 4000);
        UNTIL v_room = 0 OR v_more = 0 OR v_tries = 0 END REPEAT;
    END LOOP;
    CLOSE v_executors;
    SET v_taken = CONCAT('[', v_taken, ']');
    SELECT ready.`key`, ready.delivery, ready.queue, ready.executor, ready_calls.`call`, ready.details
        FROM JSON_TABLE(v_taken, '$[*]' COLUMNS (place FOR ORDINALITY, n BIGINT PATH '$')) AS given
        STRAIGHT_JOIN ready FORCE INDEX (ready_by_number) ON ready.number = given.n
        STRAIGHT_JOIN ready_calls FORCE INDEX (PRIMARY) ON ready_calls.`key` = ready.`key`
        ORDER BY given.place;
    COMMIT;
END
;;
