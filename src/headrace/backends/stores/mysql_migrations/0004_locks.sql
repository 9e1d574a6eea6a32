-- Locks: see headrace.contracts.locks. The counter of epochs, which gives the tokens, puts all claims in one order.

-- Gives the token (0: not yours), the node that has it, how many are ahead, and in how many seconds it falls free.
DROP PROCEDURE IF EXISTS take_lock_1
;;
CREATE PROCEDURE take_lock_1(
    IN p_name VARBINARY(1024), IN p_holder VARBINARY(255), IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_ttl DOUBLE,
    IN p_queue INT, IN p_place_seconds DOUBLE
) SQL SECURITY INVOKER
take: BEGIN
    DECLARE v_now, v_lease DOUBLE;
    DECLARE v_end DOUBLE DEFAULT 0;
    DECLARE v_number, v_token, v_epoch, v_mine BIGINT;
    DECLARE v_holder, v_node VARBINARY(255);
    DECLARE v_ahead BIGINT DEFAULT 0;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    IF p_queue = 0 THEN  -- a campaign that finds a leader writes nothing and waits for nobody
        SELECT seconds INTO v_now FROM clock;
        SELECT locks.node, LEAST(lock_ends.expires_at, COALESCE(leases.expires_at, 0)) INTO v_node, v_end
            FROM locks JOIN lock_ends ON lock_ends.name = locks.name
            LEFT JOIN leases ON leases.node = locks.node AND leases.epoch = locks.epoch
            WHERE locks.name = p_name AND locks.holder <> p_holder;
        IF v_end > v_now THEN
            SELECT 0, v_node, 0, v_end - v_now;
            LEAVE take;
        END IF;
    END IF;
    START TRANSACTION;
    UPDATE counters SET value = value + 1 WHERE name = 'epochs';
    SELECT value INTO v_number FROM counters WHERE name = 'epochs';
    CALL fence_1(p_node, p_epoch);
    SELECT seconds INTO v_now FROM clock;
    SET v_end = 0, v_node = NULL;
    SELECT token, holder, node, epoch INTO v_token, v_holder, v_node, v_epoch FROM locks WHERE name = p_name;
    IF v_token IS NOT NULL AND v_holder = p_holder THEN
        UPDATE lock_ends SET expires_at = v_now + p_ttl WHERE name = p_name;
        COMMIT;
        SELECT v_token, '', 0, 0e0;
        LEAVE take;
    END IF;
    IF v_token IS NOT NULL THEN
        SELECT expires_at INTO v_end FROM lock_ends WHERE name = p_name FOR UPDATE;
        SELECT expires_at INTO v_lease FROM leases WHERE node = v_node AND epoch = v_epoch;
        SET v_end = LEAST(v_end, COALESCE(v_lease, 0));
        IF v_end <= v_now THEN
            DELETE FROM locks WHERE name = p_name;
            DELETE FROM lock_ends WHERE name = p_name;
            SET v_token = NULL;
        END IF;
    END IF;
    DELETE lock_waiters FROM lock_waiters
        LEFT JOIN leases ON leases.node = lock_waiters.node AND leases.epoch = lock_waiters.epoch
        WHERE lock_waiters.name = p_name
          AND LEAST(lock_waiters.expires_at, COALESCE(leases.expires_at, 0)) <= v_now;
    SELECT number INTO v_mine FROM lock_waiters WHERE name = p_name AND holder = p_holder;
    SELECT COUNT(*) INTO v_ahead FROM lock_waiters WHERE name = p_name AND (v_mine IS NULL OR number < v_mine);
    IF v_token IS NULL AND v_ahead = 0
            AND EXISTS (SELECT 1 FROM leases WHERE node = p_node AND epoch = p_epoch AND expires_at > v_now) THEN
        DELETE FROM lock_waiters WHERE name = p_name AND number = v_mine;
        INSERT INTO locks (name, token, holder, node, epoch, taken_at)
            VALUES (p_name, v_number, p_holder, p_node, p_epoch, v_now);
        INSERT INTO lock_ends (name, token, expires_at) VALUES (p_name, v_number, v_now + p_ttl);
        COMMIT;
        SELECT v_number, '', 0, 0e0;
        LEAVE take;
    END IF;
    IF v_mine IS NOT NULL THEN
        UPDATE lock_waiters SET expires_at = v_now + p_place_seconds WHERE name = p_name AND number = v_mine;
    ELSEIF p_queue = 1 THEN
        INSERT INTO lock_waiters (name, number, holder, node, epoch, expires_at)
            VALUES (p_name, v_number, p_holder, p_node, p_epoch, v_now + p_place_seconds);
    END IF;
    COMMIT;
    SELECT 0, IF(v_token IS NULL, '', v_node), v_ahead, IF(v_token IS NULL, 0e0, v_end - v_now);
END
;;

-- p_renewals: p place, n name, h holder, t token, s seconds. Gives the places of those that are still held.
DROP PROCEDURE IF EXISTS renew_locks_1
;;
CREATE PROCEDURE renew_locks_1(IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_renewals LONGTEXT CHARACTER SET utf8mb4)
SQL SECURITY INVOKER
BEGIN
    DECLARE v_now DOUBLE;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    SELECT seconds INTO v_now FROM clock;
    IF EXISTS (SELECT 1 FROM leases WHERE node = p_node AND epoch = p_epoch) THEN
        UPDATE JSON_TABLE(p_renewals, '$[*]' COLUMNS (n VARCHAR(1024) PATH '$.n', t BIGINT PATH '$.t', s DOUBLE PATH '$.s'))
            AS given
            STRAIGHT_JOIN lock_ends FORCE INDEX (PRIMARY) ON lock_ends.name = CAST(given.n AS BINARY)
            SET lock_ends.expires_at = v_now + given.s WHERE lock_ends.token = given.t;
        SELECT given.p FROM JSON_TABLE(p_renewals, '$[*]' COLUMNS (
                p INT PATH '$.p', n VARCHAR(1024) PATH '$.n', h VARCHAR(255) PATH '$.h', t BIGINT PATH '$.t')) AS given
            STRAIGHT_JOIN lock_ends ON lock_ends.name = CAST(given.n AS BINARY) AND lock_ends.token = given.t
            STRAIGHT_JOIN locks ON locks.name = lock_ends.name AND locks.token = given.t
                AND locks.holder = CAST(given.h AS BINARY);
    END IF;
    COMMIT;
END
;;

-- Gives the bell of the node that is next, or ''.
DROP PROCEDURE IF EXISTS release_lock_1
;;
CREATE PROCEDURE release_lock_1(IN p_name VARBINARY(1024), IN p_holder VARBINARY(255)) SQL SECURITY INVOKER
BEGIN
    DECLARE v_now DOUBLE;
    DECLARE v_number BIGINT;
    DECLARE v_bell LONGBLOB DEFAULT '';
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    SELECT value INTO v_number FROM counters WHERE name = 'epochs' FOR UPDATE;
    SELECT seconds INTO v_now FROM clock;
    DELETE FROM lock_waiters WHERE name = p_name AND holder = p_holder;
    IF EXISTS (SELECT 1 FROM locks WHERE name = p_name AND holder = p_holder) THEN
        DELETE FROM locks WHERE name = p_name;
        DELETE FROM lock_ends WHERE name = p_name;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM locks WHERE name = p_name) THEN
        SELECT nodes.bell INTO v_bell FROM lock_waiters
            JOIN nodes ON nodes.node = lock_waiters.node
            JOIN leases ON leases.node = lock_waiters.node AND leases.epoch = lock_waiters.epoch
            WHERE lock_waiters.name = p_name AND LEAST(lock_waiters.expires_at, leases.expires_at) > v_now
            ORDER BY lock_waiters.number LIMIT 1;
    END IF;
    COMMIT;
    SELECT v_bell;
END
;;
