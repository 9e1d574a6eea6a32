-- Schedules, see contracts/schedules.py. The document is core/schedules.py's; wake_at says when the leader looks at it.
CREATE TABLE IF NOT EXISTS schedules (
    name VARBINARY(255) NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL,
    wake_at DOUBLE,
    data LONGBLOB NOT NULL,
    KEY schedules_by_wake (wake_at, name)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

-- Gives whether the row followed from the one that was there; revision 1 adds it. A row that is there is locked by its key:
-- an INSERT that fails would lock what is beside it.
DROP PROCEDURE IF EXISTS put_schedule_1
;;
CREATE PROCEDURE put_schedule_1(IN p_name VARBINARY(255), IN p_revision BIGINT, IN p_wake DOUBLE, IN p_data LONGBLOB)
SQL SECURITY INVOKER
BEGIN
    DECLARE v_written BIGINT;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    IF p_revision = 1 THEN
        INSERT INTO schedules (name, revision, wake_at, data) VALUES (p_name, 1, p_wake, p_data)
            ON DUPLICATE KEY UPDATE name = schedules.name;
    ELSE
        UPDATE schedules SET revision = p_revision, wake_at = p_wake, data = p_data
            WHERE name = p_name AND revision = p_revision - 1;
    END IF;
    SET v_written = ROW_COUNT();
    COMMIT;
    SELECT v_written = 1;
END
;;

DROP PROCEDURE IF EXISTS remove_schedule_1
;;
CREATE PROCEDURE remove_schedule_1(IN p_name VARBINARY(255)) SQL SECURITY INVOKER
BEGIN
    DECLARE v_written BIGINT;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    DELETE FROM schedules WHERE name = p_name;
    SET v_written = ROW_COUNT();
    COMMIT;
    SELECT v_written = 1;
END
;;

-- Within a flush, after begin_1. HR007: the schedule has another revision, and nothing is to be stored.
DROP PROCEDURE IF EXISTS fire_schedule_1
;;
CREATE PROCEDURE fire_schedule_1(
    IN p_authority VARBINARY(255), IN p_term BIGINT, IN p_name VARBINARY(255), IN p_revision BIGINT, IN p_wake DOUBLE,
    IN p_data LONGBLOB
) SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    CALL check_term_1(p_authority, p_term);
    UPDATE schedules SET revision = p_revision, wake_at = p_wake, data = p_data
        WHERE name = p_name AND revision = p_revision - 1;
    IF ROW_COUNT() <> 1 THEN
        SIGNAL SQLSTATE 'HR007' SET MESSAGE_TEXT = 'the schedule was changed';
    END IF;
END
;;
