-- Attempts on offer, many at a time: whole sets in a few statements where 0003_ready.sql went row by row, which cost a
-- worker's outcome five times what it costs on PostgreSQL.

-- p_results: n place, k key, d delivery, r run, i inbox kind, o outcome; sorted by run and key, no key with the same delivery
-- twice. Gives place and bell of those that were taken; the others were refused, or their run has ended.
-- All offers that are named are locked before any is judged, so that every statement judges them alike.
DROP PROCEDURE IF EXISTS complete_2
;;
CREATE PROCEDURE complete_2(IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_results LONGTEXT CHARACTER SET utf8mb4)
SQL SECURITY INVOKER
BEGIN
    DECLARE v_now DOUBLE;
    DECLARE v_parked, v_offered BIGINT DEFAULT 0;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    CALL fence_1(p_node, p_epoch);
    SELECT COUNT(runs.wake_at) INTO v_parked
        FROM JSON_TABLE(p_results, '$[*]' COLUMNS (r VARCHAR(255) PATH '$.r')) AS given
        STRAIGHT_JOIN runs FORCE INDEX (PRIMARY) ON runs.run_id = CAST(given.r AS BINARY) FOR UPDATE;
    SELECT COUNT(ready.delivery) INTO v_offered
        FROM JSON_TABLE(p_results, '$[*]' COLUMNS (k VARCHAR(1024) PATH '$.k')) AS given
        STRAIGHT_JOIN ready FORCE INDEX (PRIMARY) ON ready.`key` = CAST(given.k AS BINARY) FOR UPDATE;
    SELECT seconds INTO v_now FROM clock;
    INSERT INTO inbox (run_id, kind, payload)
        SELECT runs.run_id, given.i, given.o
        FROM JSON_TABLE(p_results, '$[*]' COLUMNS (
            k VARCHAR(1024) PATH '$.k', d INT PATH '$.d', i VARCHAR(1100) PATH '$.i', o LONGTEXT PATH '$.o')) AS given
        STRAIGHT_JOIN ready FORCE INDEX (PRIMARY) ON ready.`key` = CAST(given.k AS BINARY) AND ready.delivery = given.d
            AND ready.worker = p_node AND ready.worker_epoch = p_epoch
        STRAIGHT_JOIN runs FORCE INDEX (PRIMARY) ON runs.run_id = ready.run_id
        WHERE runs.ended_at IS NULL;
    IF v_parked > 0 THEN
        UPDATE JSON_TABLE(p_results, '$[*]' COLUMNS (k VARCHAR(1024) PATH '$.k', d INT PATH '$.d')) AS given
            STRAIGHT_JOIN ready FORCE INDEX (PRIMARY) ON ready.`key` = CAST(given.k AS BINARY) AND ready.delivery = given.d
                AND ready.worker = p_node AND ready.worker_epoch = p_epoch
            STRAIGHT_JOIN runs FORCE INDEX (PRIMARY) ON runs.run_id = ready.run_id
            SET runs.wake_at = NULL;
    END IF;
    SELECT given.n, COALESCE(nodes.bell, '')
        FROM JSON_TABLE(p_results, '$[*]' COLUMNS (n INT PATH '$.n', k VARCHAR(1024) PATH '$.k', d INT PATH '$.d')) AS given
        STRAIGHT_JOIN ready FORCE INDEX (PRIMARY) ON ready.`key` = CAST(given.k AS BINARY) AND ready.delivery = given.d
            AND ready.worker = p_node AND ready.worker_epoch = p_epoch
        STRAIGHT_JOIN runs FORCE INDEX (PRIMARY) ON runs.run_id = ready.run_id
        LEFT JOIN leases ON leases.node = runs.owner AND leases.expires_at > v_now
        LEFT JOIN nodes ON nodes.node = leases.node
        WHERE runs.ended_at IS NULL;
    DELETE ready, ready_calls
        FROM JSON_TABLE(p_results, '$[*]' COLUMNS (k VARCHAR(1024) PATH '$.k', d INT PATH '$.d')) AS given
        STRAIGHT_JOIN ready FORCE INDEX (PRIMARY) ON ready.`key` = CAST(given.k AS BINARY) AND ready.delivery = given.d
            AND ready.worker = p_node AND ready.worker_epoch = p_epoch
        LEFT JOIN ready_calls ON ready_calls.`key` = ready.`key`;
    COMMIT;
END
;;
