-- What database tasks returned, committed with what they wrote: see sqlite_transact. A row lives until the event that
-- tells the outcome is durable, and that commit deletes it; or as long as its run.
CREATE TABLE task_outcomes (
    run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    task TEXT NOT NULL,
    output TEXT NOT NULL,
    PRIMARY KEY (run_id, task)
) WITHOUT ROWID;
