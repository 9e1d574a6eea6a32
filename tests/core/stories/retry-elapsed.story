# No attempt begins later than `elapsed` seconds after the task was first ready, however many are left.
tasks:
  a: {retries: {attempts: 100, backoff: fixed, initial: 10, jitter: none, elapsed: 25}}
====
start
    1 run.created
    owed: launch a#1
at +2s
    nothing follows
a fails ValueError
    2 attempt.failed a #1 retry_at=12.0 failure=ValueError
    owed: launch a#2 at 12s
at +10s
    nothing follows
a fails ValueError
    3 attempt.failed a #2 retry_at=22.0 failure=ValueError
    owed: launch a#3 at 22s
at +10s
    nothing follows
a fails ValueError
    4 task.failed a #3 failure=ValueError
    5 run.finished state="failed" failed_task="a" failure=ValueError
    owed: nothing
