-- Which nodes wait for which runs, see contracts/wishes.py. There is a row only while somebody waits. Rows that their node or
-- their run has left behind are removed by whoever reads them.
CREATE TABLE wishes (
    run_id TEXT NOT NULL,
    node TEXT NOT NULL,
    changes INTEGER NOT NULL,
    PRIMARY KEY (run_id, node)
) WITHOUT ROWID;
