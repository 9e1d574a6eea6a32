-- Which nodes wait for which runs, see contracts/wishes.py. There is a row only while somebody waits. Rows that their node or
-- their run has left behind are removed by whoever reads them.
CREATE TABLE {schema}.wishes (
    run_id text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    changes boolean NOT NULL,
    PRIMARY KEY (run_id, node)
);
