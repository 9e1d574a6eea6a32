-- Which nodes wait for which runs, see contracts/wishes.py. There is a row only while somebody waits. Rows that their node or
-- their run has left behind are removed by whoever reads them.
CREATE TABLE IF NOT EXISTS wishes (
    run_id VARBINARY(255) NOT NULL,
    node VARBINARY(255) NOT NULL,
    changes TINYINT NOT NULL,
    PRIMARY KEY (run_id, node)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;
