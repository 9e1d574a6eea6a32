-- What database tasks returned, committed with what they wrote: see mysql_transact.py. The row is written first, without an
-- output: whoever runs the task again meanwhile waits for it, and a function that commits by itself leaves it behind as the
-- proof that it did. It lives until the event that tells the outcome is durable, and that commit deletes it; or as long as
-- its run. No foreign key: its lock on the run would keep the run's other tasks from being recorded.
CREATE TABLE IF NOT EXISTS task_outcomes (
    run_id VARBINARY(255) NOT NULL,
    task VARBINARY(1024) NOT NULL,
    output LONGBLOB,
    PRIMARY KEY (run_id, task)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

-- The first statement of a database task's transaction; gives whether the row is new, and the output it has. No lock on
-- the lease yet: the function may take a while, and whoever takes the lease over is not to wait for it.
DROP PROCEDURE IF EXISTS begin_task_1
;;
CREATE PROCEDURE begin_task_1(
    IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_run VARBINARY(255), IN p_task VARBINARY(1024)
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_written, v_leases, v_runs INT;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    START TRANSACTION;
    -- Not IF EXISTS (SELECT ...): within an IF, InnoDB locks what it reads.
    SELECT COUNT(*) INTO v_leases FROM nodes WHERE node = p_node AND epoch = p_epoch;
    SELECT COUNT(*) INTO v_runs FROM runs WHERE run_id = p_run AND owner = p_node;
    IF v_leases = 0 THEN
        SIGNAL SQLSTATE 'HR001' SET MESSAGE_TEXT = 'its lease was taken';
    END IF;
    IF v_runs = 0 THEN
        SIGNAL SQLSTATE 'HR001' SET MESSAGE_TEXT = 'the run is owned by another node';
    END IF;
    INSERT INTO task_outcomes (run_id, task) VALUES (p_run, p_task) ON DUPLICATE KEY UPDATE run_id = p_run;
    SET v_written = ROW_COUNT();
    SELECT v_written = 1, output FROM task_outcomes WHERE run_id = p_run AND task = p_task;
END
;;

-- The end of it, with the COMMIT. HR007: the row is not as it was left.
DROP PROCEDURE IF EXISTS finish_task_1
;;
CREATE PROCEDURE finish_task_1(
    IN p_node VARBINARY(255), IN p_epoch BIGINT, IN p_run VARBINARY(255), IN p_task VARBINARY(1024), IN p_output LONGBLOB
) SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    CALL fence_1(p_node, p_epoch);
    IF NOT EXISTS (SELECT 1 FROM runs WHERE run_id = p_run AND owner = p_node) THEN
        SIGNAL SQLSTATE 'HR001' SET MESSAGE_TEXT = 'the run is owned by another node';
    END IF;
    UPDATE task_outcomes SET output = p_output WHERE run_id = p_run AND task = p_task AND output IS NULL;
    IF ROW_COUNT() <> 1 THEN
        SIGNAL SQLSTATE 'HR007' SET MESSAGE_TEXT = 'the row of the outcome is gone';
    END IF;
    COMMIT;
END
;;

-- As delete_runs_1, and with what database tasks of those runs have left.
DROP PROCEDURE IF EXISTS delete_runs_2
;;
CREATE PROCEDURE delete_runs_2(
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
        DELETE FROM task_outcomes WHERE run_id = v_run;
        INSERT INTO deleted_runs (run_id) VALUES (v_run) ON DUPLICATE KEY UPDATE run_id = v_run;
        SET v_gone = CONCAT(v_gone, ',', HEX(v_run));
        SET v_done = 0;
    END LOOP;
    CLOSE v_old;
    COMMIT;
    SELECT v_gone;
END
;;
